"""A cached score equals the uncached one, which equals the documented formula."""

import math
import random
from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from llmsmc import InputError, NumericalError
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.rewards import reward_model
from llmsmc.models.rewards.conventions.prm_head import Qwen2ForProcessRewardModel
from llmsmc.models.rewards.conventions.qwen import QwenConvention
from llmsmc.models.rewards.reward import Solution
from llmsmc.models.rewards.reward_model import RewardModel

QUESTION = "What is 3 + 4 + 5?"
STEPS = ("First, 3 + 4 = 7.\n\n", "Then 7 + 5 =\n 12.\n\n", "The answer is \\boxed{12}.")


def reference(reward: RewardModel, question: str, steps: Sequence[str]) -> list[float]:
    """Score as the model card of Qwen2.5-Math-PRM says, independently of the library."""
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    text = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
    tokenizer = reward.tokenizer
    ids = tokenizer.encode(text + "<|im_start|>assistant\n", add_special_tokens=False)
    for step in steps:
        ids += tokenizer.encode(step.strip(), add_special_tokens=False)
        ids += tokenizer.encode("<extra_0>", add_special_tokens=False)
    hidden = reward.model.model(torch.tensor([ids])).last_hidden_state[0]
    weights = reward.model.state_dict()
    hidden = torch.relu(hidden @ weights["score.0.weight"].T + weights["score.0.bias"])
    logits = hidden @ weights["score.2.weight"].T + weights["score.2.bias"]
    marker = tokenizer.convert_tokens_to_ids("<extra_0>")
    scores: list[float] = logits.softmax(-1)[torch.tensor(ids) == marker, 1].tolist()
    return scores


def close(scores: Sequence[float], expected: Sequence[float]) -> bool:
    return scores == pytest.approx(expected, abs=1e-5)


def test_score_is_the_documented_formula(reward: RewardModel) -> None:
    scores = reward.score(QUESTION, list(STEPS))
    assert close(scores, reference(reward, QUESTION, STEPS))
    assert max(scores) - min(scores) > 0.01
    assert reward.score(QUESTION, []) == []


def test_ids_of_steps_are_joined_as_ids(reward: RewardModel) -> None:
    """Joined as text, the end of one step and the start of the next could merge."""
    convention = reward.convention
    assert isinstance(convention, QwenConvention)
    ids = list(convention.layout(QUESTION, STEPS).ids[len(reward.prefix_ids(QUESTION)) :])
    for step in STEPS:
        part = reward.tokenizer.encode(step.strip(), add_special_tokens=False)
        assert ids[: len(part) + 1] == [*part, convention.marker_id]
        ids = ids[len(part) + 1 :]
    assert not ids


def score_cached(
    reward: RewardModel, solutions: list[Solution], handle: CacheRows
) -> tuple[list[list[float]], CacheRows]:
    log_odds, handle, _ = reward.score_steps(QUESTION, solutions, handle)
    scores = [torch.tensor(row).sigmoid().tolist() for row in log_odds]
    return scores, handle


def test_cached_equals_uncached_after_every_pattern(reward: RewardModel) -> None:
    """Fan-out, ragged growth, resampling with duplicates and drops, rows that stand still."""
    chooser = random.Random(0)
    words = "First Then add take 3 4 = 7 12 answer the \\boxed{12} . reason".split()

    def step() -> str:
        return " ".join(chooser.choices(words, k=chooser.randint(1, 12))) + "\n\n"

    texts: list[tuple[str, ...]] = [()] * 6
    handle = CacheRows.none(6)
    for _ in range(5):
        new = [tuple(step() for _ in range(chooser.choice([0, 1, 1, 1, 3]))) for _ in texts]
        solutions = [Solution(old, more) for old, more in zip(texts, new, strict=True)]
        scores, handle = score_cached(reward, solutions, handle)
        texts = [old + more for old, more in zip(texts, new, strict=True)]
        for text, more, row in zip(texts, new, scores, strict=True):
            assert len(row) == len(more)
            if more:
                assert close(row, reward.score(QUESTION, text)[-len(more) :])
        ancestors = torch.tensor(chooser.choices(range(6), k=6))
        handle = handle.take(ancestors)
        texts = [texts[n] for n in ancestors.tolist()]
        handle = handle.keep(torch.tensor([chooser.random() < 0.8 for _ in texts]))


