r"""The rejection filter: each particle draws its next step until one is accepted.

$$A^n \sim \text{resample}(w_{t-1}), \qquad
x_t^{n,1}, x_t^{n,2}, \dots \sim p(\cdot \mid x_{t-1}^{A^n}), \qquad
\text{accept } x_t^{n,k} \text{ with probability } p(y_t \mid x_t^{n,k}) / c.$$

The particle becomes the first draw that is accepted, which has the law
$p(x_t \mid x_{t-1}, y_t)$. It is drawn on until a second one is accepted, at the draw $K^n$ say:
the number of draws up to the second acceptance gives an estimate of the probability of acceptance
that is without bias,

$$w_t^n = w_\text{out}^n \; \frac{c}{K^n - 1}.$$

After D draws it is over, and the weights are proper all the same: a particle of which one draw was
accepted by then has $w_\text{out}^n \, c / D$, and one of which none was has weight zero. Both are
the share of the orders of D draws, with as many acceptances, that begin with an acceptance
(Girshick, Mosteller, Savage 1946, theorem 1); and what is accepted does not depend on when it was.

With a checker that says yes or no, all living particles are right at all times, and the number of
particles that is needed does not grow with the number of steps.

References:
    1. Del Moral, Jasra, Lee, Yau, Zhang (2015). The alive particle filter and its use in particle
       Markov chain Monte Carlo.
    2. Girshick, Mosteller, Savage (1946). Unbiased estimates for certain binomial sampling problems
       with applications.
    3. Lipkin et al. (2025). Fast controlled generation from language models with adaptive weighted
       rejection sampling. arXiv 2504.05410.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import torch
from jaxtyping import Bool, Float64, Int
from torch import Generator, Tensor

from llmsmc.core.capabilities import Fails
from llmsmc.core.checks import require_count, require_positive
from llmsmc.core.particles import concatenate, take
from llmsmc.errors import InputError
from llmsmc.inference.loop.loop import Population, Run, Stepwise, add_potentials, nothing, resample
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import Resampler, uniforms
from llmsmc.results.estimates import Guarantee

_ROUNDING: Final = 1e-9  # by which the log of a likelihood may exceed that of the bound


@dataclass(frozen=True)
class RejectionFilter(Stepwise):
    """Settings of the rejection filter, in addition to those of `Stepwise`.

    Attributes:
        max_draws: D, after which a particle draws no more.
        bound: c, which no likelihood exceeds; 1 for probabilities.
        resampler: the scheme, which also decides whether to resample.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    max_draws: int = 64
    bound: float = 1.0
    resampler: Resampler = Adaptive()

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_count("max_draws", self.max_draws)
        require_positive("bound", self.bound)

    def init(self, run: Run) -> Population:
        """Draw initial particles until each has been accepted twice."""
        return self._extend(run, 0, nothing(self.num_particles))

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample, and draw steps for each particle until two of them have been accepted."""
        parents = resample(run, t, population, self.resampler)
        return self._extend(run, t, parents)

    def _extend(self, run: Run, t: int, parents: Population) -> Population:
        previous, size = parents.particles, self.num_particles
        finished = torch.zeros(size, dtype=torch.bool)
        if previous is not None:
            finished = run.finished(previous)
        living = ~finished & (parents.log_weights > -math.inf)
        generators = run.generator(t, "propagate"), run.generator(t, "accept")
        rounds, waiting = list[Any](), (~finished).nonzero().squeeze(1)
        num_accepted, num_draws, round_of, place_of = torch.zeros((4, size), dtype=torch.long)
        while len(waiting) and len(rounds) < self.max_draws:
            drawn, accepted = self._draw(run, t, previous, waiting, generators)
            # A particle is what is first accepted, and until then what is first drawn.
            held = accepted & (num_accepted[waiting] == 0) if rounds else waiting >= 0
            round_of[waiting[held]], place_of[waiting[held]] = len(rounds), held.nonzero()[:, 0]
            rounds.append(drawn)
            num_accepted[waiting] += accepted.long()
            num_draws[waiting] = len(rounds)
            waiting = (living & (num_accepted < 2)).nonzero().squeeze(1)
        owners = [
            (~finished & (round_of == number)).nonzero()[:, 0] for number in range(len(rounds))
        ]
        parts = [take(drawn, place_of[own]) for drawn, own in zip(rounds, owners, strict=True)]
        if bool(finished.any()):
            owners.append(finished.nonzero()[:, 0])
            parts.append(take(previous, owners[-1]))
        particles = take(concatenate(parts), torch.cat(owners).argsort())
        estimates = acceptance(num_accepted, num_draws).log() + math.log(self.bound)
        log_weights = parents.log_weights + estimates.where(living, 0.0)
        return replace(parents, particles=particles, log_weights=log_weights)

    def _draw(
        self,
        run: Run,
        t: int,
        previous: Any,
        waiting: Int[Tensor, " A"],
        generators: tuple[Generator, Generator],
    ) -> tuple[Any, Bool[Tensor, " A"]]:
        """Draw a state of step t for each of these particles; accept it, or not."""
        steps, coins = generators
        if previous is None:
            drawn = run.model.sample_initial(len(waiting), generator=steps)
        else:
            previous = take(previous, waiting)
            drawn = run.model.sample_transition(t, previous, generator=steps)
        drawn, log_likelihood = run.observe(t, previous, drawn)
        log_likelihood = add_potentials(torch.zeros(len(waiting)).double(), log_likelihood, t)
        chances = log_likelihood - math.log(self.bound)
        if chances.max() > _ROUNDING:
            raise InputError(
                "A step is accepted with its likelihood over the bound as probability. Got a "
                f"likelihood of {math.exp(log_likelihood.max()):.6g} at step {t} with bound = "
                f"{self.bound:g}; accepted: a bound that no likelihood exceeds."
            )
        accepted = uniforms(len(waiting), coins).log() < chances
        if run.supports(Fails):
            accepted &= ~run.model_as(Fails).failed(drawn).cpu()
        return drawn, accepted


def acceptance(
    num_accepted: Int[Tensor, " N"], num_draws: Int[Tensor, " N"]
) -> Float64[Tensor, " N"]:
    """Return estimates of the probability of acceptance, without bias.

    Args:
        num_accepted: how many were accepted: 2 where drawing ended for it, else 0 or 1.
        num_draws: how many were drawn.
    """
    others = (num_draws - (num_accepted == 2).long()).clamp(min=1).double()
    return torch.where(num_accepted > 0, 1 / others, 0.0)
