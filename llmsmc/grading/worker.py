"""A process of `pool.py`: requests in as lines of JSON, one word a line out.

* `["read", seconds, text]`: "readable", "unreadable" (there is no expression in it), or "error";
* `["compare", seconds, reference, answer]`: "equal", "different" or "error".

Run as a script, never imported by the library: the process holds the computer algebra, may be
killed at any moment, and limits its own memory. A request that takes more than its seconds of
processor time ends the process, whether or not anybody waits for it: time on the processor, since
on a busy machine the clock would judge the machine and not the answer.
"""

import functools
import json
import signal
import sys
from pathlib import Path
from typing import Any

MEMORY_BYTES = 2**29


def limit_memory() -> None:
    """Bound the address space where the platform can."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def limit_time(seconds: float) -> None:
    """Let the system end the process after so much processor time, where it can; 0: no limit."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, which nothing here catches


def main() -> None:
    """Answer one line for each line read, until the input ends."""
    # As a script, its own folder comes first on the path: sibling files would hide packages.
    folder = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if str(Path(entry).resolve()) != folder]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a key pressed is for the parent
    limit_memory()
    try:
        from math_verify import parse, verify  # type: ignore[import-untyped]
    except ImportError:
        print("missing", flush=True)
        return

    @functools.lru_cache(maxsize=1024)
    def read(text: str) -> list[Any]:
        """Return the expression in a text, and the text as it was read; or nothing."""
        # The time limits of the package are signals of its own; here the process is limited.
        found: list[Any] = parse(f"\\boxed{{{text}}}", parsing_timeout=None)
        return found

    def respond(kind: str, *texts: str) -> str:
        if kind == "read":
            return "readable" if any(not isinstance(x, str) for x in read(*texts)) else "unreadable"
        gold, answer = map(read, texts)
        equal = bool(gold) and verify(gold, answer, timeout_seconds=None)
        return "equal" if equal else "different"

    print("ready", flush=True)
    for line in sys.stdin:
        kind, seconds, *texts = json.loads(line)
        limit_time(seconds)
        try:
            word = respond(kind, *texts)
        except Exception:
            word = "error"
        limit_time(0)
        print(word, flush=True)


if __name__ == "__main__":
    main()