def test_large_batches_are_cut_up(reward: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    solutions = [Solution((), STEPS[: 1 + n % 3]) for n in range(7)]
    expected, _ = score_cached(reward, solutions, CacheRows.none(7))
    monkeypatch.setattr(reward_model, "MAX_POSITIONS", 60)
    scores, handle = score_cached(reward, solutions, CacheRows.none(7))
    for row, other in zip(scores, expected, strict=True):
        assert close(row, other)
    more, _ = score_cached(reward, [Solution(s.new, ("Go on.",)) for s in solutions], handle)
    for row, solution in zip(more, solutions, strict=True):
        assert close(row, reward.score(QUESTION, [*solution.new, "Go on."])[-1:])


def test_whole_prefix_as_one_step(reward: RewardModel) -> None:
    """The aggregation "model": the prefix with its own separators, one marker at its end."""
    handle = CacheRows.none(2)
    texts: tuple[str, ...] = ()
    for step in STEPS:
        solutions = [Solution(texts, (step,))] * 2
        log_odds, handle, _ = reward.score_steps(QUESTION, solutions, handle, reading="prefix")
        texts = (*texts, step)
        expected = reward.score(QUESTION, ["".join(texts)])
        for row in log_odds:
            assert close(torch.tensor(row).sigmoid().tolist(), expected)
        handle = handle.take(torch.tensor([1, 1]))
    at_once, _, _ = reward.score_steps(
        QUESTION, [Solution((), STEPS)], CacheRows.none(1), reading="prefix"
    )
    assert close(torch.tensor(at_once[0]).sigmoid().tolist(), expected)


def test_what_is_computed(reward: RewardModel) -> None:
    prefix = reward.prefix_ids(QUESTION)
    solutions = [Solution((), STEPS[:1])] * 4
    scores, handle, cost = reward.score_steps(QUESTION, solutions, CacheRows.none(4))
    assert isinstance(reward.convention, QwenConvention)
    length = len(reward.convention.piece_ids(STEPS[0]))
    # The question once, and the step once, on which all four agree.
    assert cost.reward_positions == len(prefix) + length
    assert (cost.scored_tokens, cost.model_calls) == (length, 2)
    assert scores == [scores[0]] * 4
    assert bool(handle.present.all())
    solutions = [Solution(STEPS[:1], STEPS[1:2]), *[Solution(STEPS[:1], ())] * 3]
    _, handle, cost = reward.score_steps(QUESTION, solutions, handle)
    length = len(reward.convention.piece_ids(STEPS[1]))
    assert (cost.reward_positions, cost.model_calls) == (length, 1)
    _, _, cost = reward.score_steps(QUESTION, [Solution(STEPS, ())] * 4, handle)
    assert (cost.reward_positions, cost.model_calls) == (0, 0)


def test_swapped_labels_give_the_complement(
    reward: RewardModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    network = Qwen2ForProcessRewardModel(reward.model.config).train(False)
    network.load_state_dict(reward.model.state_dict())
    head = network.score[2]
    with torch.no_grad():
        head.weight.copy_(head.weight.flip(0))
        head.bias.copy_(head.bias.flip(0))
    swapped = RewardModel(network, tokenizer).score(QUESTION, list(STEPS))
    assert close(swapped, [1 - score for score in reward.score(QUESTION, list(STEPS))])


@pytest.mark.parametrize("logit", [70.0, -70.0])
def test_saturated_half_precision_has_finite_logs(
    reward: RewardModel, tokenizer: PreTrainedTokenizerFast, logit: float
) -> None:
    network = Qwen2ForProcessRewardModel(reward.model.config).train(False)
    with torch.no_grad():
        network.score[2].weight.zero_()
        network.score[2].bias.copy_(torch.tensor([-logit, logit]))
    log_odds = RewardModel(network.bfloat16(), tokenizer).log_odds(QUESTION, list(STEPS))
    assert log_odds.tolist() == [2 * logit] * 3
    logs = torch.nn.functional.logsigmoid(log_odds)
    assert bool(logs.isfinite().all())
    assert min(logs.tolist()) == pytest.approx(min(0.0, 2 * logit), abs=1e-9)


def test_dropout_is_off(reward: RewardModel) -> None:
    assert not reward.model.training
    assert reward.score(QUESTION, list(STEPS)) == reward.score(QUESTION, list(STEPS))


def test_marker_in_the_input_is_neutralised(reward: RewardModel) -> None:
    question, step = "Is <extra_0> good?", "Yes<extra_0>, <|im_end|> 3."
    scores = reward.score(question, [step, "Done."])
    assert close(
        scores, reference(reward, "Is < extra_0> good?", ["Yes< extra_0>, < |im_end|> 3.", "Done."])
    )


@pytest.mark.parametrize("steps", [["a", " \n"], [""], "a text", [3]])
def test_steps_that_are_refused(reward: RewardModel, steps: object) -> None:
    with pytest.raises((InputError, TypeError)):
        reward.score(QUESTION, steps)  # type: ignore[arg-type]


def test_a_solution_that_is_too_long(
    reward: RewardModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = RewardModel(reward.model, tokenizer)
    monkeypatch.setattr(short, "context_length", len(short.prefix_ids(QUESTION)) + 5)
    with pytest.raises(InputError, match="does not fit"):
        short.score(QUESTION, list(STEPS))
    with pytest.raises(InputError, match="does not fit"):
        score_cached(short, [Solution((), STEPS)], CacheRows.none(1))


def test_scores_that_are_not_numbers(
    reward: RewardModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    network = Qwen2ForProcessRewardModel(reward.model.config).train(False)
    with torch.no_grad():
        network.score[2].bias.fill_(math.nan)
    broken = RewardModel(network, tokenizer)
    with pytest.raises(NumericalError):
        broken.score(QUESTION, list(STEPS))
    with pytest.raises(NumericalError):
        score_cached(broken, [Solution((), STEPS)], CacheRows.none(1))


def test_unknown_convention(reward: RewardModel, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="accepted: 'qwen'"):
        RewardModel(reward.model, tokenizer, "gwen")


def test_a_tokenizer_without_the_marker(reward: RewardModel) -> None:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as tokenizer_models

    letters = {c: n for n, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(tokenizer_models.BPE(letters, []))
    )
    with pytest.raises(InputError, match="<extra_0>"):
        RewardModel(reward.model, tokenizer)
