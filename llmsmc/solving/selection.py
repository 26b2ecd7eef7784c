"""Rules that select one answer of a posterior.

| rule | the answer of |
| --- | --- |
| mode | the largest probability: a vote with the weights |
| majority | most particles that have a weight at all: a vote without the weights |
| argmax | the particle with the highest score under the reward model, as the paper's code does |
| sample | one particle, drawn by the weights with the seed of the run |

`mode` loses least where every wrong answer is as bad as any other; `argmax` uses the scores twice,
since the weights contain them already. Ties are won by the first particle.
"""

from collections import Counter
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.checks import require_choice
from llmsmc.models.rewards.aggregation import aggregation
from llmsmc.results import summary
from llmsmc.results.estimates import NO_ANSWER, answer_labels
from llmsmc.results.posterior import Posterior
from llmsmc.solving.settings import SELECTIONS


def selected_answers(posterior: Posterior, aggregated: Any = "product") -> dict[str, str | None]:
    """Return the answer by each rule, `{rule: answer}`; None where there is none.

    Args:
        posterior: of a model of text.
        aggregated: the aggregation that makes one score of the scores of the steps.
    """
    if summary.is_dead(posterior):
        return dict.fromkeys(SELECTIONS)
    labels = answer_labels(posterior.particles)
    alive = (posterior.normalized_weights > 0).tolist()
    votes = Counter(
        label for label, counts in zip(labels, alive, strict=True) if counts and label != NO_ANSWER
    )
    best = int(_log_scores(posterior, aggregated).argmax())
    generator = torch.Generator().manual_seed(posterior.seed % 2**63)
    drawn = int(posterior.normalized_weights.multinomial(1, generator=generator))
    found = {
        "mode": summary.leading_answer(summary.answer_estimates(posterior)),
        "majority": votes.most_common(1)[0][0] if votes else None,
        "argmax": labels[best],
        "sample": labels[drawn],
    }
    return {rule: None if answer == NO_ANSWER else answer for rule, answer in found.items()}


def select_answer(
    posterior: Posterior, rule: str = "mode", aggregated: Any = "product"
) -> str | None:
    """Return the answer of a posterior by a rule.

    Raises:
        InputError: there is no such rule.
    """
    require_choice("selection", rule, SELECTIONS)
    return selected_answers(posterior, aggregated)[rule]


def _log_scores(posterior: Posterior, aggregated: Any) -> Float64[Tensor, " N"]:
    """Return the log of the score of each particle; its weight, where none has been scored."""
    particles, dead = posterior.particles, ~(posterior.normalized_weights > 0)
    scores = posterior.log_weights
    log_odds = getattr(particles, "log_odds", None)
    if log_odds is not None and not bool(log_odds.isnan().all()):
        counted = torch.arange(log_odds.shape[1]) < particles.num_steps[:, None]
        counted &= ~log_odds.isnan()
        scores = aggregation(aggregated).log_score(log_odds, counted)
    return scores.masked_fill(dead, -torch.inf)
