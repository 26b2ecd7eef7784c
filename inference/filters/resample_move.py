r"""The resample-move filter: a bootstrap filter with MCMC moves after resampling.

$$A^n \sim \text{resample}(w_{t-1}), \qquad
\tilde x_{0:t-1}^n \sim K_{t-1}(\cdot \mid x_{0:t-1}^{A^n}), \qquad
x_t^n \sim \text{transition}(t, \tilde x_{t-1}^n), \qquad
w_t^n = w_\text{out}^n \; p(y_t \mid x_t^n).$$

The kernel K leaves the distribution of the path given y_0, ..., y_{t-1} invariant. The weights
therefore stay, and $\sum_n w_t^n$ is unbiased as in the bootstrap filter, while copies become
distinct particles again.

Reference: Gilks, Berzuini (2001). Following a moving target: Monte Carlo inference for dynamic
Bayesian models.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from llmsmc.core.checks import require_count
from llmsmc.inference.loop.loop import Population, Run, Stepwise, extend, init, resample
from llmsmc.inference.moves.move import Move
from llmsmc.inference.moves.regenerate_suffix import RegenerateSuffix
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class ResampleMove(Stepwise):
    """Settings of the resample-move filter, in addition to those of `Stepwise`.

    Nothing is recorded for `trajectories`: a move changes the past of a particle.

    Attributes:
        resampler: the scheme, which also decides whether to resample.
        move: the kernel.
        num_moves: the number of moves after each resampling.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    resampler: Resampler = Adaptive()
    move: Move = RegenerateSuffix()
    num_moves: int = 1
    record: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_count("num_moves", self.num_moves)

    def init(self, run: Run) -> Population:
        """Draw the initial particles and weigh them."""
        self.move.check(run)
        return init(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample, move, and advance the particles that have not finished by one step."""
        parents, rate = resample(run, t, population, self.resampler), None
        if parents.resampled:
            parents, rate = self._moved(run, t, parents)
        return replace(extend(run, t, parents), acceptance_rate=rate, previous=parents.particles)

    def _moved(self, run: Run, t: int, parents: Population) -> tuple[Population, float]:
        """Move the particles of step t - 1; also return the share of accepted moves."""
        rates = []
        for number in range(self.num_moves):
            generator = run.generator(t, f"move/{number}")
            parents, accepted = self.move(run, t - 1, parents, generator=generator)
            rates.append(float(accepted.double().mean()))
        return parents, sum(rates) / len(rates)
