"""Baselines and search: what is not inference of the posterior."""
