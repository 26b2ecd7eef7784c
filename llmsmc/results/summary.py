"""Summaries of a finished run for reports: answers, errors, costs and warnings."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from llmsmc.core.counted import agreeing, counted
from llmsmc.core.genealogy import num_surviving
from llmsmc.grading.grades import equivalent
from llmsmc.results.estimates import NO_ANSWER, WeightedParticles, answer_labels

_MAX_KINDS = 5  # of failures that a warning names
_COLLAPSED = 1.5  # an effective sample size that is as good as one particle


@dataclass(frozen=True)
class AnswerEstimate:
    """An answer, its probability, and the standard error of the probability; None if unknown."""

    answer: str
    probability: float
    standard_error: float | None


def is_dead(posterior: WeightedParticles) -> bool:
    """Return whether all particles have weight zero."""
    return posterior.effective_sample_size == 0.0


def has_spread(posterior: WeightedParticles) -> bool:
    """Return whether the population can estimate its own error.

    A single particle, or a population with all weight on one particle, cannot.
    """
    return posterior.effective_sample_size > 1.0 + 1e-9


def log_evidence_error(posterior: WeightedParticles) -> float | None:
    """Return the standard error of the log-evidence, from the genealogy; None where unknown."""
    if posterior.guarantee != "unbiased evidence" or is_dead(posterior):
        return None
    variance = posterior.log_evidence_variance
    return math.sqrt(variance) if variance >= 0 else None


def acceptance_rate(posterior: WeightedParticles) -> float | None:
    """Return the mean acceptance rate of the moves; None without moves."""
    rates = [r.acceptance_rate for r in posterior.history if r.acceptance_rate is not None]
    return sum(rates) / len(rates) if rates else None


def answer_estimates(posterior: WeightedParticles) -> list[AnswerEstimate]:
    """Return the distribution of the answer, most probable first; empty if all are dead."""
    if is_dead(posterior):
        return []
    labels = answer_labels(posterior.particles)
    probabilities = posterior.marginal(lambda particles: labels)
    errors = posterior.standard_error(lambda particles: labels)
    spread = has_spread(posterior)
    return [
        AnswerEstimate(str(answer), probability, errors[answer] if spread else None)
        for answer, probability in probabilities.items()
    ]


def leading_answer(estimates: Iterable[AnswerEstimate]) -> str | None:
    """Return the most probable of the answers that were given."""
    return next((each.answer for each in estimates if each.answer != NO_ANSWER), None)


def probability_of(reference: str, estimates: Iterable[AnswerEstimate]) -> float:
    """Return the probability of all answers that are equivalent to `reference`."""
    given = (each for each in estimates if each.answer != NO_ANSWER)
    return math.fsum(each.probability for each in given if equivalent(each.answer, reference))


def best_solution(posterior: WeightedParticles) -> Any:
    """Return the heaviest particle among those with the leading answer.

    Without any answer, the particle of largest weight.
    """
    answer = leading_answer(answer_estimates(posterior))
    return (
        posterior.best()
        if answer is None
        else posterior.particles[heaviest_with(posterior, answer)]
    )


def heaviest_with(posterior: WeightedParticles, answer: str | None) -> int:
    """Return the place of the heaviest particle with an answer; None for those without one.

    Where no particle is of that kind, the heaviest of all.
    """
    labels = answer_labels(posterior.particles)
    wanted, log_weights = NO_ANSWER if answer is None else answer, posterior.log_weights.tolist()
    indices = [n for n, label in enumerate(labels) if label == wanted]
    return max(indices or range(len(labels)), key=lambda n: log_weights[n])


def num_truncated(posterior: WeightedParticles) -> int:
    """Return how many particles were cut off before they had finished."""
    return int(posterior.truncated.sum())


def warnings(posterior: WeightedParticles) -> list[str]:
    """Return the reasons to distrust the run, in plain words."""
    found = [
        _failures(posterior),
        _truncation(posterior),
        _collapse(posterior),
        _common_ancestor(posterior),
    ]
    return [warning for warning in found if warning is not None]


def percent(probability: float) -> str:
    """Return a probability in percent; a small one is never rounded to zero."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def cost_record(posterior: WeightedParticles) -> dict[str, Any]:
    """Return the cost as a dictionary for JSON, with the seconds outside of the models."""
    cost = posterior.cost
    other = max(cost.seconds - cost.policy_seconds - cost.reward_seconds, 0.0)
    return asdict(cost) | {
        "other_seconds": other,
        "tokens_per_second": cost.generated_tokens / cost.seconds if cost.seconds > 0 else 0.0,
    }


def _truncation(posterior: WeightedParticles) -> str | None:
    count, total = num_truncated(posterior), posterior.num_particles
    if not count:
        return None
    share = ""
    if not is_dead(posterior):
        probability = float(posterior.normalized_weights[posterior.truncated].sum())
        share = f", with {probability:.1%} of the probability"
    were = agreeing(count, "was cut off before it", "were cut off before they")
    return (
        f"{count} of {counted(total, 'particle')} {were} had finished{share}: more steps "
        f"or more tokens a step would let {agreeing(count, 'it', 'them')} end."
    )


def _failures(posterior: WeightedParticles) -> str | None:
    count = posterior.cost.failed_particles
    if not count:
        return None
    times = agreeing(count, "once", f"{count} times")
    those = agreeing(count, "that particle has", "those particles have")
    they = agreeing(count, "it", "they")
    return (
        f"A server gave no usable answer {times}: {those} weight zero, and the rest stands for "
        f"all, as if failing had nothing to do with what {they} would have said."
        + "".join(f"\n  {number} x {message}" for message, number in _commonest(posterior))
    )


def _commonest(posterior: WeightedParticles) -> list[tuple[str, int]]:
    """Return the commonest failures of particles, with their counts."""
    found = posterior.cost.failures.items()
    return sorted(found, key=lambda each: -each[1])[:_MAX_KINDS]


def _collapse(posterior: WeightedParticles) -> str | None:
    """Name the steps at which the whole weight rests on about one particle."""
    if posterior.guarantee == "heuristic" or posterior.num_particles == 1:
        return None
    sizes = {record.step: record.effective_sample_size for record in posterior.history}
    steps = [step for step, size in sizes.items() if 0 < size < _COLLAPSED]
    if not steps:
        return None
    where = ", ".join(str(step + 1) for step in steps[:5]) + (", ..." if len(steps) > 5 else "")
    noun = agreeing(len(steps), "step", "steps")
    return (
        f"The effective sample size fell to about 1 at {noun} {where}: the result rests on a "
        "single particle there. More particles, or a less decisive reward, would help."
    )


def _common_ancestor(posterior: WeightedParticles) -> str | None:
    if posterior.num_particles == 1 or len(posterior.history) < 2:
        return None
    surviving = num_surviving([record.ancestors for record in posterior.history])
    if surviving[0] > 1:
        return None
    last = max(step for step, count in enumerate(surviving) if count == 1)
    return (
        f"All particles descend from a single one of step {last + 1}: what was random up to there "
        "is not in the standard errors, which are too small."
    )
