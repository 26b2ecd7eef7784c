"""One program a contender. Each knows its own library, and `worker` measures it."""
