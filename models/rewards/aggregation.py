r"""From the scores of the steps to the score of a solution: log A(r_1, ..., r_t).

The target of `Reasoning` is $p(x) A(r_1, \dots, r_T)^\beta$, whichever algorithm runs. Its
increment at step t telescopes, $G_t = (A(r_1, \dots, r_t) / A(r_1, \dots, r_{t-1}))^\beta$ with
$A() = 1$, so that every score counts as often as A says and not once more.

| name | A | increment |
| --- | --- | --- |
| product | the product of all r | r_t |
| last | the last r | r_t / r_(t-1) |
| min | the smallest r | min_t / min_(t-1) |
| model | the score of the whole solution, read as a single step | ratio of successive scores |

Two heuristics of the published code are kept by name, for reproduction. What they really target:

| name | A | increment | remark |
| --- | --- | --- | --- |
| odds | the product of all r / (1 - r) | r_t / (1 - r_t) | unbounded: a score near 1 decides |
| exp | the product of all exp(r) | exp(r_t) | between 1 and e: longer solutions gain |

Reference: Puri et al. (2025). A probabilistic inference approach to inference-time scaling of LLMs
using particle-based Monte Carlo methods. arXiv 2502.01618.

Shapes: N particles, K steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.nn.functional import logsigmoid

from llmsmc.models.rewards.reward import Reading
from llmsmc.registry import AGGREGATIONS

LogOdds = Float64[Tensor, "N K"]
Counted = Bool[Tensor, "N K"]
LogScores = Float64[Tensor, " N"]


@dataclass(frozen=True)
class Aggregation:
    """A way of making one score of many.

    Attributes:
        name: what users call it.
        log_score: log A for each particle, from the log-odds of its scores and which of them
            count; zero where none does.
        reading: whether a score is of one step or of the whole solution so far.
        heuristic: whether A is no probability.
        positive: whether A is zero only where a score is.
    """

    name: str
    log_score: Callable[[Tensor, Tensor], Tensor]
    reading: Reading = "steps"
    heuristic: bool = False
    positive: bool = False


def log_product(log_odds: LogOdds, counted: Counted) -> LogScores:
    """Return the log of the product of the scores: all steps are right, if independently so."""
    return torch.where(counted, logsigmoid(log_odds), 0.0).sum(1)


def log_last(log_odds: LogOdds, counted: Counted) -> LogScores:
    """Return the log of the last score that counts."""
    padded, counts = _with_certainty(log_odds, counted)
    last = torch.where(counts, torch.arange(counts.shape[1]), 0).amax(1, keepdim=True)
    return logsigmoid(padded.gather(1, last)).squeeze(1)


def log_min(log_odds: LogOdds, counted: Counted) -> LogScores:
    """Return the log of the smallest score: the solution is as good as its worst step."""
    padded, counts = _with_certainty(log_odds, counted)
    return torch.where(counts, logsigmoid(padded), 0.0).amin(1)


def log_product_of_odds(log_odds: LogOdds, counted: Counted) -> LogScores:
    """Return the sum of the log-odds; a heuristic, see the module's description."""
    return torch.where(counted, log_odds, 0.0).sum(1)


def sum_of_scores(log_odds: LogOdds, counted: Counted) -> LogScores:
    """Return the sum of the scores; a heuristic, see the module's description."""
    return torch.where(counted, log_odds.sigmoid(), 0.0).sum(1)


def _with_certainty(log_odds: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Put a score of 1 before the others: A() = 1."""
    certain = torch.full((len(log_odds), 1), torch.inf, dtype=log_odds.dtype)
    return torch.cat([certain, log_odds], 1), torch.cat([certain > 0, counted], 1)


PRODUCT: Final = Aggregation("product", log_product, positive=True)
LAST: Final = Aggregation("last", log_last, positive=True)
MIN: Final = Aggregation("min", log_min, positive=True)
MODEL: Final = Aggregation("model", log_last, reading="prefix", positive=True)
ODDS: Final = Aggregation("odds", log_product_of_odds, heuristic=True, positive=True)
EXP: Final = Aggregation("exp", sum_of_scores, heuristic=True, positive=True)


def aggregation(name: object) -> Aggregation:
    """Return the aggregation of that name (`llmsmc.registry.AGGREGATIONS`); a value unchanged.

    Raises:
        InputError: there is none of that name.
    """
    found: Aggregation = name if isinstance(name, Aggregation) else AGGREGATIONS.find(name)
    return found
