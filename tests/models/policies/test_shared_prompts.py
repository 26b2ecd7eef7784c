"""What prompts share is computed once, and what is computed for a prompt depends on no other."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from llmsmc.core.cost import Cost
from llmsmc.models.caches.prefix_cache import MAX_PREFIXES, PrefixCache
from llmsmc.models.caches.row_cache import RowCache
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.minimath.tokenizer import SYSTEM_PROMPT
from llmsmc.models.policies.decoding.requests import ScoreRequest, StepRequest, UniformTable
from llmsmc.models.policies.decoding.step_batch import Drawn, StepBatch
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.text.chat import MIN_SHARED, Prompt, prompt_ids, shared_beginning
from llmsmc.models.text.stopping import TokenCount
from tests.models.architectures import make_model, tokenizer_of

SYSTEM = "First, we add 3 and 4, which is 7. Then we take 7 times 2. " * 8
QUESTIONS = ["What is 12 plus 30?", "12 and 7?", "  Add 3 and 4.\n", "Why?", "\n\n0", "Wo ist é?"]
ARCHITECTURES = {"qwen2": "qwen", "mistral-window": "mistral", "gemma3": "gemma"}


@pytest.fixture(params=ARCHITECTURES)
def policy(request: pytest.FixtureRequest) -> LanguageModel:
    tokenizer = tokenizer_of(ARCHITECTURES[request.param])
    model = make_model(request.param, len(tokenizer), int(tokenizer.eos_token_id))
    return again(LanguageModel(model, tokenizer))


def again(policy: LanguageModel) -> LanguageModel:
    """Return the policy without what it remembers."""
    fresh = LanguageModel(policy.model, policy.tokenizer)
    fresh.eos_ids = ()
    return fresh


def step(prompt: tuple[int, ...], length: int = 6) -> StepRequest:
    nothing = torch.zeros((3, 0), dtype=torch.long), torch.zeros(3, dtype=torch.long)
    uniforms = UniformTable(3, torch.Generator().manual_seed(len(prompt)))
    return StepRequest(
        prompt, *nothing, CacheRows.none(3), TokenCount(length), 99, uniforms=uniforms
    )


def together(policy: LanguageModel, requests: list[StepRequest]) -> list[Drawn]:
    batch, drawn = StepBatch(policy), dict[int, Drawn]()
    batch.join(requests)
    while len(drawn) < len(requests):
        drawn |= {requests.index(request): answer for request, answer in batch.advance()}
    return [answer for _, answer in sorted(drawn.items())]


def num_shared(prompt: tuple[int, ...]) -> int:
    assert isinstance(prompt, Prompt)
    return prompt.num_shared


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("family", ["qwen", "llama3", "gemma", "mistral", "phi3"])
def test_what_prompts_share(family: str, folds: bool) -> None:
    tokenizer = tokenizer_of(family)
    if folds:  # the system prompt stands in the question
        refused = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        tokenizer.chat_template = refused + str(tokenizer.chat_template)
    shared = shared_beginning(tokenizer, SYSTEM, None)
    prompts = [prompt_ids(tokenizer, each, SYSTEM, 999, "", None) for each in QUESTIONS]
    assert len(shared) > MIN_SHARED
    for prompt in prompts:
        assert prompt[: len(shared)] == shared
    # They have nothing else in common.
    assert len({prompt[len(shared)] for prompt in prompts}) > 1


def test_short_beginnings_are_not_marked() -> None:
    policy = LanguageModel.from_pretrained("minimath-policy-small")
    asked = [policy.prompt_ids("What is 3 + 4?" + " 1 + 1" * n, SYSTEM_PROMPT) for n in (0, 30)]
    assert [type(prompt) for prompt in asked] == [tuple, tuple] and len(asked[1]) > MIN_SHARED
    drawn, cost = policy.sample_step(step(asked[1]))
    assert cost.policy_positions >= len(asked[1]) - 1 + int(drawn.num_tokens.max())


def test_a_shared_beginning_is_computed_once(policy: LanguageModel) -> None:
    fed, costs = [0], list[Cost]()
    policy.model.register_forward_pre_hook(
        lambda _, args, given: fed.append(given["input_ids"].numel()), with_kwargs=True
    )
    for question in QUESTIONS[:3]:
        prompt = policy.prompt_ids(question, SYSTEM)
        drawn, cost = policy.sample_step(step(prompt))
        costs.append(cost)
        for ids, found in zip(drawn.token_ids, drawn.log_probs, strict=True):
            expected = again(policy).log_probs(prompt, ids.tolist())
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        fed = [n for n in fed if n != len(prompt) + len(ids)]  # but for the uncached passes
        rest = len(prompt) - 1 - num_shared(prompt)
        once = num_shared(prompt) if question == QUESTIONS[0] else 0
        assert once + rest + 3 <= cost.policy_positions <= once + rest + 3 * 6
        assert cost.model_calls == bool(once) + 1 + 6
    assert sum(fed) == sum(cost.policy_positions for cost in costs)


def test_what_was_asked_before_changes_no_bit(policy: LanguageModel) -> None:
    prompts = [policy.prompt_ids(question, SYSTEM) for question in QUESTIONS]
    first, _ = again(policy).sample_step(step(prompts[0]))
    others = [policy.prompt_ids("Why?", SYSTEM + "A" * n) for n in range(1, MAX_PREFIXES + 1)]
    used = again(policy)
    for before in ([], prompts[1:3], [*others, others[0]], prompts[3:4]):
        for prompt in before:
            used.sample_step(step(prompt, 1))
        drawn, _ = used.sample_step(step(prompts[0]))
        assert torch.equal(drawn.token_ids, first.token_ids)
        assert torch.equal(drawn.log_probs, first.log_probs)


def test_prompts_of_several_kinds_in_one_batch(policy: LanguageModel) -> None:
    systems = [None, SYSTEM, SYSTEM + "!", SYSTEM, None]
    pairs = zip(QUESTIONS, systems, strict=False)
    prompts = [policy.prompt_ids(question, system) for question, system in pairs]
    assert [isinstance(prompt, Prompt) for prompt in prompts] == [False, True, True, True, False]
    answers = together(policy, [step(prompt, n + 2) for n, prompt in enumerate(prompts)])
    widest = max(len(prompt) - 1 - getattr(prompt, "num_shared", 0) for prompt in prompts)
    paid = [0, num_shared(prompts[1]), num_shared(prompts[2]), 0, 0]
    for n, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        assert isinstance(answer, tuple)
        drawn, cost = answer
        assert cost.policy_positions >= paid[n] + widest + n + 2
        assert cost.policy_positions <= paid[n] + widest + 3 * (n + 2) + 15
        assert cost.model_calls == bool(paid[n]) + 1 + n + 2
        for ids, found in zip(drawn.token_ids, drawn.log_probs, strict=True):
            expected = policy.log_probs(prompt, ids.tolist())
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_given_tokens_are_scored_behind_what_prompts_share(policy: LanguageModel) -> None:
    prompt, ids = policy.prompt_ids(QUESTIONS[1], SYSTEM), torch.arange(20, 28)[None]
    counts, positions = torch.tensor([8]), list[int]()
    for _ in range(2):
        request = ScoreRequest(prompt, ids, counts, torch.tensor([3]), CacheRows.none(1))
        scores, cost = policy.score_tokens(request)
        positions.append(cost.policy_positions)
        expected = policy.log_probs(prompt, ids[0].tolist())[3:]
        torch.testing.assert_close(scores.log_probs[0], expected, rtol=0, atol=1e-4)
    assert positions == [len(prompt) - 1 + 8, len(prompt) - 1 + 8 - num_shared(prompt)]


def counted() -> tuple[nn.Linear, PrefixCache, Callable[[str], list[str]]]:
    """Return weights, what remembers prefixes, and a function that asks for some."""
    weights, computed = nn.Linear(2, 2), list[str]()

    def compute(ids: tuple[int, ...]) -> RowCache:
        computed.append(chr(ids[0]))
        return RowCache(1)

    cache = PrefixCache(weights, compute)

    def ask(names: str) -> list[str]:
        computed.clear()
        assert [cache.row((ord(name),))[1] for name in names].count(True) == len(computed)
        return computed

    return weights, cache, ask


def test_the_least_recently_used_leaves() -> None:
    _, _, ask = counted()
    assert MAX_PREFIXES == 4
    assert ask("abcabd") == ["a", "b", "c", "d"]
    assert ask("ea") == ["e"]
    assert ask("c") == ["c"]


def test_what_other_weights_computed_is_forgotten() -> None:
    weights, _, ask = counted()
    assert ask("aa") == ["a"]
    with torch.no_grad():
        weights.weight.mul_(2)
    assert ask("aa") == ["a"]
    weights.bias = nn.Parameter(torch.zeros(2))
    assert ask("a") == ["a"]
