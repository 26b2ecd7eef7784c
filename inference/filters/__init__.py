"""Particle filters, and tempering of whole paths."""
