"""A run on one question as a JSON document: `llmsmc solve --out run.json`."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from llmsmc.core.cost import Cost
from llmsmc.core.history import StepRecord
from llmsmc.core.weights import normalize
from llmsmc.results import summary
from llmsmc.results.estimates import NO_ANSWER, answer_labels
from llmsmc.results.posterior import Posterior
from llmsmc.storage.json_files import versions
from llmsmc.storage.strict_files import FORMAT


def run_record(
    posterior: Posterior | None,
    *,
    config: dict[str, Any],
    question: str,
    seed: int,
    costs: Sequence[Cost] = (),
    loading_seconds: float = 0.0,
    problem: dict[str, Any] | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """Return the record of a run.

    Args:
        posterior: the last posterior; None if there is none.
        config: the settings.
        question: the question.
        seed: the seed.
        costs: the cost of the run up to each step.
        loading_seconds: how long the models took to load, which is not in the cost.
        problem: known facts about the question.
        error: the error that ended the run early.
    """
    record: dict[str, Any] = {
        "config": config,
        "seed": seed,
        "question": question,
        "problem": problem,
        "answers": [],
        "log_evidence": None,
        "effective_sample_size": None,
        "truncated": None,
        "guarantee": None,
        "warnings": [],
        "error": error,
        "history": [],
        "solutions": [],
        "cost": None,
        "loading_seconds": loading_seconds,
        "versions": versions(),
        "format": FORMAT,
    }
    if posterior is None:
        return record
    return record | {
        "answers": [asdict(estimate) for estimate in summary.answer_estimates(posterior)],
        "log_evidence": posterior.log_evidence,
        "effective_sample_size": posterior.effective_sample_size,
        "truncated": summary.num_truncated(posterior),
        "guarantee": posterior.guarantee,
        "warnings": summary.warnings(posterior),
        "history": history_records(posterior.history, costs),
        "solutions": solution_records(posterior),
        "cost": summary.cost_record(posterior),
    }


def history_records(
    history: Sequence[StepRecord], costs: Sequence[Cost] = ()
) -> list[dict[str, Any]]:
    """Return the record of each step, with the cost up to there where it is known."""
    records = []
    for index, step in enumerate(history):
        record: dict[str, Any] = vars(step) | {"ancestors": step.ancestors.tolist()}
        del record["merged"]
        if index < len(costs):
            record["generated_tokens"] = costs[index].generated_tokens
            record["seconds"] = costs[index].seconds
        records.append(record)
    return records


def solution_records(
    posterior: Posterior, chosen: Iterable[int] | None = None
) -> list[dict[str, Any]]:
    """Return the solutions in the order of the particles, each with its probability.

    Args:
        posterior: of a model of text.
        chosen: the places of some of the particles; by default all of them.
    """
    if summary.is_dead(posterior):
        weights = [0.0] * posterior.num_particles
    else:
        weights = normalize(posterior.log_weights).tolist()
    labels = answer_labels(posterior.particles)
    records = []
    for n in range(len(labels)) if chosen is None else chosen:
        label, particle = labels[n], posterior.particles[n]
        records.append(
            {
                "weight": weights[n],
                "log_weight": float(posterior.log_weights[n]),
                "answer": None if label == NO_ANSWER else label,
                "finish_reason": particle.finish_reason,
                "steps": list(particle.steps),
                "rewards": list(particle.rewards),
                "log_prob": particle.log_prob,
                "num_tokens": len(particle.token_ids),
            }
        )
    return records
