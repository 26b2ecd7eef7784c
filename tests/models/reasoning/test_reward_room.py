"""The room that a reward has behind solutions: told by the pieces of new steps, and told once."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from llmsmc.inference import BootstrapFilter, GuidedFilter, ResampleMove, TemperedSMC
from llmsmc.models import LanguageModel, Reasoning, RewardModel, WithoutText
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.models.rewards.conventions import QwenConvention
from llmsmc.models.rewards.conventions.convention import Layout, PiecewiseConvention
from llmsmc.registry import CONVENTIONS
from tests.models.tiny_rewards import model_of, tokenizers_of

QUESTION = "What is 3 + 4 + 5?"
ALGORITHMS: list[Any] = [BootstrapFilter(8), ResampleMove(8), TemperedSMC(8, (0.5, 1.0))]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Counting(QwenConvention):
    """The same convention, which counts what is tokenized."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.encoded = Counter[str]()
        super().__init__(tokenizer)

    def _encoded_step(self, step: str) -> tuple[int, ...]:
        self.encoded[step] += 1
        return super()._encoded_step(step)


class Whole(QwenConvention):
    """The same layouts, of which nothing is known but that they are layouts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.laid_out = Counter[tuple[str, ...]]()
        super().__init__(tokenizer)

    def layout(self, question: str, steps: tuple[str, ...]) -> Layout:
        self.laid_out[steps] += 1
        return super().layout(question, steps)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda each: type(each).__name__)
def test_each_step_is_tokenized_once_and_no_solution_laid_out(
    policy: LanguageModel,
    reward: RewardModel,
    algorithm: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right, laid_out = PiecewiseConvention.layout, Counter[int]()
    counting = RewardModel(reward.model, reward.tokenizer, Counting)
    assert counting.pieces is not None

    def layout(self: Any, question: str, steps: tuple[str, ...]) -> Layout:
        laid_out[len(steps)] += 1
        return right(self, question, steps)

    monkeypatch.setattr(counting, "layout", lambda *given: layout(counting.convention, *given))
    monkeypatch.setattr(PiecewiseConvention, "layout", layout)
    model = Reasoning(policy, counting, QUESTION, max_steps=5, max_tokens_per_step=60)
    posterior = algorithm.run(model, seed=0)
    assert isinstance(counting.convention, Counting)
    assert set(laid_out) <= {0}  # the question alone
    assert set(counting.convention.encoded.values()) == {1}
    assert counting.convention.encoded.keys() >= set().union(*posterior.particles.steps)


def test_another_layout_is_made_once_for_each_solution(
    policy: LanguageModel, reward: RewardModel
) -> None:
    whole = RewardModel(reward.model, reward.tokenizer, Whole)
    assert whole.pieces is None  # its layout is its own
    model = Reasoning(policy, whole, QUESTION, max_steps=5, max_tokens_per_step=60)
    posterior = BootstrapFilter(8).run(model, seed=0)
    assert isinstance(whole.convention, Whole)
    convention = whole.convention
    del convention.laid_out[()]
    assert set(convention.laid_out.values()) == {1}
    expected = BootstrapFilter(8).run(replace(model, reward=reward), seed=0)
    assert torch.equal(posterior.log_weights, expected.log_weights)
    for cost in ("policy_positions", "reward_positions", "scored_tokens", "model_calls"):
        assert getattr(posterior.cost, cost) == getattr(expected.cost, cost)


def states_of(model: Reasoning) -> Iterator[ReasoningParticles]:
    """States as they come about: drawn, observed, rewound, spliced; with blank steps in them."""
    state = model.sample_initial(12, generator=generator(0))
    for t in range(1, 6):
        yield state
        state, _ = model.observe(t - 1, None, state, None)
        yield state
        state = model.sample_transition(t, state[torch.arange(12).flip(0)], generator=generator(t))
    back = model.rewind(state, torch.arange(12) % 5)
    yield model.sample_transition(5, back, generator=generator(9))
    longer = (state.num_transitions > 2).nonzero().squeeze(1)
    if len(longer):
        prefixes = model.rewind(state[longer], torch.full((len(longer),), 2))
        yield model.observe_path(5, model.splice(prefixes, 2, state[longer.flip(0)]), None)[0]


@pytest.mark.parametrize("aggregation", ["product", "model"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_room_is_what_the_whole_layout_leaves(
    policy: LanguageModel, tokenizer: PreTrainedTokenizerFast, name: str, aggregation: str
) -> None:
    own = tokenizers_of(tokenizer)[name]
    reward = RewardModel(model_of(name, own), own, name)
    length = len(reward.prefix_ids(QUESTION))
    reward.context_length = length + 8
    model = Reasoning(policy, reward, QUESTION, aggregation, step=2, max_steps=8)
    num_outgrown = 0
    for state in states_of(model):
        assert model._scores is not None
        known = state.reward_room  # of solutions that are spliced of scored steps, nobody asked
        rooms = model._scores.room(state.steps) if known is None else known
        for n, room in enumerate(rooms.tolist()):
            steps = state.steps[n]
            read = ("".join(steps),) if aggregation == "model" and steps else steps
            ids = reward.convention.layout(QUESTION, read).ids
            assert room == reward.context_length - len(ids)
            assert reward.fits(QUESTION, steps, model._aggregation.reading) == (room >= 0)
            num_outgrown += room < 0
    assert num_outgrown > 0


def test_observing_leaves_the_particles_as_they_are(
    policy: LanguageModel, reward: RewardModel
) -> None:
    expert = LanguageModel(policy.model, policy.tokenizer)
    model = Reasoning(policy, reward, QUESTION, expert=expert, max_steps=5, max_tokens_per_step=60)
    state = model.sample_initial(4, generator=generator(0))
    observed, log_likelihood = model.observe(0, None, state, None)
    assert not bool(state.num_scored.any()) and bool(state.log_odds.isnan().all())
    assert state.reward_cache is None and not state.expert_log_probs.numel()
    assert torch.equal(observed.num_scored, observed.num_steps)
    assert bool(observed.expert_log_probs.isfinite().any())
    before = model.cost()
    again, same = model.observe(0, None, observed, None)
    assert again is observed and torch.equal(same, log_likelihood)
    assert (model.cost() - before).model_calls == 0
    with pytest.raises(FrozenInstanceError):
        state.log_odds = observed.log_odds  # type: ignore[misc]


def test_a_guided_step_knows_its_room(policy: LanguageModel, reward: RewardModel) -> None:
    model = Reasoning(
        policy, reward, QUESTION, constraint=WithoutText("9"), max_steps=4, max_tokens_per_step=60
    )
    particles = GuidedFilter(6).run(model, seed=0).particles
    assert particles.reward_room is None  # a record has nothing of the reward's
    state, _ = model.propose(0, None, None, 6, generator=generator(0))
    assert state.reward_room is not None
    expected = [reward.room_behind(QUESTION, steps) for steps in state.steps]
    assert state.reward_room.tolist() == expected
