"""The tasks of all contenders: models, problems, particles and limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.embedded import questions_of
from benchmarks.engine.random_model import random_model
from llmsmc.models.pretrained.loading import resolve

WARM_UP: Final = {"particles": 2, "max_steps": 2}
"""The task that is done once before the measurements."""


@dataclass(frozen=True)
class Setup:
    """The models.

    Attributes:
        name: in the tables.
        policy: the folder of the language model.
        dtype: its precision.
        quantization: how its weights are quantised.
        step_tokens: tokens of a step; None where a blank line ends it.
        max_steps: steps after which everybody stops.
        max_tokens_per_step: tokens after which a step is cut off.
        max_tokens: the same for plain generation, which knows no steps.
    """

    name: str
    policy: str
    dtype: str = "float32"
    quantization: str | None = None
    step_tokens: int | None = None
    max_steps: int = 40
    max_tokens_per_step: int = 128
    max_tokens: int = 1024

    @property
    def models(self) -> dict[str, Any]:
        """The settings with which a contender loads its models."""
        return {
            "policy": self.policy,
            "reward": resolve("minimath-reward"),
            "dtype": self.dtype,
            "quantization": self.quantization,
        }


@dataclass(frozen=True)
class Case:
    """The problems that are solved, and the limits.

    Attributes:
        setup: with which models.
        level: of the problems.
        particles: how many.
        problems: of which so many are taken, unless time runs out before.
    """

    setup: Setup
    level: int
    particles: int
    problems: int

    @property
    def key(self) -> dict[str, Any]:
        """The case as it is recorded."""
        return {
            "setup": self.setup.name,
            "level": self.level,
            "particles": self.particles,
            "problems": self.problems,
        }

    def task(self, seed: int, seconds: float) -> dict[str, Any]:
        """Return the task of a contender."""
        return {
            "questions": questions_of(self.level, self.problems),
            "particles": self.particles,
            "seed": seed,
            "seconds": seconds,
            "step_tokens": self.setup.step_tokens,
            "max_steps": self.setup.max_steps,
            "max_tokens_per_step": self.setup.max_tokens_per_step,
            "max_tokens": self.setup.max_tokens,
        }


def minimath(particles: Sequence[int], levels: Sequence[int], problems: int) -> list[Case]:
    """Return the cases with the embedded models."""
    setup = Setup("minimath", resolve("minimath-policy"))
    return [Case(setup, level, count, problems) for level in levels for count in particles]


def random_weights(folder: Path, particles: Sequence[int]) -> list[Case]:
    """Return the cases with a larger model of random weights, in two precisions."""
    policy = str(random_model(folder))
    limits: dict[str, Any] = {
        "step_tokens": 16,
        "max_steps": 4,
        "max_tokens_per_step": 16,
        "max_tokens": 64,
    }
    setups = [
        Setup("150M, bf16", policy, "bfloat16", **limits),
        Setup("150M, nf4", policy, "bfloat16", "nf4", **limits),
    ]
    return [Case(setup, 3, count, 1) for setup in setups for count in particles]
