"""The work of `llmsmc solve`, after its options have been read."""

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from llmsmc.cli import console, display
from llmsmc.cli.errors import INTERRUPTED, print_error
from llmsmc.cli.live import live_view
from llmsmc.core.cost import Cost
from llmsmc.errors import DegenerateWeightsError
from llmsmc.evaluation.run_record import run_record
from llmsmc.inference import Algorithm
from llmsmc.models import Reasoning
from llmsmc.models.minimath.checker import check_steps
from llmsmc.models.minimath.problem import Problem
from llmsmc.models.reasoning.no_answer import why_no_answer
from llmsmc.results import summary
from llmsmc.results.posterior import Posterior
from llmsmc.solving.algorithms import describe_algorithm
from llmsmc.solving.machine import Machine, machine_of, remarks_on
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import reasoning
from llmsmc.storage.json_files import write_json


@dataclass
class Run:
    """A run and its results so far.

    Attributes:
        question: the question.
        algorithm: the algorithm.
        settings: the models and their settings.
        seed: the seed.
        problem: the problem behind the question, if it is known.
        loading_seconds: the time that it took to load the models.
        machine: how the policy is computed, if it is in this process.
        remarks: what there is to know of how the models are used.
        posterior: the last posterior so far.
        costs: the cost of the run up to each step.
        model: the model of the question, once it is loaded.
    """

    question: str
    algorithm: Algorithm
    settings: Settings
    seed: int
    problem: Problem | None = None
    loading_seconds: float = 0.0
    machine: Machine | None = None
    remarks: list[str] = field(default_factory=list)
    posterior: Posterior | None = None
    costs: list[Cost] = field(default_factory=list)
    model: Reasoning | None = None

    @property
    def name(self) -> str:
        """The name of the algorithm."""
        return str(describe_algorithm(self.algorithm)["name"])

    def add(self, posterior: Posterior) -> None:
        """Take the posterior after one more step."""
        self.posterior = posterior
        self.costs.append(posterior.cost)

    def write(self, out: Path | None, error: str | None = None) -> None:
        """Write the run to a file, if there is to be one."""
        if out is not None:
            config = {"algorithm": describe_algorithm(self.algorithm)} | self.settings.config()
            record = run_record(
                self.posterior,
                config=config | {"seed": self.seed},
                question=self.question,
                seed=self.seed,
                costs=self.costs,
                loading_seconds=self.loading_seconds,
                problem=None if self.problem is None else _known(self.problem),
                error=error,
            )
            record |= {"machine": self.machine, "warnings": self.remarks + record["warnings"]}
            write_json(out, record)


def solve(run: Run, out: Path | None = None) -> None:
    """Load the models, run the algorithm, write the file and print the report."""
    if run.problem is not None:
        console.results().print(console.foreign(run.problem.question))
    started = time.perf_counter()
    with console.waiting(f"Loading {run.settings.policy}"):
        model = run.model = reasoning(run.question, run.settings, run.algorithm)
    run.machine = machine_of(model.policy, run.settings, run.algorithm)
    run.remarks = remarks_on(model.policy, run.settings)
    run.loading_seconds = time.perf_counter() - started
    try:
        _advance(run, model)
    except KeyboardInterrupt:
        run.write(out, "interrupted")
        print_error("interrupted" if out is None else f"interrupted; what there is, is in {out}")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if isinstance(error, DegenerateWeightsError) and error.posterior is not None:
            run.add(error.posterior)
        run.write(out, f"{type(error).__name__}: {error}")
        raise
    run.remarks += _rejections(run, model)
    try:
        run.write(out)
    finally:
        _print_report(run)


def _advance(run: Run, model: Reasoning) -> None:
    """Run the algorithm, and show its progress."""
    with live_view(console.progress(), run.question, run.name) as show:
        for posterior in run.algorithm.iterate(model, seed=run.seed):
            run.add(posterior)
            show(posterior)


def _rejections(run: Run, model: Reasoning) -> list[str]:
    """Say so where an algorithm has chosen among solutions that all have the score zero."""
    assert run.posterior is not None, "a run has at least one step"
    if not run.algorithm.needs_reward:
        return []
    if bool((model.log_tilt(run.posterior.particles) > -math.inf).any()):
        return []
    return [
        "Every solution was rejected: the score of each is zero. The probabilities are those of an "
        "algorithm that chooses one nevertheless, and say nothing of the answer."
    ]


def _print_report(run: Run) -> None:
    assert run.posterior is not None, "a run has at least one step"
    causes = [] if run.model is None else why_no_answer(run.model, run.posterior.particles)
    steps = summary.best_solution(run.posterior).steps
    report = display.report(
        run.posterior,
        algorithm=run.name,
        seed=run.seed,
        loading_seconds=run.loading_seconds,
        reward=run.settings.config().get("reward") if run.algorithm.needs_reward else None,
        reference=None if run.problem is None else run.problem.answer,
        machine=run.machine,
        remarks=run.remarks,
        verdicts=[] if run.problem is None else check_steps(run.problem, steps),
        causes=Counter(filter(None, causes)),
    )
    console.results().print(report)


def _known(problem: Problem) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in ("id", "family", "level", "answer")}
