r"""The particle filter of the paper's released code, for reproduction, with its defects named.

Every particle of step t is weighed by the odds of the score of its whole prefix,
$w_t \propto r / (1 - r)$ with $r = A(r_1, \dots, r_t)$, r clipped to [1e-7, 1 - 1e-7]; all are
resampled at every step by independent draws. It differs from a particle filter:

1. scores of prefixes serve as increments, so that the scores of early steps count repeatedly (with
   `product`, the score of step k counts to the power T - k + 1);
2. finished particles are weighed again at every later step, which favours short solutions;
3. after all particles have finished, one more resampling may lose the best of them;
4. with `selection="sample"` the selection uses the weights of that resampling a second time.

Its target is no named distribution, and it has no evidence: the log-evidence of the posterior is
None.

Reference: Puri et al. (2025). A probabilistic inference approach to inference-time scaling of LLMs
using particle-based Monte Carlo methods. arXiv 2502.01618, algorithm 1 and the released code.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, get_args

import torch

from llmsmc.core.checks import require_choice
from llmsmc.core.weights import log_evidence
from llmsmc.inference.loop import independent_runs
from llmsmc.inference.loop.loop import Population, Run, Stepwise, resample
from llmsmc.inference.resampling.multinomial import multinomial
from llmsmc.inference.search.best_of_n import point_mass
from llmsmc.results.estimates import Guarantee

Selection = Literal["argmax", "sample"]
"""The rule that selects the answer: the best final score, or a draw by the final weights."""

CLIP: Final = 1e-7


@dataclass(frozen=True)
class PublishedParticleFilter(Stepwise):
    """Settings of the published filter, in addition to those of `Stepwise`.

    For models that remember their path.

    Attributes:
        selection: "argmax" gives all weight to the best final score; "sample" keeps the weights.
    """

    guarantee: ClassVar[Guarantee] = "heuristic"
    has_evidence: ClassVar[bool] = False

    selection: Selection = "argmax"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_choice("selection", self.selection, get_args(Selection))

    def init(self, run: Run) -> Population:
        """Draw the initial particles and weigh them."""
        population = independent_runs.init(run, self.num_particles)
        return weighed(run, 0, population)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample, advance, and weigh all particles by their prefixes."""
        parents = resample(run, t, population, multinomial)
        extended = independent_runs.step(run, t, parents)
        return weighed(run, t, extended)

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Resample once more, and select."""
        drawn = resample(run, t + 1, population, multinomial)
        lineage = replace(drawn, ancestors=population.ancestors[drawn.ancestors])
        found = weighed(run, t, lineage)
        if self.selection == "argmax":
            return replace(found, log_weights=point_mass(found.log_weights))
        return found


def weighed(run: Run, t: int, population: Population) -> Population:
    """Weigh the particles by the normalised odds of their prefixes."""
    particles, log_likelihood = run.observe_path(t, population.particles)
    log_odds = torch.logit(log_likelihood.exp(), eps=CLIP)
    log_weights = log_odds - log_evidence(log_odds)
    return replace(population, particles=particles, log_weights=log_weights)
