"""Reasoning as a state-space model: solutions, how they are written, scored and ended."""
