"""Graders of answers on one table of pairs: what each takes wrongly, and what it refuses wrongly."""
