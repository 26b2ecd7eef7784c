"""What MiniMath problems are made of: numbers, facts, expressions."""
