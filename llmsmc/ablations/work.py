"""Units of work: a cell with a seed on a block of problems, run in one process.

Problems of the block that have a result are not run again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch

from llmsmc.ablations.cell import Cell, unselected
from llmsmc.evaluation.datasets import Example, answers_of
from llmsmc.evaluation.runner import Result, evaluate_missing, runner
from llmsmc.inference import Algorithm
from llmsmc.solving.loading import (
    has_reward,
    load_policy,
    load_proposal,
    load_reward,
    named_key,
)
from llmsmc.solving.settings import Settings

BLOCK: Final = 25
"""Problems in a block, which are run together if several are under way."""


@dataclass(frozen=True, eq=False)
class Unit:
    """A cell, a seed, and a block of consecutive problems, some of which may be done already.

    Attributes:
        cell: the cell.
        seed: the seed of the runs.
        block: the problems.
        done: the ids of problems that have a result.
    """

    cell: Cell
    seed: int
    block: tuple[Example, ...]
    done: frozenset[str]

    @property
    def left(self) -> int:
        """How many problems are still to be run."""
        return sum(example.id not in self.done for example in self.block)

    @property
    def weight(self) -> float:
        """How long a run takes, roughly, compared with other units: for the time that is left."""
        algorithm = self.cell.algorithm
        sweeps = getattr(algorithm, "num_sweeps", 0) + getattr(algorithm, "num_warmup", 0)
        return float((getattr(algorithm, "num_particles", 1) + 8) * (1 + sweeps))


def blocks(examples: Sequence[Example]) -> Iterator[tuple[Example, ...]]:
    """Yield the blocks of a data set."""
    for start in range(0, len(examples), BLOCK):
        yield tuple(examples[start : start + BLOCK])


class Worker:
    """Runs units in a process; keeps the models of the last cell for the next one."""

    def __init__(self) -> None:
        """Start without models."""
        self._models: dict[Any, Any] = {}
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)  # processes side by side; and sums are taken in one order

    def results(self, unit: Unit) -> Iterator[Result]:
        """Yield the result of each problem of a unit that has none."""
        algorithm, in_flight = unit.cell.algorithm, unit.cell.in_flight
        models = self._loaded(unselected(unit.cell.settings), algorithm, answers_of(unit.block))
        run = runner(models, algorithm, in_flight)
        yield from evaluate_missing(unit.block, run, unit.seed, in_flight, unit.done)

    def _loaded(
        self, settings: Settings, algorithm: Algorithm, answers: dict[str, str]
    ) -> Settings:
        """Return the settings with models in place of names; models of no use now are dropped."""
        # The proposal first: a policy that cannot propose is refused before a server is asked.
        parts: dict[str, Callable[..., Any]] = {}
        parts |= {"proposal": load_proposal} if algorithm.needs_proposal else {}
        # A plan may be somebody else's: its addresses get the keys that are named for them.
        parts |= {"policy": partial(load_policy, key=named_key)}
        named = settings.named_reward
        if algorithm.needs_reward and has_reward(settings):
            parts |= {"reward": partial(load_reward, key=named_key, answers=answers)}
        wanted = {role: _model_key(role, settings) for role in parts}
        if named is not None and "reward" in wanted:
            # What a reward is made of beside the files that it names.
            policy = wanted["policy"] if named.reads_policy else None
            known = tuple(answers.items()) if named.reads_answers else None
            wanted["reward"] += (policy, known)
        self._models = {k: m for k, m in self._models.items() if k in wanted.values()}
        for role, load in parts.items():
            if wanted[role] not in self._models:
                more = {"policy": self._models[wanted["policy"]]} if role == "reward" else {}
                self._models[wanted[role]] = load(settings, **more)
        found = {role: self._models[key] for role, key in wanted.items()}
        if "reward" in found:
            found["reward_calibration"] = 1.0  # it has it
        return replace(settings, **found)


def _model_key(role: str, settings: Settings) -> Any:
    """Return the settings that decide which model is loaded; roles with equal ones share it."""
    s = settings
    limits = (s.request_seconds, s.retry_seconds, s.max_answer_bytes)
    if role == "reward":
        read = (s.reward_convention, s.reward_calibration)
        on_server = (s.reward_model, s.reward_tokenizer)
        loading = (s.reward_quantization, s.reward_device or s.device, s.dtype)
        return ("reward", s.reward_or_default, read, loading, on_server, limits)
    quantization = s.quantization if role == "policy" else s.proposal
    named = (s.policy, s.policy_revision, s.adapter, s.policy_model, s.policy_tokenizer)
    placed = (quantization or "none", s.double_quantization, s.dtype, s.device, repr(s.device_map))
    return ("language model", named, placed, limits)
