"""Time outside the models: the cost of a particle-step with models that cost nothing.

    python -m benchmarks.overhead --out docs/figures/overhead.json

measures the bootstrap filter, resampled at every step, on two models: a state-space model that does
next to nothing, and `Reasoning` with a policy that writes ready-made steps and a reward that has
one number for each, whose own time is subtracted. The times are those of the processor. Printed are
microseconds for each particle and step, and where they go by the profiler; written down are only
parts of the limit, and the shares.
"""

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from benchmarks.stopwatch import Stopwatch
from llmsmc import StateSpaceModel
from llmsmc.core.cost import Cost
from llmsmc.inference import BootstrapFilter, systematic
from llmsmc.models import LanguageModel
from llmsmc.models.caches.rows import CacheHandle, CacheRows, padded_rows
from llmsmc.models.policies.decoding.requests import StepRequest, StepTokens
from llmsmc.models.reasoning.model import Reasoning
from llmsmc.models.rewards.reward import Memoryless, Reading, Solution, Steps
from llmsmc.models.text.stopping import STOP

PARTICLES: Final = 64
STEPS: Final = 12
STAND_IN: Final = "stand-in"  # what the models take for themselves
LIMIT: Final = 30.0
"""Microseconds for each particle and step."""
TEXTS: Final = tuple(f"So b = {n} + 4 = {n + 4}.\n\n" for n in range(10, 26))
PARTS: Final = (
    "sample_step", "score_steps", "decode", "with_texts", "codes", "scored",
    "appended", "__getitem__", "note", "systematic", "relative",
)  # fmt: skip


class Still(StateSpaceModel):
    """States that stay where they are drawn."""

    max_steps = STEPS

    def sample_initial(self, num_particles: int, *, generator: torch.Generator) -> Tensor:
        """Draw N numbers."""
        return torch.rand(num_particles, generator=generator)

    def sample_transition(self, t: int, previous: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the same states."""
        return previous

    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        """Return the states."""
        return state


class Writer:
    """A policy that writes one of a few steps, in the tokens of a real policy."""

    def __init__(self, language: LanguageModel, watch: Stopwatch) -> None:
        """Make the steps ready."""
        self._language = language
        self._rows, self._counts = padded_rows([language.tokens.encode(text) for text in TEXTS])
        self._source = torch.Generator().manual_seed(0)
        self._written = watch.timed(STAND_IN, self._step_tokens)

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the real policy."""
        return getattr(self._language, name)

    def sample_step(self, request: StepRequest) -> tuple[StepTokens, Cost]:
        """Write a step for each particle."""
        return self._written(len(request)), Cost()

    def _step_tokens(self, size: int) -> StepTokens:
        chosen = torch.randint(len(TEXTS), (size,), generator=self._source)
        nothing = torch.zeros((size, self._rows.shape[1]), dtype=torch.float64)
        stops = torch.full((size,), STOP)
        handle = CacheRows.none(size)
        return StepTokens(
            self._rows[chosen], self._counts[chosen], nothing, nothing, nothing, stops, handle
        )


class Judge(Memoryless):
    """A reward that has one number for each step."""

    name = "judge"

    def __init__(self, watch: Stopwatch) -> None:
        """Make the numbers ready."""
        self._scored = watch.timed(STAND_IN, self._scores)
        self._log_odds = {text: n / 8 - 1.0 for n, text in enumerate(TEXTS)}

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the number of each step."""
        return [self._log_odds[step] for step in steps]

    def check(self, question: str) -> None:
        """Accept any question."""

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return that all solutions fit."""
        return True

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], CacheHandle, Cost]:
        """Return the numbers of the new steps."""
        return self._scored(question, solutions), handle, Cost()

    def _scores(self, question: str, solutions: Sequence[Solution]) -> list[list[float]]:
        return [self.score(question, one.new) for one in solutions]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    watch = Stopwatch()
    writer: Any = Writer(LanguageModel.from_pretrained("minimath-policy"), watch)
    question = "Let a = 7 + 4. What is a + 1?"
    models = {
        "state-space model": Still(),
        "Reasoning": Reasoning(writer, Judge(watch), question, max_steps=STEPS),
    }
    rows = {name: measured(model, watch, arguments.runs) for name, model in models.items()}
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            name: {"of the limit": row["median"] / LIMIT, "shares": row["shares"]}
            for name, row in rows.items()
        }
        arguments.out.write_text(json.dumps(kept, indent=1) + "\n")
    print("| model | microseconds a particle-step | quartiles | of the limit |")
    print("| --- | --: | --: | --: |")
    for name, row in rows.items():
        low, high = row["quartiles"]
        print(
            f"| {name} | {row['median']:.1f} | {low:.1f} to {high:.1f} | "
            f"{row['median'] / LIMIT:.2f} |"
        )
    for name, row in rows.items():
        shares = ", ".join(f"{part} {share:.0%}" for part, share in row["shares"].items())
        print(f"\n{name}, with all that is called from there: {shares}")


def measured(model: StateSpaceModel, watch: Stopwatch, runs: int) -> dict[str, Any]:
    """Return the time of a particle-step outside the models, and its parts."""
    algorithm = BootstrapFilter(PARTICLES, systematic)
    times = []
    for seed in range(-3, runs):
        watch.seconds.clear()
        started = time.process_time()
        posterior = algorithm.run(model, seed=abs(seed))
        seconds = time.process_time() - started - watch.seconds.get(STAND_IN, 0.0)
        if seed >= 0:
            assert len(posterior.history) == STEPS
            times.append(1e6 * seconds / (PARTICLES * STEPS))
    profile = cProfile.Profile(time.process_time)
    profile.runcall(lambda: [algorithm.run(model, seed=seed) for seed in range(5)])
    return {
        "median": float(np.median(times)),
        "quartiles": np.quantile(times, [0.25, 0.75]).tolist(),
        "shares": shares(pstats.Stats(profile)),
    }


def shares(stats: Any) -> dict[str, float]:
    """Return the share of some functions in the time of a profile, with what they call."""
    found: dict[str, float] = {}
    for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items():
        if name in PARTS and ("llmsmc" in file or "benchmarks" in file):
            # Of functions of one name that call each other, the outermost
            found[name] = max(found.get(name, 0.0), cumulative / stats.total_tt)
    return {name: share for name, share in sorted(found.items(), key=lambda pair: -pair[1])}


if __name__ == "__main__":
    main()
