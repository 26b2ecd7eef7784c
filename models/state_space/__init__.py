"""State-space models of numbers and tables, most of them with exact answers."""
