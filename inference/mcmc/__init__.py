"""Markov chains over paths and parameters."""
