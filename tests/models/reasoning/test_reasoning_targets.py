"""Other targets than the law of the policy, other proposals, and spliced solutions."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from llmsmc import InputError
from llmsmc.inference import (
    Adaptive,
    AuxiliaryFilter,
    BootstrapFilter,
    GuidedFilter,
    ParticleGibbs,
    ParticleGibbsMove,
    ResampleMove,
    TemperedSMC,
    systematic,
)
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import ScoreRequest
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.reasoning.model import Reasoning
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.models.rewards.reward_function import as_reward
from llmsmc.models.rewards.reward_model import RewardModel
from tests.models.conftest import local
from tests.statistics import MAX_Z, z_score

QUESTION = "What is 3 + 4 + 5?"


@pytest.fixture
def model(policy: LanguageModel, reward: RewardModel) -> Reasoning:
    return Reasoning(policy, reward, QUESTION, max_steps=4, max_tokens_per_step=40)


@pytest.fixture
def cheaper(policy: LanguageModel) -> LanguageModel:
    """The policy with every weight rounded to a few values."""
    network = type(policy.model)(policy.model.config).train(False)
    network.load_state_dict(policy.model.state_dict())
    with torch.no_grad():
        for parameter in network.parameters():
            step = max(float(parameter.abs().max()) / 8, 1e-9)
            parameter.copy_((parameter / step).round() * step)
    return LanguageModel(network, policy.tokenizer)


def generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def grown(
    model: Reasoning, num_particles: int, num_steps: int, seed: int = 0
) -> ReasoningParticles:
    particles = model.sample_initial(num_particles, generator=generator(seed))
    for t in range(1, num_steps):
        particles = model.sample_transition(t, particles, generator=generator(100 * t + seed))
    return particles


def plain_log_probs(model: Reasoning, particles: ReasoningParticles) -> Tensor:
    """Of each solution under the policy at temperature 1, by one uncached pass."""
    rows = [particles[n].token_ids for n in range(len(particles))]
    return torch.stack([local(model.policy).log_probs(model.prompt_ids, ids).sum() for ids in rows])


@pytest.mark.parametrize("cached", [True, False])
def test_scored_tokens_are_those_of_an_uncached_pass(
    model: Reasoning, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "llmsmc.models.policies.decoding.token_scoring.MAX_LOGITS", 5_000
    )  # two tokens at once
    particles, policy = grown(model, 8, 2), model.policy
    going_on = (~particles.finished).nonzero().squeeze(1)[[0, 1, 1]]
    rows = particles[going_on]
    tails = [[5, 6, 7, 8], [9], [9]]
    longest = int(rows.num_tokens.max()) + 4
    token_ids = torch.zeros((3, longest), dtype=torch.long)
    for n, tail in enumerate(tails):
        ids = [*rows[n].token_ids, *tail]
        token_ids[n, : len(ids)] = torch.tensor(ids)
    counts = rows.num_tokens + torch.tensor([4, 1, 1])
    handle = rows.policy_cache if cached else None
    scores, cost = policy.score_tokens(
        ScoreRequest(
            model.prompt_ids,
            token_ids,
            counts,
            rows.num_tokens,
            handle or CacheRows.none(3),
            temperature=0.7,
        )
    )
    assert isinstance(policy, LanguageModel)
    for n, tail in enumerate(tails):
        prompt = [*model.prompt_ids, *rows[n].token_ids]
        expected = policy.log_probs(prompt, tail)
        found = scores.log_probs[n]
        torch.testing.assert_close(found[: len(tail)], expected, rtol=0.0, atol=1e-5)
        assert not found[len(tail) :].any()
        assert not torch.allclose(scores.tempered_log_probs[n, : len(tail)], expected)
    assert scores.handle.lengths.tolist() == (counts + len(model.prompt_ids) - 1).tolist()
    assert int(scores.handle.rows[1]) == int(scores.handle.rows[2])  # the same text, once
    if cached:
        assert cost.policy_positions == 2 * 4  # two texts, padded to four tokens


def test_the_same_tokens_are_scored_from_different_places_on(model: Reasoning) -> None:
    """What is known of one of two equal solutions may be more than what is known of the other."""
    policy, starts = local(model.policy), torch.tensor([2, 0, 1, 0])
    ids = torch.tensor([[5, 6, 7]]).expand(4, -1)
    counts = torch.full((4,), 3)
    request = ScoreRequest(model.prompt_ids, ids, counts, starts, CacheRows.none(4))
    scores, _ = policy.score_tokens(request)
    expected = policy.log_probs(model.prompt_ids, [5, 6, 7])
    for n, start in enumerate(starts.tolist()):
        found = scores.log_probs[n, : 3 - start]
        torch.testing.assert_close(found, expected[start:], rtol=0.0, atol=1e-5)


def test_a_proposal_equal_to_the_policy_changes_nothing(model: Reasoning) -> None:
    guided = replace(model, proposal_policy=model.policy)
    expected = BootstrapFilter(8).run(model, seed=1)
    found = GuidedFilter(8).run(guided, seed=1)
    assert [p.token_ids for p in found.particles] == [p.token_ids for p in expected.particles]
    torch.testing.assert_close(found.log_weights, expected.log_weights, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_weights_of_a_proposal_are_ratios_of_probabilities(
    model: Reasoning, cheaper: LanguageModel, temperature: float
) -> None:
    guided = replace(model, proposal_policy=cheaper, temperature=temperature)
    state, total = None, torch.zeros(6, dtype=torch.float64)
    for t in range(3):
        state, log_ratio = guided.propose(t, state, None, 6, generator=generator(t))
        total = total + log_ratio
    assert state is not None
    ratio = (state.transition_log_probs - state.proposal_log_probs).sum(1)
    torch.testing.assert_close(total, ratio, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(
        state.log_probs.sum(1), plain_log_probs(model, state), rtol=0.0, atol=1e-3
    )
    cheap = replace(model, policy=cheaper)
    if temperature == 1.0:
        torch.testing.assert_close(
            state.proposal_log_probs.sum(1), plain_log_probs(cheap, state), rtol=0.0, atol=1e-3
        )
    assert float(total.abs().max()) > 0.1


def test_the_mass_of_a_proposal_is_one(model: Reasoning, cheaper: LanguageModel) -> None:
    # Nothing is judged, so that the evidence is the probability of all solutions.
    guided = replace(model, reward=None, proposal_policy=cheaper, policy_inverse_temperature=1.0)
    guided = replace(guided, max_steps=2, step=3)
    evidence = [
        math.exp(GuidedFilter(40, Adaptive(systematic, 0.5)).run(guided, seed=seed).log_evidence)
        for seed in range(60)
    ]
    assert abs(z_score(evidence, 1.0)) < MAX_Z
    assert torch.tensor(evidence).std() > 0.01


@pytest.mark.parametrize(("alpha", "temperature"), [(2.0, 0.6), (2.0, 1.0), (0.5, 1.0)])
def test_the_mass_of_a_power_is_that_of_its_sum(
    model: Reasoning, alpha: float, temperature: float
) -> None:
    power = replace(
        model,
        reward=None,
        policy_inverse_temperature=alpha,
        temperature=temperature,
        max_steps=1,
        step=1,
    )
    with torch.no_grad():
        logits = local(model.policy).model(torch.tensor([model.prompt_ids])).logits[0, -1]
    exact = float((alpha * logits.float().log_softmax(-1)).logsumexp(-1).exp())
    evidence = [
        math.exp(BootstrapFilter(60).run(power, seed=seed).log_evidence) / exact
        for seed in range(60)
    ]
    assert abs(z_score(evidence, 1.0)) < MAX_Z
    if alpha == 2.0:  # drawn from the power itself, there is nothing left to weigh
        perfect = replace(power, temperature=0.5)
        found = math.exp(BootstrapFilter(2).run(perfect, seed=0).log_evidence)
        assert found == pytest.approx(exact, rel=1e-5)


def test_the_temperature_reaches_every_step(model: Reasoning) -> None:
    cooler = replace(model, temperature=0.6)
    state = grown(cooler, 6, 4)
    for n in range(6):
        ids = list(state[n].token_ids)
        start = len(model.prompt_ids)
        with torch.no_grad():
            logits = local(model.policy).model(torch.tensor([[*model.prompt_ids, *ids]])).logits[0]
        law = (logits[start - 1 : -1].float() / 0.6).log_softmax(-1)
        expected = law.gather(1, torch.tensor(ids)[:, None]).squeeze(1).double()
        found = state.transition_log_probs[n, : len(ids)]
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-4)
        assert len(state[n].steps) > 1 or state[n].finish_reason is not None


def test_splicing_a_solution_onto_itself_changes_nothing(model: Reasoning) -> None:
    whole = grown(model, 12, 4)
    whole, _ = model.observe_path(3, whole, None)
    for t in (1, 2, 3):
        long = (whole.num_steps > t).nonzero().squeeze(1)
        references = whole[long]
        prefixes = model.rewind(references, torch.full((len(long),), t))
        joined = model.splice(prefixes, t, references)
        for n in range(len(long)):
            assert joined[n].token_ids == references[n].token_ids
            assert joined[n].steps == references[n].steps
            assert joined[n].finish_reason == references[n].finish_reason
        torch.testing.assert_close(
            model.log_prior(joined), model.log_prior(references), rtol=0.0, atol=1e-4
        )
        torch.testing.assert_close(
            model.path_log_likelihood(3, joined, None),
            model.path_log_likelihood(3, references, None),
            rtol=0.0,
            atol=1e-4,
        )


@pytest.mark.parametrize("temperature", [1.0, 0.8])
def test_spliced_solutions_are_scored_as_texts_of_their_own(
    model: Reasoning, temperature: float
) -> None:
    model = replace(model, temperature=temperature)
    assert model.reward is not None
    whole = grown(model, 16, 4)
    long = whole[(whole.num_steps > 2).nonzero().squeeze(1)]
    others = grown(model, 16, 2, seed=7)
    others = others[(~others.finished).nonzero().squeeze(1)[: len(long)]]
    references = long[list(range(len(others)))]
    assert len(others) >= 3
    joined = model.splice(others, 2, references)
    for n in range(len(others)):
        assert joined[n].steps[:2] == others[n].steps
        assert joined[n].steps[2:] == references[n].steps[2:]
        scores = as_reward(model.reward).score(QUESTION, list(joined[n].steps))
        found = model.path_log_likelihood(3, joined, None)[n]
        assert float(found) == pytest.approx(sum(math.log(s) for s in scores), abs=1e-4)
    if temperature == 1.0:
        torch.testing.assert_close(
            model.log_prior(joined), plain_log_probs(model, joined), rtol=0.0, atol=1e-3
        )
    torch.testing.assert_close(
        joined.log_probs.sum(1), plain_log_probs(model, joined), rtol=0.0, atol=1e-3
    )


def test_what_could_not_have_been_cut_so_has_no_probability(model: Reasoning) -> None:
    short = replace(model, max_tokens=24, max_tokens_per_step=24)
    whole = grown(short, 24, 4)
    assert bool((short.log_prior(whole) > -math.inf).all())
    cut = whole[(whole.num_tokens == 24).nonzero().squeeze(1)]
    assert len(cut) > 0
    # The same tokens in a model with more room would have gone on.
    assert bool((replace(model, max_tokens=30).log_prior(cut) == -math.inf).any())


@pytest.mark.parametrize(
    "algorithm",
    [
        ParticleGibbs(3, num_sweeps=2, resampler=Adaptive(systematic, 1.0)),
        ParticleGibbs(3, num_sweeps=2, backward_sampling=True, ancestor_sampling=False),
        ResampleMove(4, Adaptive(systematic, 1.0), move=ParticleGibbsMove(2)),
        TemperedSMC(4, num_moves=1, move=ParticleGibbsMove(2, ancestor_sampling=True)),
        AuxiliaryFilter(6, Adaptive(systematic, 1.0)),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_every_algorithm_runs_on_text(model: Reasoning, algorithm: object) -> None:
    posterior = algorithm.run(model, seed=0)  # type: ignore[attr-defined]
    assert math.isfinite(posterior.log_evidence)
    for particle in posterior.particles:
        assert particle.text == model.policy.tokens.decode(particle.token_ids)
    torch.testing.assert_close(
        posterior.particles.log_probs.sum(1),
        plain_log_probs(model, posterior.particles),
        rtol=0.0,
        atol=1e-3,
    )


def test_a_proposal_with_other_tokens_is_named(model: Reasoning) -> None:
    other = LanguageModel(local(model.policy).model, local(model.policy).tokenizer, name="other")
    other.eos_ids = (5,)
    with pytest.raises(InputError, match="A proposal writes the tokens that the policy scores"):
        replace(model, proposal_policy=other)
    with pytest.raises(InputError, match="Got Reasoning, which does not"):
        GuidedFilter(4).run(model, seed=0)
