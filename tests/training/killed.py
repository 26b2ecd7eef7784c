"""Train a reward, killed in each stage and taken up again: `killed.py POLICY FOLDER METHOD`.

Prints the name of each stage in which it was killed, and whether the result is that of a training
that was not, bit for bit, as one question is under way at a time. A training of a probe is killed
as well between its records and the solutions they are of, and, without its records, while solutions
are read. Everything heavy is imported once; each attempt is a process of its own.
"""

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmsmc.evaluation.datasets import Dataset, Example
from llmsmc.solving.settings import Settings
from llmsmc.training.fitting import Fit
from llmsmc.training.lines import Lines, Row
from llmsmc.training.stages import Progress, RewardTraining, run

EVENT = 2  # of its stage, at which a process is killed
ROWS = "rows"  # in place of a stage: when rows are about to be written


def training(policy: str, method: str) -> RewardTraining:
    examples = tuple(Example(f"q/{n}", f"What is {n} + 1?", str(n + 1)) for n in range(12))
    return RewardTraining(
        Settings(policy=policy, step="\n", dtype="float32"),
        Dataset("sums", "0", examples),
        num_samples=3,
        max_tokens=30,
        in_flight=2,
        labels="checker",
        checker="tests.training.checkers:short",
        method=method,
        fit=Fit(rank=2, epochs=2, batch_tokens=256, checkpoint_every=1, seed=0),
    )


def attempt(job: RewardTraining, folder: Path, stage: str | None) -> bool:
    """Train in a process of its own, killed in a stage; return whether it came to its end."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    seen = 0

    def see(is_counted: bool) -> None:
        nonlocal seen
        seen += is_counted
        if seen == EVENT:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(now: Progress) -> None:
        see(stage is not None and now.stage.startswith(stage))

    append = Lines.append

    def append_seen(self: Lines, rows: Sequence[Row]) -> None:
        see(True)
        append(self, rows)

    if stage == ROWS:
        Lines.append = append_seen  # type: ignore[method-assign]
    run(job, folder, watch=watch)
    os._exit(0)


def content(folder: Path) -> dict[str, str]:
    """Return the digests of everything that a training leaves, but for the time it began."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("config.json", ".lock")
    }


def compare(job: RewardTraining, whole: Path, broken: Path, stages: Sequence[str]) -> None:
    """Train in a folder, and in another one, killed in each of these stages."""
    assert attempt(job, whole, None)
    for stage in stages:
        print(stage, "killed" if not attempt(job, broken, stage) else "ended")
    assert attempt(job, broken, None)
    ours, theirs = content(whole), content(broken)
    differing = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    print(f"differing: {differing}" if differing else "same")


def main() -> None:
    policy, folder, method = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    job = replace(training(policy, method), in_flight=1)
    records = [ROWS] if method == "probe" else []
    stages = [*records, "samples", "labels", method, "report"]
    compare(job, folder / "whole", folder / "broken", stages)
    if method == "probe":
        for name in ("whole", "broken"):
            (folder / f"{name}-read").mkdir()
            for file in (folder / name).glob("[!s]*.json*"):
                shutil.copy(file, folder / f"{name}-read")
            shutil.copy(folder / name / "samples.jsonl", folder / f"{name}-read")
        compare(job, folder / "whole-read", folder / "broken-read", ["probe, reading"])


if __name__ == "__main__":
    main()
