"""Rewards that are no single network: functions, ensembles, two language models, a judge."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from llmsmc import InputError
from llmsmc.inference import BootstrapFilter, ParticleGibbs
from llmsmc.models import (
    GenerativeJudge,
    ImplicitReward,
    LanguageModel,
    Reasoning,
    RewardEnsemble,
    RewardFunction,
    RewardModel,
    fit_temperature,
)
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.rewards.arithmetic_reward import ArithmeticReward
from llmsmc.models.rewards.own_log_prob import OwnLogProb
from llmsmc.models.rewards.policy_ratio import PolicyRatio
from llmsmc.models.rewards.reward import Reward, Solution
from llmsmc.models.text.stopping import TokenCount
from tests.models.conftest import WIDE, make_reward_network
from tests.models.tiny_rewards import logits_of

QUESTION = "What is 3 + 4 - 5?"
STEPS = ("First, 3 + 4 = 7.\n\n", "Then 7 - 5 = 2.\n\n", "The answer is 2.")


def brevity(question: str, steps: Sequence[str]) -> list[float]:
    return [1 / (1 + len(step.strip()) / 40) for step in steps]


def close(scores: Any, expected: Any) -> bool:
    return list(scores) == pytest.approx(list(expected), abs=1e-5)


@pytest.fixture(scope="module")
def implicit(policy: LanguageModel, policy_of: Callable[..., LanguageModel]) -> ImplicitReward:
    reference = policy_of("llama", **WIDE)
    return ImplicitReward(policy, reference, coefficient=0.05)


@pytest.fixture(scope="module")
def judge(policy: LanguageModel) -> GenerativeJudge:
    # With seed 0 a uniform number falls within 2e-9 of the edge between two tokens.
    return GenerativeJudge(policy, num_critiques=2, max_tokens=6, temperature=1.0, seed=1)


@pytest.fixture(scope="module")
def other(policy: LanguageModel) -> RewardModel:
    """A second network, with another head."""
    network = make_reward_network(len(policy.tokenizer))
    with torch.no_grad():
        network.get_parameter("score.2.weight").neg_()
    return RewardModel(network, policy.tokenizer, calibration=2.0)


@pytest.fixture(params=["function", "ensemble", "implicit", "judge", "own", "ratio", "sums"])
def each(
    request: pytest.FixtureRequest,
    reward: RewardModel,
    other: RewardModel,
    implicit: ImplicitReward,
    judge: GenerativeJudge,
    policy: LanguageModel,
) -> Reward:
    rewards: dict[str, Reward] = {
        "function": RewardFunction(brevity),
        "ensemble": RewardEnsemble([reward, brevity, RewardEnsemble([other, implicit])]),
        "implicit": implicit,
        "judge": judge,
        "own": OwnLogProb(policy),
        "ratio": PolicyRatio(implicit.reference, policy, coefficient=0.05),
        "sums": ArithmeticReward(),
    }
    return rewards[request.param]


def test_incremental_equals_full_and_batch_equals_single(each: Reward) -> None:
    texts = [STEPS[:1], STEPS[:2], ("Take 3.\n\n",), STEPS[:1]]
    log_odds, handle, _ = each.score_steps(
        QUESTION, [Solution((), text) for text in texts], CacheRows.none(4)
    )
    for row, text in zip(log_odds, texts, strict=True):
        assert close(torch.tensor(row).sigmoid().tolist(), each.score(QUESTION, text))
    ancestors = [1, 0, 0, 2]
    handle = handle.take(torch.tensor(ancestors))
    handle = handle.keep(torch.tensor([True, True, False, True]))
    new = [STEPS[2:], STEPS[1:], (), ("So.\n\n",)]
    solutions = [Solution(texts[a], more) for a, more in zip(ancestors, new, strict=True)]
    log_odds, handle, cost = each.score_steps(QUESTION, solutions, handle)
    for row, solution in zip(log_odds, solutions, strict=True):
        expected = each.score(QUESTION, solution.steps)[len(solution.scored) :]
        assert close(torch.tensor(row).sigmoid().tolist(), expected)
    again, _, cost = each.score_steps(QUESTION, [Solution(STEPS, ())] * 4, handle)
    assert again == [[]] * 4 and cost.reward_positions == 0


def test_steps_that_are_given_up(each: Reward) -> None:
    whole, handle, _ = each.score_steps(QUESTION, [Solution((), STEPS)], CacheRows.none(1))
    handle = each.rewind(QUESTION, handle, [STEPS], [STEPS[:1]])
    solutions = [Solution(STEPS[:1], ("Or 2.\n\n", STEPS[2]))]
    log_odds, _, _ = each.score_steps(QUESTION, solutions, handle)
    expected = each.score(QUESTION, solutions[0].steps)[1:]
    assert close(torch.tensor(log_odds[0]).sigmoid().tolist(), expected)


def test_the_whole_solution_has_one_score(each: Reward) -> None:
    log_odds, handle, _ = each.score_steps(
        QUESTION, [Solution((), STEPS[:2])], CacheRows.none(1), reading="prefix"
    )
    more, _, _ = each.score_steps(
        QUESTION, [Solution(STEPS[:2], STEPS[2:])], handle, reading="prefix"
    )
    assert [len(row) for row in (*log_odds, *more) if isinstance(row, list)] == [1, 1]


@pytest.mark.parametrize("aggregation", ["product", "last", "model"])
def test_reasoning(each: Reward, policy: LanguageModel, aggregation: str) -> None:
    model = Reasoning(
        policy,
        each,
        QUESTION,
        aggregation=aggregation,
        max_steps=3,
        max_tokens_per_step=6,
    )
    posterior = BootstrapFilter(num_particles=3).run(model, seed=0)
    assert bool(posterior.log_weights.isfinite().all())
    # Tokens that are drawn may spell a text as no tokenizer does: see test_written.py.
    if aggregation != "model" and not getattr(each, "reads_written", False):
        for particle in posterior.particles:
            assert close(particle.rewards, each.score(QUESTION, particle.steps))


def test_conditional_runs(each: Reward, policy: LanguageModel) -> None:
    """Solutions go back, and are put together: what is remembered goes with them."""
    model = Reasoning(policy, each, QUESTION, max_steps=3, max_tokens_per_step=6)
    posterior = ParticleGibbs(num_particles=3, num_sweeps=1, num_warmup=0).run(model, seed=0)
    for particle in posterior.particles:
        if not getattr(each, "reads_written", False):
            assert close(particle.rewards, each.score(QUESTION, particle.steps))


def test_a_function_in_the_place_of_a_reward(policy: LanguageModel) -> None:
    model = Reasoning(policy, brevity, QUESTION, max_steps=2, max_tokens_per_step=6)
    posterior = BootstrapFilter(num_particles=2).run(model, seed=0)
    for particle in posterior.particles:
        assert close(particle.rewards, brevity(QUESTION, particle.steps))


def test_certain_scores_are_allowed() -> None:
    certain = RewardFunction(lambda question, steps: [float("7" in step) for step in steps])
    log_odds, _, _ = certain.score_steps(QUESTION, [Solution((), STEPS)], CacheRows.none(1))
    assert log_odds == [[math.inf, math.inf, -math.inf]]
    mixed = RewardEnsemble([certain, brevity]).score(QUESTION, STEPS)
    assert close(
        mixed, [(1 + b) / 2 for b in brevity(QUESTION, STEPS[:2])] + [brevity("", STEPS[2:])[0] / 2]
    )


def test_combinations(reward: RewardModel, other: RewardModel) -> None:
    first, second = (torch.tensor(r.score(QUESTION, STEPS)).double() for r in (reward, other))
    expected: dict[Any, Tensor] = {
        "mean": (first + second) / 2,
        "geometric": ((first.logit() + second.logit()) / 2).sigmoid(),
        "min": torch.minimum(first, second),
    }
    for name, scores in expected.items():
        assert close(RewardEnsemble([reward, other], name).score(QUESTION, STEPS), scores.tolist())
    own = RewardEnsemble([reward, other], lambda log_odds: log_odds.amax(0))
    assert close(own.score(QUESTION, STEPS), torch.maximum(first, second).tolist())
    assert own.score(QUESTION, []) == []
    with pytest.raises(InputError, match="'mean', 'geometric', 'min'"):
        RewardEnsemble([reward], "max")
    with pytest.raises(InputError, match="at least one"):
        RewardEnsemble([])
    with pytest.raises(InputError, match="one score for each step"):
        RewardEnsemble([reward], lambda log_odds: log_odds).score(QUESTION, STEPS)


def test_an_ensemble_has_the_room_of_its_smallest_member(reward: RewardModel) -> None:
    short = RewardModel(reward.model, reward.tokenizer)
    short.context_length = len(short.prefix_ids(QUESTION)) + 3
    both = RewardEnsemble([reward, short])
    assert reward.fits(QUESTION, STEPS) and not both.fits(QUESTION, STEPS)
    short.context_length = 5
    with pytest.raises(InputError, match="does not fit"):
        both.check(QUESTION)


def test_the_log_ratio_of_two_language_models(implicit: ImplicitReward) -> None:
    """Ten lines from the formula."""
    tokenizer = implicit.policy.tokenizer
    ids, ends = list[int](), list[int]()
    for number, step in enumerate(STEPS):
        ids += tokenizer.encode("\n\n", add_special_tokens=False) if number else []
        ids += tokenizer.encode(step.strip(), add_special_tokens=False)
        ends.append(len(ids))
    prompt = list(implicit.policy.prompt_ids(QUESTION))
    sums = []
    for model in (implicit.policy.model, implicit.reference.model):
        laws = logits_of(model, prompt + ids)[len(prompt) - 1 : -1].log_softmax(-1)
        sums.append(torch.stack([laws[range(end), ids[:end]].sum() for end in ends]))
    expected = (0.05 * (sums[0] - sums[1])).sigmoid()
    assert close(implicit.score(QUESTION, STEPS), expected.tolist())
    assert float(expected.amax() - expected.amin()) > 1e-3


def test_each_token_is_read_once_by_both_models(implicit: ImplicitReward) -> None:
    question = "Is 3 + 4 = 7?"
    prompt = len(implicit.policy.prompt_ids(question))
    counts = [len(implicit._ids(STEPS[:count])[0]) for count in (2, 3)]
    _, handle, cost = implicit.score_steps(
        question, [Solution((), STEPS[:2])] * 3, CacheRows.none(3)
    )
    assert cost.reward_positions == 2 * (prompt - 1 + counts[0])
    solutions = [Solution(STEPS[:2], STEPS[2:])] * 3
    _, _, cost = implicit.score_steps(question, solutions, handle)
    assert cost.reward_positions == 2 * (counts[1] - counts[0])


def test_models_with_other_tokens(implicit: ImplicitReward, policy: LanguageModel) -> None:
    with pytest.raises(InputError, match="coefficient"):
        ImplicitReward(policy, policy, coefficient=0.0)
    assert ImplicitReward(policy, policy).score(QUESTION, STEPS) == [0.5] * 3
    short = ImplicitReward(policy, policy)
    short.policy.context_length, whole = 40, short.policy.context_length
    try:
        assert not short.fits(QUESTION, STEPS)
        with pytest.raises(InputError, match="does not fit"):
            short.score(QUESTION, STEPS)
    finally:
        short.policy.context_length = whole


def test_the_verdict_of_a_judge(judge: GenerativeJudge) -> None:
    """With greedy critiques: generate by hand, ask, compare yes with no."""
    greedy = GenerativeJudge(judge.model, max_tokens=5, temperature=0)
    tokenizer, network = judge.model.tokenizer, judge.model.model
    ids = list(greedy._prompt(QUESTION, STEPS[:2]))
    text = str(tokenizer.decode(ids))
    assert "[Solution]\n\nStep 1: First, 3 + 4 = 7.\nStep 2: Then 7 - 5 = 2.\n\n" in text
    assert text.endswith("\nLet's verify step by step:")
    for _ in range(5):
        following = int(logits_of(network, ids)[-1].argmax())
        if following in judge.model.eos_ids:
            break
        ids.append(following)
    ids += tokenizer.encode("\nIs the solution correct?", add_special_tokens=False)
    sums = []
    for label in (" yes", " no"):
        label_ids = tokenizer.encode(label, add_special_tokens=False)
        sums.append(float(judge.model.log_probs(ids, label_ids).sum()))
    expected = math.exp(sums[0]) / (math.exp(sums[0]) + math.exp(sums[1]))
    assert close(greedy.score(QUESTION, STEPS[:2])[1:], [expected])


def test_critiques_belong_to_what_they_judge(judge: GenerativeJudge) -> None:
    settings: dict[str, Any] = {"num_critiques": 2, "max_tokens": 6, "temperature": 1.0}
    same = GenerativeJudge(judge.model, **settings, seed=1)
    assert close(same.score(QUESTION, STEPS), judge.score(QUESTION, STEPS))
    assert close(same.score(QUESTION, STEPS[:1]), judge.score(QUESTION, STEPS)[:1])
    reseeded = GenerativeJudge(judge.model, **settings, seed=2)
    assert not close(reseeded.score(QUESTION, STEPS), judge.score(QUESTION, STEPS))


def test_judges_that_are_refused(policy: LanguageModel) -> None:
    with pytest.raises(InputError, match="no room for a critique"):
        GenerativeJudge(policy, max_tokens=10**6).check(QUESTION)
    with pytest.raises(InputError, match="{problem} and {solution}"):
        GenerativeJudge(policy, instruction="Is it right? {problem}")
    with pytest.raises(InputError, match="num_critiques"):
        GenerativeJudge(policy, num_critiques=0)
    with pytest.raises(InputError, match="temperature"):
        GenerativeJudge(policy, temperature=-1.0)


def test_the_temperature_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    log_odds = 3 * torch.randn(20000, generator=generator, dtype=torch.float64)
    labels = (
        torch.rand(20000, generator=generator, dtype=torch.float64) < (log_odds / 2.5).sigmoid()
    )
    temperature = fit_temperature(log_odds, labels)
    # The information in one step about 1 / T is the mean of l^2 r (1 - r).
    rates = (log_odds / 2.5).sigmoid()
    information = float((log_odds**2 * rates * (1 - rates)).sum())
    assert abs(1 / temperature - 1 / 2.5) < 4 / math.sqrt(information)
    signed = torch.where(labels, log_odds, -log_odds)
    losses = [
        -(signed / t).sigmoid().log().sum()
        for t in (0.99 * temperature, temperature, 1.01 * temperature)
    ]
    assert losses[1] == min(losses)
    assert fit_temperature([2.0, 2.0, 2.0, -1.0], [True, True, False, False]) > 0


@pytest.mark.parametrize(
    ("log_odds", "labels", "got"),
    [
        ([1.0, -1.0], [True, False], "agree with all"),
        ([1.0, -1.0], [False, True], "other sign"),
        ([1.0], [True, False], "1 log-odds and 2 labels"),
        ([], [], "0 log-odds"),
        ([math.inf, 1.0], [True, False], "finite"),
    ],
)
def test_labels_that_fit_no_temperature(
    log_odds: list[float], labels: list[bool], got: str
) -> None:
    with pytest.raises(InputError, match=got):
        fit_temperature(log_odds, labels)


def test_steps_may_be_cut_anywhere(each: Reward, policy: LanguageModel) -> None:
    """Steps by tokens, whose texts join without a separator."""
    model = Reasoning(policy, each, QUESTION, step=TokenCount(4), max_steps=3)
    posterior = BootstrapFilter(num_particles=2).run(model, seed=1)
    if getattr(each, "reads_written", False):
        return  # of the tokens that were drawn, not of their texts: see test_written.py
    for particle in posterior.particles:
        assert close(particle.rewards, each.score(QUESTION, particle.steps))
