"""Resampling schemes."""
