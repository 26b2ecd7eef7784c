"""The parts of MiniMath problems: numbers, facts, expressions."""
