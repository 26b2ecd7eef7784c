"""Laws whose support depends on the particle: what one of them excludes has weight zero there."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions.transforms import AffineTransform

from llmsmc import DegenerateWeightsError, InputError, StateSpaceModel, check_model
from llmsmc.core.distributions import log_prob
from llmsmc.inference import BootstrapFilter, ParticleGibbs
from llmsmc.models import PyroModel
from tests.statistics import MAX_Z, z_score

STATES, HALF = torch.tensor([0.0, 2.0, 5.0]), torch.tensor(0.5)


class Counts(StateSpaceModel):
    """A number of animals that grows, of which half are seen."""

    def initial(self) -> Any:
        return dist.Poisson(4.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Binomial(previous + 2, torch.tensor(0.8))

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Binomial(state, HALF)


class Intervals(StateSpaceModel):
    """A walk with bounded steps, seen up to a bounded error."""

    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Uniform(previous - 1, previous + 1)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Uniform(state - 1, state + 1)


class Program:
    """The first step of `Intervals` as a program of Pyro, made again and again."""

    def init(self, state: Any, y: Any) -> None:
        self.step(state, y)

    def step(self, state: Any, y: Any) -> None:
        state["x"] = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Uniform(state["x"] - 1, state["x"] + 1), obs=y)


def shifted(state: Tensor) -> Any:
    return dist.TransformedDistribution(
        dist.Exponential(torch.ones(3)), [AffineTransform(state, 1)]
    )


def rows(state: Tensor) -> Any:
    low = state[:, None].expand(3, 2)
    return dist.Uniform(low, low + 1).to_event(1)


def log_binomial(y: int, count: int) -> float:
    return math.log(math.comb(count, y) * 0.5**count)


LAWS: dict[str, tuple[Any, Any, list[float]]] = {  # a law, y, the log-densities at STATES
    "a count": (
        lambda x: dist.Binomial(x, HALF),
        2,
        [-math.inf, log_binomial(2, 2), log_binomial(2, 5)],
    ),
    "an interval": (lambda x: dist.Uniform(x, x + 3), 2.5, [0.0, 0.0, -math.inf]),
    "a half-line": (lambda x: dist.Pareto(x + 1, 1.0), 2.0, [math.log(0.25), -math.inf, -math.inf]),
    "a shifted law": (shifted, 3.0, [-3.0, -1.0, -math.inf]),
    "rows": (rows, [2.5, 2.75], [-math.inf, 0.0, -math.inf]),
    "rows in part": (rows, [None, 5.5], [-math.inf, -math.inf, 0.0]),
    "excluded by all": (lambda x: dist.Uniform(x, x + 1), 100.0, [-math.inf] * 3),
    "counts excluded by all": (lambda x: dist.Binomial(x, HALF), 9, [-math.inf] * 3),
}


@pytest.mark.parametrize("name", LAWS)
def test_what_a_particle_excludes_has_weight_zero(name: str) -> None:
    law, y, expected = LAWS[name]

    class Seen(Intervals):
        def observation(self, t: int, state: Tensor) -> Any:
            return law(state)

    found = Seen().log_likelihood(0, None, STATES, y).double()
    scale = math.log(3.0) if name == "an interval" else 0.0
    torch.testing.assert_close(found + scale, torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("law", "y"),
    [
        (lambda x: dist.Uniform(x, x + 1), math.nan),
        (lambda x: dist.Binomial(x, HALF), 1.5),
        (lambda x: dist.Binomial(x, HALF), [1, 1]),
        (lambda x: dist.Uniform(0.0, 1.0), 2.0),
        (lambda x: dist.Uniform(torch.zeros(100), torch.ones(100)).to_event(1), [2.0] * 100),
        (lambda x: dist.Categorical(torch.ones(3, 4)), 4),
        (lambda x: dist.Exponential(x + 1), -1.0),
    ],
)
def test_what_no_particle_could_have_is_refused_in_few_words(law: Any, y: Any) -> None:
    class Seen(Intervals):
        def observation(self, t: int, state: Tensor) -> Any:
            return law(state)

    with pytest.raises(InputError, match="no value of its law|single y_t") as error:
        Seen().log_likelihood(0, None, STATES, y)
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


def test_a_message_has_no_table_of_the_particles() -> None:
    with pytest.raises(InputError, match="1000 numbers from 0 to 999, of shape") as error:
        Intervals().log_likelihood(0, None, torch.arange(1000.0) + 1, math.nan)
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


def test_the_evidence_of_counts() -> None:
    counts = range(40)
    initial = dist.Poisson(4.0).log_prob(torch.arange(40.0)).exp().double()
    step = torch.tensor(
        [[math.comb(a + 2, b) * 0.8**b * 0.2 ** max(a + 2 - b, 0) for b in counts] for a in counts]
    ).double()
    seen = torch.tensor([[math.comb(n, y) * 0.5**n for n in counts] for y in (3, 4)]).double()
    exact = float((initial * seen[0]) @ step @ seen[1])
    runs = [BootstrapFilter(50).run(Counts(), [3, 4], seed=seed) for seed in range(100)]
    ratios = [math.exp(run.log_evidence) / exact for run in runs]
    assert abs(z_score(ratios, 1.0)) < MAX_Z
    assert abs(z_score([1.1 * ratio for ratio in ratios], 1.0)) > MAX_Z


@pytest.mark.parametrize("model", [Intervals(), PyroModel(Program())])
def test_where_all_exclude_it_the_evidence_is_zero(model: StateSpaceModel) -> None:
    observations = [torch.tensor(0.5), torch.tensor(100.0)]
    assert math.isfinite(BootstrapFilter(20).run(model, observations[:1], seed=0).log_evidence)
    with pytest.raises(DegenerateWeightsError, match="The evidence is estimated as zero") as error:
        BootstrapFilter(20).run(model, observations, seed=0)
    assert error.value.posterior.log_evidence == -math.inf and len(str(error.value)) < 200


def test_transitions_with_bounds_have_density_zero_outside() -> None:
    found = Intervals().log_transition(1, STATES, torch.tensor([0.5, 0.5, 5.5])).exp()
    assert found.tolist() == pytest.approx([0.5, 0.0, 0.5])
    gibbs = ParticleGibbs(20, num_sweeps=3, backward_sampling=True)
    assert math.isfinite(gibbs.run(Intervals(), [0.5, 0.1, -0.2], seed=0).log_evidence)


def test_indices_beyond_a_table_are_not_looked_up() -> None:
    law, values = dist.Categorical(torch.ones(3, 4)), torch.tensor([1, 7, 3])
    assert log_prob(law, values).exp().tolist() == pytest.approx([0.25, 0.0, 0.25])
    assert log_prob(law, values + 9).tolist() == [-math.inf] * 3
    with pytest.raises(ValueError):
        log_prob(law, torch.zeros(2))


@pytest.mark.parametrize("model", [Counts(), Intervals()])
def test_such_models_pass_the_checks(model: StateSpaceModel) -> None:
    laws = check_model(model, [1.0, 1.0])
    assert "the observation has total probability one" in laws
