"""Several runs that share the batches of their models."""
