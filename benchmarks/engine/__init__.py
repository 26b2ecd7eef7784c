"""The speed of the engine beside other libraries, plain generation and a bare loop."""
