"""Training of the embedded models from scratch: data, loop, recipes."""
