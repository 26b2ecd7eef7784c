"""Ablations: grids of algorithms, models and settings, run, compared and reported.

A plan (`plan.py`) is a small TOML file; those of the paper are in `plans/`. Its cells are run on
the same problems with the same seeds (`work.py`, `processes.py`), reported with errors over
problems (`figures.py`, `comparing.py`, `report.py`), and shown (`drawing.py`, `page.py`).
"""
