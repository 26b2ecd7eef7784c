"""Train a reward, killed in each stage and taken up again: `killed.py POLICY FOLDER METHOD`.

Prints the name of each stage in which it was killed, and whether the result is that of a training
that was not. Everything heavy is imported once; each attempt is a process of its own.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

from llmsmc.evaluation.datasets import Dataset, Example
from llmsmc.solving.settings import Settings
from llmsmc.training.fitting import Fit
from llmsmc.training.stages import Progress, RewardTraining, run

EVENT = 2  # of its stage, at which a process is killed


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

    def watch(now: Progress) -> None:
        nonlocal seen
        seen += stage is not None and now.stage.startswith(stage)
        if seen == EVENT:
            os.kill(os.getpid(), signal.SIGKILL)

    run(job, folder, watch=watch)
    os._exit(0)


def content(folder: Path) -> dict[str, str]:
    """Return the digests of everything that a training leaves, but for the time it began."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("config.json", ".lock")
    }


def main() -> None:
    policy, folder, method = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    job = training(policy, method)
    assert attempt(job, folder / "whole", None)
    for stage in ("samples", "labels", method, "report"):
        print(stage, "killed" if not attempt(job, folder / "broken", stage) else "ended")
    assert attempt(job, folder / "broken", None)
    whole, broken = content(folder / "whole"), content(folder / "broken")
    differing = [name for name in whole | broken if whole.get(name) != broken.get(name)]
    print(f"differing: {differing}" if differing else "same")


if __name__ == "__main__":
    main()
