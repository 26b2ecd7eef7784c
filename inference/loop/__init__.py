"""How any algorithm runs: the loop, what stays the same in a run, populations and their weights."""
