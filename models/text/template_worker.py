"""A process in which chat templates are rendered: requests in as lines of JSON, one line out each.

* `["render", seconds, template, messages, settings]`, the last two as JSON: `["text", ...]` with
  what the template makes of a chat, `["error", ...]` with why it makes nothing, or
  `["characters", ...]` with how many there are, where they are too many to be sent.

A template is a program by whoever made the checkpoint. The sandbox of Jinja keeps it from reading
files, not from looping, nor from the work of a single expression (`10 ** 10 ** 10`, which is
computed when it is compiled); only the end of a process ends that.

Run as a script, never imported by the library: see `worker_pool.py`.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Any

MEMORY_BYTES = 2**29  # beyond what the imports take
MAX_CHARACTERS = 2**22


def limit_memory() -> None:
    """Bound what the address space may grow by, where the platform can and says how large it is."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
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
    from transformers.utils.chat_template_utils import render_jinja_template

    limit_memory()

    def respond(template: str, messages: str, settings: str) -> tuple[str, str | int]:
        try:
            rendered: Any = render_jinja_template(
                conversations=[json.loads(messages)],
                chat_template=template,
                **json.loads(settings),
            )
            text = str(rendered[0][0])
        except Exception as error:
            return "error", f"{type(error).__name__}: {error}"[:1000]
        if len(text) > MAX_CHARACTERS:
            return "characters", len(text)
        return "text", text

    print("ready", flush=True)
    for line in sys.stdin:
        _, seconds, template, messages, settings = json.loads(line)
        limit_time(seconds)
        answer = respond(template, messages, settings)
        limit_time(0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
