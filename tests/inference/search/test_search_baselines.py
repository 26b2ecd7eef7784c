"""Self-consistency, best of N, weighted best of N and greedy: what each of them computes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from llmsmc import DegenerateWeightsError, Posterior, StateSpaceModel
from llmsmc.core.capabilities import RemembersPath
from llmsmc.core.state_space_model import Observations
from llmsmc.inference import BestOfN, Greedy, SelfConsistency, WeightedBestOfN
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.models import HiddenMarkov, TabularLanguageModel
from tests.statistics import MAX_Z, MAX_Z_OF_MANY, z_score
from tests.toys import early_stopper, language_with_eos, table_without_end


class Counting(TabularLanguageModel):
    """Counts how often its potentials are asked for."""

    step_calls = path_calls = 0

    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        self.step_calls += 1
        return super().log_likelihood(t, previous, state, y)

    def path_log_likelihood(
        self, t: int, state: Tensor, observations: Observations | None
    ) -> Tensor:
        self.path_calls += 1
        return super().path_log_likelihood(t, state, observations)


class Stepwise(TabularLanguageModel):
    """The same model for algorithms that may not score a path at once."""

    def supports(self, capability: type) -> bool:
        return capability is not RemembersPath and super().supports(capability)


def copy_as(kind: type[TabularLanguageModel], model: TabularLanguageModel) -> Any:
    return kind(
        [table.exp() for table in model.log_transitions],
        [table.exp() for table in model.log_potentials],
        eos=model.eos,
    )


@pytest.mark.parametrize(
    ("algorithm", "path_calls"),
    [(SelfConsistency(8), 0), (Greedy(), 0), (BestOfN(8), 1), (WeightedBestOfN(8), 1)],
)
def test_potentials_are_evaluated_only_where_needed(algorithm: Algorithm, path_calls: int) -> None:
    model = copy_as(Counting, table_without_end())
    algorithm.run(model, seed=0)
    assert (model.step_calls, model.path_calls) == (0, path_calls)


@pytest.mark.parametrize("kind", [WeightedBestOfN, BestOfN])
@pytest.mark.parametrize("truncated", ["keep", "reject"])
def test_a_path_weighs_the_same_at_once_or_step_by_step(kind: Any, truncated: Any) -> None:
    model = language_with_eos()
    at_once = kind(30, truncated=truncated).run(model, seed=0)
    stepwise = kind(30, truncated=truncated).run(copy_as(Stepwise, model), seed=0)
    torch.testing.assert_close(at_once.log_weights, stepwise.log_weights)
    assert torch.equal(at_once.particles, stepwise.particles)


def test_self_consistency_samples_the_prior() -> None:
    model = language_with_eos()
    posterior = SelfConsistency(4000).run(model, seed=0)
    assert posterior.guarantee == "heuristic"
    assert posterior.log_evidence is None
    assert len(set(posterior.log_weights.tolist())) == 1
    paths = model.paths()
    for path, probability in zip(paths, model.log_prior(paths).exp().tolist(), strict=True):
        hits = (posterior.particles == path).all(1).double().tolist()
        if probability * 4000 > 30:
            assert abs(z_score(hits, probability)) < MAX_Z_OF_MANY


def test_self_consistency_can_reject_the_truncated() -> None:
    posterior = SelfConsistency(40, truncated="reject").run(early_stopper(2), seed=0)
    assert list(posterior.marginal(lambda x: x[:, 0])) == [0]


def test_weighted_best_of_n_has_unbiased_evidence() -> None:
    model = table_without_end()
    posterior = WeightedBestOfN(8000).run(model, seed=0)
    assert posterior.guarantee == "unbiased evidence"
    # The weights times N are independent, each with the evidence as its mean.
    weights = (posterior.log_weights.exp() * 8000).tolist()
    assert abs(z_score(weights, math.exp(model.log_evidence()))) < MAX_Z
    assert posterior.log_evidence == pytest.approx(math.log(sum(weights) / 8000))


def test_weighted_best_of_n_takes_observations() -> None:
    model = HiddenMarkov([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    observations = [0, 1, None, 1]
    posterior = WeightedBestOfN(4000).run(model, observations, seed=0)
    weights = (posterior.log_weights.exp() * 4000).tolist()
    assert abs(z_score(weights, math.exp(model.log_evidence(observations)))) < MAX_Z


def path_likelihood(model: TabularLanguageModel, posterior: Posterior) -> Tensor:
    return model.path_log_likelihood(3, posterior.particles, None)


@pytest.mark.parametrize("num_particles", [1, 4, 16, 64])
def test_best_of_n_never_loses_the_best(num_particles: int) -> None:
    model = table_without_end()
    for seed in range(10):
        posterior = BestOfN(num_particles).run(model, seed=seed)
        assert posterior.guarantee == "heuristic"
        best = int(path_likelihood(model, posterior).argmax())
        assert posterior.normalized_weights.nonzero().tolist() == [[best]]
        assert torch.equal(posterior.best(), posterior.particles[best])


def test_best_of_n_keeps_the_evidence_of_its_runs() -> None:
    model = table_without_end()
    best, weighted = (kind(16).run(model, seed=0) for kind in (BestOfN, WeightedBestOfN))
    assert torch.equal(best.particles, weighted.particles)
    assert best.log_evidence == pytest.approx(weighted.log_evidence)


def test_best_of_n_rejects_the_truncated_before_it_chooses() -> None:
    # B, which is cut off, would be the better one.
    model = TabularLanguageModel([[[0.5, 0.5]]], [[0.1, 0.9]], eos=0)
    assert int(BestOfN(20).run(model, seed=0).best()[0]) == 1
    assert int(BestOfN(20, truncated="reject").run(model, seed=0).best()[0]) == 0


def test_when_all_runs_are_impossible_the_error_says_so() -> None:
    model = TabularLanguageModel([[[0.5, 0.5]]], [[0.0, 0.0]])
    for algorithm in (BestOfN(3), WeightedBestOfN(3)):
        with pytest.raises(DegenerateWeightsError, match="at step 0"):
            algorithm.run(model, seed=0)
    SelfConsistency(3).run(model, seed=0)


def test_greedy_follows_the_modes() -> None:
    model = table_without_end()
    posterior = Greedy().run(model)
    tokens: list[int] = []
    for t in range(4):
        code = sum(token * 3 ** (t - 1 - k) for k, token in enumerate(tokens))
        tokens.append(int(model.log_transitions[t][code].argmax()))
    assert posterior.particles.tolist() == [tokens]
    assert posterior.num_particles == 1 and posterior.log_evidence is None


def test_greedy_stops_when_it_has_finished() -> None:
    model = early_stopper(5)
    posterior = Greedy().run(model)
    assert posterior.particles.tolist() == [[0, -1, -1, -1, -1]]
    assert len(posterior.history) == 1


def test_greedy_follows_distributions(two_state_model: StateSpaceModel) -> None:
    posterior = Greedy().run(two_state_model, [0, 0, 0])
    assert posterior.trajectories().tolist() == [[1, 0, 1]]


@pytest.fixture
def two_state_model() -> StateSpaceModel:
    return HiddenMarkov([0.4, 0.6], [[0.1, 0.9], [0.7, 0.3]], [[1.0], [1.0]])
