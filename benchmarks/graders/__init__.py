"""Graders of answers on one table: what each takes wrongly, and what it refuses wrongly."""
