"""Ablations: grids of algorithms, models and settings, run, compared and reported.

A plan (`plan.py`) is read from a small TOML file (`reading.py`); the plans of the paper are in
`plans/`. Its cells are run on the same problems with the same seeds (`study.py`, `work.py`,
`processes.py`, `store.py`), reported with errors over problems (`figures.py`, `comparing.py`,
`report.py`), and shown (`drawing.py`, `page.py`).
"""
