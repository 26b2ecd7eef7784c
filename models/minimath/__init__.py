"""MiniMath: a generated world of multi-step arithmetic in plain words, with an exact checker."""
