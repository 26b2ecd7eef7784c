"""What is written to disk and read back: strictly, and nothing executed."""
