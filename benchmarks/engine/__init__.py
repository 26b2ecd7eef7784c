"""How fast the engine is, beside other libraries, plain generation and a bare loop."""
