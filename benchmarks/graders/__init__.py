"""Graders of answers on one table: the wrong acceptances and refusals of each."""
