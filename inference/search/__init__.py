"""Baselines: searches and votes that do not sample the posterior."""
