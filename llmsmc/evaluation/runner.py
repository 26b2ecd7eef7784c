"""Running an algorithm over a set of questions: a result for each, and their figures."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from llmsmc.core.cost import Cost, clock, kind_of
from llmsmc.errors import DegenerateWeightsError, ServerError
from llmsmc.evaluation.datasets import Example
from llmsmc.grading.grades import NOT_COMPARED, grade
from llmsmc.inference import Algorithm
from llmsmc.models.batching.scheduler import run_together
from llmsmc.results import summary
from llmsmc.results.estimates import NO_ANSWER, answer_labels
from llmsmc.results.posterior import Posterior
from llmsmc.solving.loading import shared
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import answered, reasoning

_QUANTILE: Final = 1.959964  # of the normal law, 97.5 %

Result = dict[str, Any]
"""The record of one question, as written into a JSON file."""

Run = Callable[[Example, int], Posterior]
"""Runs the algorithm on an example with a seed."""


def runner(
    models: Settings, algorithm: Algorithm, in_flight: int = 1, tokens_meanwhile: int = 0
) -> Run:
    """Return the function that runs the algorithm on an example.

    Args:
        models: the settings, with models that are loaded.
        algorithm: how to solve it.
        in_flight: the number of examples in flight at a time; several share the models.
        tokens_meanwhile: the number of tokens drawn for other examples while steps are scored.

    Raises:
        InputError: the policy does not take the system prompt, so that all examples would fail.
    """
    if models.system is not None and not isinstance(models.policy, str | Path):
        _ = models.policy.prompt_ids("What is 1 + 1?", models.system, models.thinking)
    if in_flight > 1:
        models = shared(models, tokens_meanwhile)

    def run(example: Example, seed: int) -> Posterior:
        model = reasoning(example.question, models, algorithm)
        posterior = answered(algorithm.run(model, seed=seed), models, model)
        said = {"independent_draws": algorithm.independent_draws}
        return replace(posterior, metadata=posterior.metadata | said)

    return run


def evaluate_missing(
    examples: Sequence[Example], run: Run, seed: int, in_flight: int, done: Collection[str]
) -> Iterator[Result]:
    """Yield the result of each example that is not done, as they come.

    What is done is never run again. Results of a batch may differ in their last bits from those of
    another batch, and an evaluation of several examples at a time that was interrupted has other
    batches. Their law is the same; with one example at a time, so are the bits.

    Raises:
        ServerError: a server is down, so that no example can be run any more.
    """
    missing = [each for each in examples if each.id not in done]
    if in_flight > 1:
        return evaluate_together(missing, run, seed, in_flight)
    return evaluate_each(missing, run, seed)


def evaluate_each(examples: Iterable[Example], run: Run, seed: int) -> Iterator[Result]:
    """Yield the result of each example; one that fails counts as wrong.

    Raises:
        ServerError: a server is down, so that no example can be run any more.
    """
    for example in examples:
        yield result_of(example, run, seed_of(seed, example.id))


def evaluate_together(
    examples: Sequence[Example], run: Run, seed: int, in_flight: int
) -> Iterator[Result]:
    """Yield the result of each example, as they come; several run at a time.

    The next one begins as soon as any of those under way has ended.
    """
    tasks = [partial(result_of, each, run, seed_of(seed, each.id)) for each in examples]
    for _, result in run_together(tasks, in_flight):
        if isinstance(result, Exception):
            raise result
        yield result


def seed_of(seed: int, example_id: str) -> int:
    """Return the seed of an example, which depends neither on its place nor on the others."""
    digest = hashlib.blake2b(f"{seed}/{example_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def result_of(example: Example, run: Run, seed: int) -> Result:
    """Return the result of one example, with the error if there was one."""
    started = clock()
    posterior: Posterior | None = None
    error = None
    try:
        posterior = run(example, seed)
    except DegenerateWeightsError as failure:
        posterior, error = failure.posterior, _line(failure)
    except ServerError as failure:
        if failure.is_down:
            raise
        error = _line(failure)
    except Exception as failure:  # whatever it is, the other questions can still be asked
        error = _line(failure)
    result = asdict(example) | {"reference": example.answer, "seed": seed}
    result |= {"answer": None, "correct": False, "grading": None, "probability": 0.0}
    result |= {"probability_correct": 0.0, "selected": {}}
    result |= {"log_evidence": None, "truncated": None, "num_steps": None, "num_particles": None}
    result |= {"num_right": None, "independent_draws": None}
    result |= {"why_no_answer": None, "no_answer": None}
    if posterior is not None:
        result |= _graded(example, posterior)
    cost = Cost() if posterior is None else posterior.cost
    seconds = clock() - started if posterior is None else cost.seconds
    return result | {"seconds": seconds, "cost": asdict(cost), "error": error}


def _graded(example: Example, posterior: Posterior) -> Result:
    estimates = summary.answer_estimates(posterior)
    answer = summary.leading_answer(estimates)
    selected = posterior.metadata.get("selected", {})
    if selected:
        answer = selected[posterior.metadata["selection"]]
    labels = answer_labels(posterior.particles)
    given = {label for label in labels if label != NO_ANSWER}
    verdicts = {each: grade(each, example.answer) for each in {answer, *selected.values(), *given}}
    right = {each for each in given if verdicts[each] == "right"}
    causes: list[str | None] | None = posterior.metadata.get("why_no_answer")
    cause = causes[selected_solution(posterior)] if causes and answer is None else None
    return {
        "answer": answer,
        "correct": verdicts[answer] == "right",
        "grading": verdicts[answer],
        "probability": math.fsum(e.probability for e in estimates if e.answer == answer),
        "selected": {rule: verdicts[each] == "right" for rule, each in selected.items()},
        "probability_correct": math.fsum(e.probability for e in estimates if e.answer in right),
        "num_right": sum(label in right for label in labels),
        "independent_draws": posterior.metadata.get("independent_draws"),
        "why_no_answer": cause,
        "no_answer": None if causes is None else dict(Counter(filter(None, causes))),
        "log_evidence": posterior.log_evidence,
        "truncated": summary.num_truncated(posterior),
        "num_steps": len(posterior.history),
        "num_particles": posterior.num_particles,
    }


def selected_solution(posterior: Posterior) -> int:
    """Return the place of the heaviest particle that has the answer of the selection rule."""
    metadata = posterior.metadata
    if "selection" in metadata:
        answer = metadata["selected"][metadata["selection"]]
    else:
        answer = summary.leading_answer(summary.answer_estimates(posterior))
    return summary.heaviest_with(posterior, answer)


def summarize(results: Sequence[Result]) -> dict[str, Any]:
    """Return the figures of all results, at least one, and of each level by itself.

    Answers that were counted as wrong without a comparison are listed as well. So are, by kind, the
    errors of questions that failed, and of single particles that failed at a server.
    """
    levels = sorted({result["level"] for result in results} - {None}, key=lambda key: str(key))
    return {
        "overall": _figures(results),
        "levels": [
            {"level": level} | _figures([each for each in results if each["level"] == level])
            for level in levels
        ],
        "errors": errors_by_kind(results),
        "failures": failures_by_kind(results),
        "not_compared": [
            {key: result[key] for key in ("id", "grading", "answer", "reference")}
            for result in results
            if result.get("grading") in NOT_COMPARED
        ],
    }


def errors_by_kind(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return the errors in results by kind, the most common kind first.

    Errors are of one kind if their messages agree up to numbers and quoted texts. Each kind has a
    count, the first message in full, and the ids of the questions.
    """
    return _by_kind((each["error"], 1, each["id"]) for each in results if each["error"] is not None)


