"""Other libraries on instances with known answers, each in an environment of its own."""
