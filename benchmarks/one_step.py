"""The functions and files that one filter step enters, and the calls between the files.

    python -m benchmarks.one_step                   # the numbers
    python -m benchmarks.one_step --list            # and every function that is entered, by file
    python -m benchmarks.one_step --before FOLDER   # and the numbers of another checkout

The second step of a bootstrap filter with 4 particles on the embedded models is traced; the first
step compiles what is kept. Comprehensions and lambdas belong to the function in which they stand.
"""

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

NUM_PARTICLES: Final = 4
QUESTION: Final = "Compute (4 + 3) * 5 - 6 / 2."
SEED: Final = 0
FOLDERS: Final = ("llmsmc", "models", "inference")


@dataclass(frozen=True)
class Trace:
    """The functions and files that a call has entered.

    Attributes:
        calls: how often each function was entered, by its file and its qualified name.
        num_between: how many of these calls came from another file of the library.
    """

    calls: Counter[tuple[str, str]]
    num_between: int

    def __str__(self) -> str:
        """Show the numbers."""
        files = {file for file, _ in self.calls}
        return (
            f"{len(self.calls)} functions in {len(files)} files, {sum(self.calls.values())} calls, "
            f"{self.num_between} of them into another file"
        )


def trace(function: Callable[[], object], root: Path) -> Trace:
    """Call a function, and count what it enters in the files of a checkout of the library."""
    calls = Counter[tuple[str, str]]()
    folders = tuple(f"{root.resolve() / folder}{os.sep}" for folder in FOLDERS)
    files: dict[str, str | None] = {}
    num_between = 0

    def file_of(frame: FrameType) -> str | None:
        name = frame.f_code.co_filename
        if name not in files:
            path = os.path.realpath(name)
            files[name] = os.path.relpath(path, root) if path.startswith(folders) else None
        return files[name]

    def caller_of(frame: FrameType) -> str | None:
        caller = frame.f_back
        while caller is not None and file_of(caller) is None:
            caller = caller.f_back
        return None if caller is None else file_of(caller)

    def on_event(frame: FrameType, event: str, _: object) -> None:
        nonlocal num_between
        file, name = file_of(frame), frame.f_code.co_name
        if event == "call" and file is not None and not name.startswith("<"):
            calls[file, frame.f_code.co_qualname] += 1
            num_between += caller_of(frame) not in (None, file)

    sys.setprofile(on_event)
    try:
        function()
    finally:
        sys.setprofile(None)
    return Trace(calls, num_between)


def trace_step() -> Trace:
    """Trace the second step of a filter."""
    import llmsmc
    from llmsmc.inference import BootstrapFilter
    from llmsmc.models import LanguageModel, Reasoning, RewardModel

    policy = LanguageModel.from_pretrained("minimath-policy")
    reward = RewardModel.from_pretrained("minimath-reward")
    model = Reasoning(policy, reward, question=QUESTION, max_steps=12)
    steps = BootstrapFilter(NUM_PARTICLES).iterate(model, seed=SEED)
    next(steps)
    return trace(lambda: next(steps), Path(llmsmc.__file__).resolve().parents[1])


def trace_checkout(root: Path) -> str:
    """Return the numbers of another checkout, traced in a process of its own."""
    code = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    return run.stdout.splitlines()[0]


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="every function, by file")
    parser.add_argument("--before", type=Path, help="another checkout of the library")
    options = parser.parse_args()
    found = trace_step()
    print(found)
    if options.before is not None:
        print("before:", trace_checkout(options.before.resolve()))
    if options.list:
        for (file, name), count in sorted(found.calls.items()):
            print(f"{count:6d}  {file}  {name}")


if __name__ == "__main__":
    main()
