"""Proposals and lookaheads change the variance, never the target."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.wrong_variants import Forgetful, Uncorrected, cut_off
from llmsmc import InputError
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import (
    Adaptive,
    AuxiliaryFilter,
    BootstrapFilter,
    GuidedFilter,
    Resampler,
    TwistedFilter,
    multinomial,
    systematic,
)
from llmsmc.inference.loop.guided import propose
from llmsmc.inference.loop.loop import Run
from llmsmc.models import TabularLanguageModel
from llmsmc.models.state_space.tabular_language_model import PAD
from llmsmc.testing.guided_models import GuidedLinearGaussian, GuidedTable
from llmsmc.testing.instances import guided_language, guided_table
from tests.replicates import check_unbiased, replicates
from tests.statistics import MAX_Z, z_score
from tests.toys import WALK, WALK_OBSERVATIONS, table_without_end

CONFIGURATIONS = [
    (num_particles, Adaptive(scheme, threshold))
    for num_particles in (1, 4)
    for scheme, threshold in ((multinomial, 1.0), (systematic, 1.0), (systematic, 0.5))
    if num_particles > 1 or threshold == 1.0
]
FILTERS = [GuidedFilter, AuxiliaryFilter, TwistedFilter]


def guided_walk() -> GuidedLinearGaussian:
    return GuidedLinearGaussian(**WALK)


def configuration_name(value: object) -> str | None:
    if not isinstance(value, Adaptive):
        return None
    return f"{getattr(value.resampler, '__name__', '')}-{value.ess_threshold}"


@pytest.mark.parametrize("algorithm", FILTERS)
@pytest.mark.parametrize(("num_particles", "resampler"), CONFIGURATIONS, ids=configuration_name)
@pytest.mark.parametrize("toy", [guided_table, guided_language])
def test_evidence_and_measure_are_unbiased(
    toy: Any, num_particles: int, resampler: Resampler, algorithm: Any
) -> None:
    model = toy()
    runs = replicates(model, num_particles=num_particles, resampler=resampler, algorithm=algorithm)
    check_unbiased(model, runs, num_paths=3)


@pytest.mark.parametrize("algorithm", FILTERS)
@pytest.mark.parametrize(("num_particles", "resampler"), CONFIGURATIONS, ids=configuration_name)
def test_evidence_is_that_of_the_kalman_filter(
    num_particles: int, resampler: Resampler, algorithm: Any
) -> None:
    model = guided_walk()
    runs = replicates(
        model,
        WALK_OBSERVATIONS,
        num_particles=num_particles,
        resampler=resampler,
        algorithm=algorithm,
    )
    exact = math.exp(model.log_evidence(WALK_OBSERVATIONS))
    assert abs(z_score(runs.evidence / exact, 1.0)) < MAX_Z


def test_the_locally_optimal_proposal_lowers_the_variance() -> None:
    model = guided_walk()
    exact = math.exp(model.log_evidence(WALK_OBSERVATIONS))
    errors = {
        algorithm: float(
            (replicates(
                model, WALK_OBSERVATIONS, num_particles=8, resampler=Adaptive(systematic),
                algorithm=algorithm,
            ).evidence / exact).std()
        )
        for algorithm in (BootstrapFilter, GuidedFilter, AuxiliaryFilter)
    }  # fmt: skip
    assert errors[AuxiliaryFilter] < errors[GuidedFilter] < 0.6 * errors[BootstrapFilter]


def test_a_guess_that_is_not_undone_is_rejected() -> None:
    model = guided_table()
    runs = replicates(
        model,
        num_particles=8,
        resampler=Adaptive(systematic, 1.0),
        algorithm=Forgetful,
    )
    assert abs(z_score(runs.evidence, math.exp(model.log_evidence()))) > 6


def test_a_twist_without_its_correction_is_rejected() -> None:
    model = cut_off().model
    assert isinstance(model, TabularLanguageModel)
    for algorithm, is_right in ((TwistedFilter, True), (Uncorrected, False)):
        runs = replicates(
            model, num_particles=8, resampler=Adaptive(systematic, 1.0), algorithm=algorithm
        )
        z = abs(z_score(runs.evidence, math.exp(model.log_evidence())))
        assert z < MAX_Z if is_right else z > 6


class PerfectlyTwisted(GuidedTable):
    """The twist is the expected product of all potentials to come; the proposal knows it, too."""

    ahead: list[Tensor]

    @classmethod
    def by(cls, model: TabularLanguageModel) -> "PerfectlyTwisted":
        ahead = [torch.ones(model.vocab_size**model.max_steps).double()]
        for t in reversed(range(model.max_steps)):
            values = model.log_potentials[t].exp() * ahead[0]
            law = model.log_transitions[t].exp()
            ahead.insert(0, (law * values.reshape(law.shape)).sum(1))
        laws = []
        for t in range(model.max_steps):
            law = model.log_transitions[t].exp()
            values = model.log_potentials[t].exp() * ahead[t + 1]
            weighed = law * values.reshape(law.shape)
            laws.append(weighed / weighed.sum(1, keepdim=True))
        twisted = cls.of(model, laws)
        assert isinstance(twisted, cls)
        twisted.ahead = ahead
        return twisted

    def log_twist(self, t: int, state: Tensor, observations: Any) -> Tensor:
        return self.ahead[t + 1][self._codes(state, t + 1)].log()


@given(
    num_particles=st.integers(1, 9),
    threshold=st.sampled_from([0.0, 0.5, 1.0]),
    scheme=st.sampled_from([multinomial, systematic]),
    seed=st.integers(0, 2**31),
)
def test_the_perfect_twist_has_no_variance(
    num_particles: int, threshold: float, scheme: Any, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    laws = [generator.dirichlet(np.ones(3), size=3**t) for t in range(4)]
    scores = [generator.uniform(0.1, 2.0, size=3 ** (t + 1)) for t in range(4)]
    model = PerfectlyTwisted.by(TabularLanguageModel(laws, scores))
    evidence = TwistedFilter(num_particles, Adaptive(scheme, threshold)).run(model, seed=seed)
    assert evidence.log_evidence == pytest.approx(model.log_evidence(), abs=1e-9)


@given(
    num_particles=st.integers(1, 9),
    threshold=st.sampled_from([0.0, 0.5, 1.0]),
    scheme=st.sampled_from([multinomial, systematic]),
    seed=st.integers(0, 2**31),
)
def test_a_perfect_proposal_has_no_variance(
    num_particles: int, threshold: float, scheme: Any, seed: int
) -> None:
    # One state, whose likelihood does not depend on it: transition times likelihood over proposal
    # is the likelihood of y alone.
    generator = np.random.default_rng(seed)
    potential = generator.uniform(0.1, 2.0, size=4)
    laws = [generator.dirichlet(np.ones(3), size=3**t) for t in range(4)]
    scores = [np.full(3 ** (t + 1), potential[t]) for t in range(4)]
    model = GuidedTable.of(TabularLanguageModel(laws, scores), laws)
    chosen = GuidedFilter(num_particles, Adaptive(scheme, threshold))
    evidence = chosen.run(model, seed=seed).log_evidence
    assert evidence == pytest.approx(float(np.log(potential).sum()), abs=1e-9)


def test_models_without_what_it_takes_are_named() -> None:
    model = table_without_end()
    with pytest.raises(InputError, match="Got TabularLanguageModel, which does not; accepted"):
        GuidedFilter(4).run(model, seed=0)
    for algorithm in (AuxiliaryFilter(4), TwistedFilter(4)):
        with pytest.raises(InputError, match="Got TabularLanguageModel, which does not; accepted"):
            algorithm.run(model, seed=0)


def test_padding_stays_behind_the_end() -> None:
    posterior = GuidedFilter(30).run(guided_language(), seed=1)
    for row in posterior.particles.tolist():
        if 2 in row:
            assert set(row[row.index(2) + 1 :]) <= {PAD}


def test_the_transition_density_is_that_of_the_laws() -> None:
    model = guided_walk()
    run = Run(model, [[0.3], [0.3]], RandomStreams(0))
    source = torch.Generator().manual_seed(0)
    state, log_ratio = propose(run, 0, None, 5, source)
    proposal = model.proposal(0, None, [0.3])
    expected = model.initial().log_prob(state) - proposal.log_prob(state)
    torch.testing.assert_close(log_ratio, expected)
    after, log_ratio = propose(run, 1, state, 5, source)
    expected = model.transition(1, state).log_prob(after)
    torch.testing.assert_close(model.log_transition(1, state, after), expected)
    assert log_ratio.shape == (5,)