def failures_by_kind(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return the failures of particles in results by kind, as in `errors_by_kind`."""
    return _by_kind(
        (message, count, each["id"])
        for each in results
        for message, count in each["cost"].get("failures", {}).items()
    )


def _by_kind(found: Iterable[tuple[str, int, str]]) -> list[dict[str, Any]]:
    """Group messages, each with its count and the id of its question, by kind."""
    kinds: dict[str, dict[str, Any]] = {}
    for message, count, name in found:
        kind = kinds.setdefault(kind_of(message), {"count": 0, "message": message, "ids": []})
        kind["count"] += count
        kind["ids"] += [name] * (name not in kind["ids"])
    return sorted(kinds.values(), key=lambda kind: -int(kind["count"]))


def _figures(results: Sequence[Result]) -> dict[str, Any]:
    """Return the figures of a group of results; None where there is nothing to average.

    A question that failed counts as wrong among others; if all failed, there is no accuracy.
    """
    count = len(results)
    num_errors = sum(result["error"] is not None for result in results)
    accuracy, standard_error, probability_correct, interval = None, None, None, None
    if num_errors < count:
        accuracy = fmean(bool(result["correct"]) for result in results)
        standard_error = math.sqrt(accuracy * (1 - accuracy) / count)
        interval = list(wilson_interval(accuracy, count))
        probability_correct = fmean(result["probability_correct"] for result in results)
    ran = [result for result in results if result["num_particles"]]
    return {
        "num_problems": count,
        "accuracy": accuracy,
        "standard_error": standard_error,
        "accuracy_interval": interval,
        "probability_correct": probability_correct,
        "tokens": fmean(result["cost"]["generated_tokens"] for result in results),
        "seconds": fmean(result["seconds"] for result in results),
        "truncated": fmean(each["truncated"] / each["num_particles"] for each in ran)
        if ran
        else None,
        "num_errors": num_errors,
        **_coverage(results),
        **_causes(ran),
        "num_no_answer": sum(result.get("grading") == "no answer" for result in results),
        "num_not_compared": sum(result.get("grading") in NOT_COMPARED for result in results),
    }


def _coverage(results: Sequence[Result]) -> dict[str, Any]:
    """Return how often any particle is right, and pass@k; None, or nothing, where not known.

    Of k independent draws among N, of which c are right, the share of choices with a right one is
    1 - C(N - c, k) / C(N, k), which is unbiased for pass@k (Chen et al. 2021, arXiv 2107.03374,
    equation 1). It is averaged over the questions; one that failed counts as wrong. Powers of two
    are taken for k, and the smallest number of particles.
    """
    ran = [result for result in results if result["num_particles"]]
    found: dict[str, Any] = {"coverage": None, "coverage_standard_error": None, "pass_at_k": []}
    if not ran or any(result.get("num_right") is None for result in ran):
        return found
    counts = [(each["num_right"], each["num_particles"]) for each in ran]
    zeros = [0.0] * (len(results) - len(ran))
    coverage = _mean_and_error([float(right > 0) for right, _ in counts] + zeros)
    found["coverage"], found["coverage_standard_error"] = coverage
    if not all(result.get("independent_draws") for result in ran):
        return found
    most = min(count for _, count in counts)
    for k in sorted({2**power for power in range(most.bit_length())} | {most}):
        shares = [pass_at_k(count, right, k) for right, count in counts]
        estimate, error = _mean_and_error(shares + zeros)
        found["pass_at_k"].append({"k": k, "estimate": estimate, "standard_error": error})
    return found


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a probability, of which `count` outcomes show a share.

    It is no point where the share is 0 or 1. For shares of outcomes between 0 and 1 it is on the
    safe side.

    Reference: Wilson (1927). Probable inference, the law of succession, and statistical inference.
    """
    squared = _QUANTILE**2 / count
    centre = (share + squared / 2) / (1 + squared)
    half = math.sqrt(share * (1 - share) * squared + squared**2 / 4) / (1 + squared)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def pass_at_k(count: int, right: int, k: int) -> float:
    """Return how probable it is that one of `k` among `count` solutions is right.

    Of n solutions of which c are right, it is 1 - C(n - c, k) / C(n, k), on average over all
    choices.

    Reference: Chen et al. (2021). Evaluating large language models trained on code. arXiv
    2107.03374, equation 1.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 1, 4), pass_at_k(4, 0, 4)
    (0.25, 0.5, 1.0, 0.0)
    """
    return 1 - math.comb(count - right, k) / math.comb(count, k)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over questions and its standard error."""
    mean = fmean(values)
    return mean, math.sqrt(fmean((value - mean) ** 2 for value in values) / len(values))


def _causes(ran: Sequence[Result]) -> dict[str, Any]:
    """Return why questions, and why single solutions, have no answer, the commonest cause first."""
    known = [result for result in ran if result.get("no_answer") is not None]
    questions = Counter(each["why_no_answer"] for each in known if each.get("why_no_answer"))
    solutions = Counter[str]()
    for result in known:
        solutions.update(result["no_answer"])
    return {
        "no_answer": [
            {"cause": cause, "questions": questions[cause], "solutions": count}
            for cause, count in solutions.most_common()
        ],
        "num_solutions": sum(result["num_particles"] for result in known),
    }


def _line(error: Exception) -> str:
    """Return the error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
