"""Where nothing is left to chance the evidence is exact: any N, resampler and threshold."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmsmc.inference import (
    Adaptive,
    Algorithm,
    AuxiliaryFilter,
    BootstrapFilter,
    CoalescingFilter,
    EntropicFilter,
    GuidedFilter,
    IslandFilter,
    NestedFilter,
    ParticleGibbsMove,
    ResampleMove,
    Resampler,
    TemperedSMC,
    TwistedFilter,
    WeightedBestOfN,
    killing,
)
from llmsmc.models import TabularLanguageModel
from llmsmc.registry import RESAMPLERS as SCHEMES_BY_NAME
from llmsmc.testing.guided_models import GuidedTable
from llmsmc.testing.instances import language_with_eos, table_without_end

SCHEMES = st.sampled_from(list(SCHEMES_BY_NAME.values()))
RESAMPLERS = st.builds(Adaptive, SCHEMES, st.floats(0.0, 1.0))
SIZES = st.integers(1, 9)
TOLERANCE = 1e-9

FILTERS: dict[str, Any] = {
    "bootstrap": lambda n, r: BootstrapFilter(n, r),
    "guided": lambda n, r: GuidedFilter(n, r),
    "islands": lambda n, r: IslandFilter(2 * n, 2, r),
    "resample-move": lambda n, r: ResampleMove(n, r),
    "conditional move": lambda n, r: ResampleMove(n, r, move=ParticleGibbsMove(2)),
    "tempered": lambda n, r: TemperedSMC(n, (0.3, 1.0), resampler=r.resampler),
    "coalescing": lambda n, r: CoalescingFilter(n, resampler=r.resampler),
    "entropic": lambda n, r: EntropicFilter(n, resampler=r.resampler),
    "nested": lambda n, r: NestedFilter(n, 2, r),
    "weighted best of N": lambda n, r: WeightedBestOfN(n),
}


class Undecided(GuidedTable):
    """Proposals are the transitions, and there is nothing to guess."""

    def log_lookahead(self, t: int, state: Tensor, y: Any) -> Tensor:
        return torch.zeros(len(state), dtype=torch.float64)


def flat_table(factors: list[float], seed: int) -> GuidedTable:
    """Words at random, of which all are equally good: Z is the product of the factors."""
    generator = np.random.default_rng(seed)
    laws = [generator.dirichlet(np.ones(3), size=3**t) for t in range(len(factors))]
    scores = [np.full(3 ** (t + 1), factor) for t, factor in enumerate(factors)]
    return Undecided.of(TabularLanguageModel(laws, scores), laws)


@pytest.mark.parametrize("name", FILTERS)
@settings(deadline=None, max_examples=40)
@given(
    num_particles=SIZES,
    resampler=RESAMPLERS,
    factors=st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_potentials(
    name: str, num_particles: int, resampler: Adaptive, factors: list[float], seed: int
) -> None:
    # Killing works in place; of identical particles that are one there are no places.
    assume(name != "coalescing" or resampler.resampler is not killing)
    algorithm: Algorithm = FILTERS[name](num_particles, resampler)
    model = flat_table(factors, seed)
    found = algorithm.run(model, seed=seed).log_evidence
    assert found == pytest.approx(math.fsum(map(math.log, factors)), abs=TOLERANCE)


class Foreseeing(TabularLanguageModel):
    """Knows V, the evidence of all that can follow a prefix: proposals and twists are perfect."""

    def log_values(self, t: int, state: Tensor) -> Tensor:
        """Return log V of the first t tokens, V the expected product of what is to come."""
        if t == self.max_steps:
            return torch.zeros(len(state), dtype=torch.float64)
        following = self._following(t, state)
        return following.logsumexp(1)

    def _following(self, t: int, state: Tensor) -> Tensor:
        columns = []
        for token in range(self.vocab_size):
            longer = state.clone()
            longer[:, t] = token
            ended = self.finished(longer)
            potential = self.log_potentials[t][self._codes(longer, t + 1)]
            readable = torch.where(ended[:, None], longer.clamp(min=0), longer)
            later = torch.where(ended, 0.0, self.log_values(t + 1, readable))
            columns.append(potential + later)
        return self.log_transitions[t][self._codes(state, t)] + torch.stack(columns, dim=1)

    def propose(
        self, t: int, previous: Any, y: Any, num_particles: int, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        previous = self._empty(num_particles) if previous is None else previous
        law = self._following(t, previous).log_softmax(1)
        token = law.exp().multinomial(1, generator=generator)
        state = previous.clone()
        state[:, t] = token[:, 0]
        log_ratio = self.log_transitions[t][self._codes(previous, t)] - law
        return state, log_ratio.gather(1, token)[:, 0]

    def log_lookahead(self, t: int, state: Tensor, y: Any) -> Tensor:
        return self.log_values(t + 1, state)

    def log_twist(self, t: int, state: Tensor, observations: Any) -> Tensor:
        return self.log_values(t + 1, state)


def foreseeing(model: TabularLanguageModel) -> Foreseeing:
    tables = (model.log_transitions, model.log_potentials)
    laws, scores = ([table.exp() for table in kind] for kind in tables)
    return Foreseeing(laws, scores, eos=model.eos)


@pytest.mark.parametrize("toy", [table_without_end, language_with_eos])
@settings(deadline=None, max_examples=60)
@given(num_particles=SIZES, resampler=RESAMPLERS, seed=st.integers(0, 2**32 - 1))
def test_perfect_foresight(toy: Any, num_particles: int, resampler: Resampler, seed: int) -> None:
    model = foreseeing(toy())
    found = TwistedFilter(num_particles, resampler).run(model, seed=seed).log_evidence
    assert found == pytest.approx(model.log_evidence(), abs=TOLERANCE)


@settings(deadline=None, max_examples=60)
@given(num_particles=SIZES, scheme=SCHEMES, seed=st.integers(0, 2**32 - 1))
def test_perfect_lookahead(num_particles: int, scheme: Any, seed: int) -> None:
    """The auxiliary filter, which looks one step ahead, with two steps in all."""
    generator = np.random.default_rng(seed)
    laws = [generator.dirichlet(np.ones(3), size=3**t) for t in range(2)]
    scores = [np.ones(3), generator.uniform(0.1, 2.0, size=9)]
    model = foreseeing(TabularLanguageModel(laws, scores))
    exact = model.log_evidence()
    found = AuxiliaryFilter(num_particles, Adaptive(scheme, 1.0)).run(model, seed=seed)
    assert found.log_evidence == pytest.approx(exact, abs=TOLERANCE)
