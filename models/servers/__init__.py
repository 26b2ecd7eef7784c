"""Servers that run a model: how each of them is asked, and what its answers mean."""
