"""Rewards made of what the policy has recorded: no network of a reward, or one in place of two."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from llmsmc.errors import InputError
from llmsmc.inference import Algorithm, BootstrapFilter, ParticleGibbs
from llmsmc.models import (
    LanguageModel,
    Reasoning,
    RewardEnsemble,
    SharedLanguageModel,
    SharedReward,
)
from llmsmc.models.batching.scheduler import run_together
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.models.rewards.own_log_prob import OwnLogProb
from llmsmc.models.rewards.policy_ratio import PolicyRatio
from llmsmc.models.rewards.reward import Reward
from llmsmc.models.rewards.reward_function import Scoring
from llmsmc.results.posterior import Posterior
from tests.models.conftest import WIDE

QUESTION = "What is 3 + 4 - 5?"
ALGORITHMS = [BootstrapFilter(4), ParticleGibbs(num_particles=3, num_sweeps=2, num_warmup=0)]


@pytest.fixture(scope="module")
def other(policy_of: Callable[..., LanguageModel]) -> LanguageModel:
    return policy_of("llama", **WIDE)


def model_with(policy: LanguageModel, reward: Any, **settings: Any) -> Reasoning:
    return Reasoning(policy, reward, QUESTION, step=3, max_steps=4, **settings)


def steps_of(policy: LanguageModel, particles: ReasoningParticles, n: int) -> list[tuple[int, int]]:
    """The first and the last token of each step of a solution; its end belongs to none."""
    ends = particles.step_ends[n, : int(particles.num_steps[n])].tolist()
    last = particles.token_ids[n].tolist()
    trimmed = [end - (last[end - 1] in policy.eos_ids) for end in ends]
    return list(zip([0, *ends], trimmed, strict=False))


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("tokens", ["mean", "sum", "min"])
def test_the_own_log_probability(
    policy: LanguageModel, algorithm: Algorithm, tokens: str, temperature: float
) -> None:
    model = model_with(policy, OwnLogProb(policy, tokens=tokens), temperature=temperature)
    posterior = algorithm.run(model, seed=3)
    particles = posterior.particles
    joins: dict[str, Any] = {"mean": torch.mean, "sum": torch.sum, "min": torch.min}
    join = joins[tokens]
    for n, particle in enumerate(particles):
        # Read by the network once more, in one pass and at temperature 1.
        log_probs = policy.log_probs(particles.prompt_ids, particle.token_ids)
        expected = [float(join(log_probs[a:b]).exp()) for a, b in steps_of(policy, particles, n)]
        assert particle.rewards == pytest.approx(expected, rel=1e-4)
    cost = posterior.cost
    assert cost.reward_positions == 0 and cost.scored_tokens == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("policy_above", [False, True])
def test_the_ratio_against_the_policy(
    policy: LanguageModel, other: LanguageModel, algorithm: Algorithm, policy_above: bool
) -> None:
    reward = PolicyRatio(other, policy, coefficient=0.5, policy_above=policy_above)
    posterior = algorithm.run(model_with(policy, reward, aggregation="last"), seed=5)
    particles, sign = posterior.particles, -1 if policy_above else 1
    assert any(len(particle.steps) > 1 for particle in particles)
    for n, particle in enumerate(particles):
        ratio = other.log_probs(particles.prompt_ids, particle.token_ids)
        ratio = sign * 0.5 * (ratio - policy.log_probs(particles.prompt_ids, particle.token_ids))
        expected = [float(ratio[:b].sum().sigmoid()) for _, b in steps_of(policy, particles, n)]
        assert particle.rewards == pytest.approx(expected, abs=1e-5)
    # Tokens are read once, but for those of a text that a blank step has changed.
    if isinstance(algorithm, BootstrapFilter):
        assert posterior.cost.scored_tokens < 1.5 * posterior.cost.generated_tokens


def test_many_runs_share_it_and_ensembles_pass_it_on(
    policy: LanguageModel, other: LanguageModel
) -> None:
    ratio = PolicyRatio(other, policy, coefficient=0.1)
    members: list[Reward | Scoring] = [OwnLogProb(policy), ratio]
    reward = RewardEnsemble(members, "geometric")
    model = model_with(policy, reward, aggregation="min")
    alone = [BootstrapFilter(3).run(model, seed=seed).log_evidence for seed in range(3)]
    shared = replace(model, policy=SharedLanguageModel(policy), reward=SharedReward(reward))
    tasks = [lambda s=seed: BootstrapFilter(3).run(shared, seed=s) for seed in range(3)]
    together = dict(run_together(tasks, 3))
    for n, evidence in enumerate(alone):
        found = together[n]
        assert isinstance(found, Posterior)
        assert found.log_evidence == pytest.approx(evidence, abs=1e-5)
    with pytest.raises(InputError, match="one of a few words"):
        OwnLogProb(policy, tokens="last")


def test_what_a_ratio_is_not_made_of(policy: LanguageModel, other: LanguageModel) -> None:
    with pytest.raises(InputError, match="0 < coefficient"):
        PolicyRatio(other, policy, coefficient=0.0)


def test_a_server_that_records_nothing_is_refused(policy: LanguageModel) -> None:
    """What the reward reads is asked of the policy before a token is drawn."""
    asked = []

    class Watched(LanguageModel):
        def check(self, demands: Any) -> None:
            asked.append(demands.log_probs)

    watched = Watched(policy.model, policy.tokenizer)
    model_with(watched, OwnLogProb(watched))
    model_with(watched, lambda question, steps: [0.5] * len(steps))
    assert asked == [True, False]
