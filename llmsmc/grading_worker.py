"""The process behind `grading.equivalent`: JSON pairs in, the words "equal" or "different" out.

Run as a script, never imported by the library: the process holds the computer algebra, may be
killed at any moment, and limits its own memory.
"""

import json
import sys
from pathlib import Path

MEMORY_BYTES = 4 * 2**30


def limit_memory() -> None:
    """Bound the address space where the platform can."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def main() -> None:
    """Answer one line for each line read, until the input ends."""
    # As a script, its own folder comes first on the path: sibling files would hide packages.
    folder = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if str(Path(entry).resolve()) != folder]
    limit_memory()
    try:
        from math_verify import parse, verify  # type: ignore[import-untyped]
    except ImportError:
        print("missing", flush=True)
        return
    print("ready", flush=True)
    for line in sys.stdin:
        reference, answer = json.loads(line)
        try:
            gold = parse(f"\\boxed{{{reference}}}")
            equal = bool(gold) and verify(gold, parse(f"\\boxed{{{answer}}}"))
        except Exception:
            equal = False
        print("equal" if equal else "different", flush=True)


if __name__ == "__main__":
    main()
