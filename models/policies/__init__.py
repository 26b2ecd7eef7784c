"""Language models that write steps: here, or behind a server."""
