"""Pyro programs as state-space models, and back."""
