"""A policy in llama.cpp, beside the same file in transformers. Skipped without the bindings."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator
from transformers import PreTrainedTokenizerFast

from llmsmc.errors import InputError
from llmsmc.inference import BestOfN, BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.batching.scheduler import run_together
from llmsmc.models.batching.shared import share_policy
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import (
    ScoreRequest,
    StepRequest,
    UniformTable,
    UniformTables,
)
from llmsmc.models.policies.llama_cpp_model import LlamaCppModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.pretrained.llama_cpp import is_installed
from llmsmc.models.text.stopping import TokenCount
from tests.models import gguf_files as files
from tests.models.conftest import tokenizer  # noqa: F401 - a fixture
from tests.statistics import p_value_of_law

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="llama-cpp-python is not installed (extra llama-cpp)"
)
QUESTION = "What is 12 plus 30?"
TOLERANCE = 2e-2
"""Nats a token: the engine keeps keys and values in half precision."""


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def path(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer: PreTrainedTokenizerFast,  # noqa: F811
) -> Path:
    file = tmp_path_factory.mktemp("llama") / "tiny.gguf"
    files.write(file, files.network(request.param, len(tokenizer), tied=True), tokenizer)
    return file


@pytest.fixture(scope="module")
def policy(path: Path) -> LlamaCppModel:
    return LlamaCppModel.from_pretrained(path, num_cells=512)


@pytest.fixture(scope="module")
def plain(path: Path) -> LanguageModel:
    return LanguageModel.from_pretrained(path, device="cpu", dtype="float32")


def request_of(policy: Policy, count: int, seed: int = 0, **settings: Any) -> StepRequest:
    nothing, none = torch.zeros((count, 0), dtype=torch.long), torch.zeros(count, dtype=torch.long)
    uniforms = UniformTable(count, Generator().manual_seed(seed))
    given: dict[str, Any] = {
        "rule": TokenCount(6),
        "max_tokens": 6,
        "uniforms": uniforms,
    } | settings
    return StepRequest(policy.prompt_ids(QUESTION), nothing, none, CacheRows.none(count), **given)


def test_the_law_is_that_of_the_same_file_in_transformers(
    policy: LlamaCppModel, plain: LanguageModel
) -> None:
    assert policy.vocab_size == plain.vocab_size and policy.eos_ids == plain.eos_ids
    prompt = policy.prompt_ids(QUESTION)
    assert prompt == plain.prompt_ids(QUESTION)
    ids = [7, 3, 11, 4, 9, 5]
    found, expected = (each.log_probs(prompt, ids) for each in (policy, plain))
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_what_is_drawn_is_scored_as_it_was_drawn(policy: LlamaCppModel) -> None:
    """By the cached path and by a plain pass: both log-probabilities are known and exact."""
    drawn, cost = policy.sample_step(request_of(policy, 5, temperature=0.7))
    prompt = policy.prompt_ids(QUESTION)
    assert cost.generated_tokens == int(drawn.num_tokens.sum())
    for n in range(5):
        ids = drawn.token_ids[n, : drawn.num_tokens[n]].tolist()
        policy.memory.clear()
        again = policy.log_probs(prompt, ids)
        torch.testing.assert_close(drawn.log_probs[n, : len(ids)], again, rtol=0, atol=TOLERANCE)
    starts = torch.zeros(5, dtype=torch.long)
    scores, _ = policy.score_tokens(
        ScoreRequest(prompt, drawn.token_ids, drawn.num_tokens, starts, CacheRows.none(5), 0.7)
    )
    for found, expected in (
        (scores.log_probs, drawn.log_probs),
        (scores.tempered_log_probs, drawn.transition_log_probs),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_first_tokens_have_the_law_of_the_scores(policy: LlamaCppModel) -> None:
    count, temperature = 3000, 1.5
    request = request_of(
        policy, count, 5, rule=TokenCount(1), max_tokens=1, temperature=temperature
    )
    drawn, _ = policy.sample_step(request)
    logits, _ = policy.forward(policy.new_rows(1), torch.tensor([request.prompt_ids]))
    law = (logits[0, 0] / temperature).softmax(-1).double()
    counts = torch.bincount(drawn.token_ids[:, 0], minlength=policy.vocab_size)
    assert p_value_of_law(counts, law) > 1e-4


def test_draws_do_not_depend_on_the_batch(policy: LlamaCppModel) -> None:
    def streams(numbers: list[int]) -> UniformTables:
        return UniformTables([Generator().manual_seed(n) for n in numbers])

    together, _ = policy.sample_step(request_of(policy, 4, uniforms=streams([0, 1, 2, 3])))
    for n in range(4):
        alone, _ = policy.sample_step(request_of(policy, 1, uniforms=streams([n])))
        assert torch.equal(alone.token_ids[0], together.token_ids[n])


def test_steps_go_on_from_what_is_remembered(policy: LlamaCppModel) -> None:
    """Resampled particles go on behind shared texts, and nothing of them is computed again."""
    first, _ = policy.sample_step(request_of(policy, 3))
    parents = torch.tensor([0, 0, 2, 0])
    request = StepRequest(
        policy.prompt_ids(QUESTION),
        first.token_ids[parents],
        first.num_tokens[parents],
        first.handle.take(parents),
        rule=TokenCount(4),
        max_tokens=4,
        uniforms=UniformTable(4, Generator().manual_seed(3)),
    )
    before = policy.memory.num_computed
    drawn, _ = policy.sample_step(request)
    assert policy.memory.num_computed - before <= int(drawn.num_tokens.sum())
    for n, parent in enumerate(parents.tolist()):
        given = first.token_ids[parent, : first.num_tokens[parent]].tolist()
        ids = drawn.token_ids[n, : drawn.num_tokens[n]].tolist()
        policy.memory.clear()
        again = policy.log_probs([*policy.prompt_ids(QUESTION), *given], ids)
        torch.testing.assert_close(drawn.log_probs[n, : len(ids)], again, rtol=0, atol=TOLERANCE)


@pytest.fixture
def small(path: Path) -> Iterator[LlamaCppModel]:
    """A policy whose memory holds a few texts of this length, and no more."""
    yield LlamaCppModel.from_pretrained(path, num_cells=256)


def test_a_memory_that_is_too_small_changes_no_law(small: LlamaCppModel) -> None:
    """Twelve texts, of which it holds five, are computed in parts, and again where they left."""
    model = Reasoning(
        small,
        lambda question, steps: [0.2 + 0.1 * (len(step) % 5) for step in steps],
        QUESTION,
        step=TokenCount(8),
        max_steps=4,
    )
    particles = BootstrapFilter(12).run(model, seed=1).particles
    assert small.memory.num_computed > 12 * 32 + 100, "nothing has left it"
    for n in range(12):
        ids = particles.token_ids[n, : particles.num_tokens[n]].tolist()
        small.memory.clear()
        again = small.log_probs(model.prompt_ids, ids)
        found = particles.log_probs[n, : len(ids)]
        torch.testing.assert_close(found, again, rtol=0, atol=TOLERANCE)


def test_several_questions_share_its_batches(policy: LlamaCppModel) -> None:
    shared = share_policy(policy)
    assert isinstance(shared, LlamaCppModel)
    assert [name for name, has in vars(policy).items() if vars(shared)[name] is not has] == []

    def answered(policy: Policy, question: str) -> Counter[str]:
        model = Reasoning(
            policy,
            lambda question, steps: [0.5] * len(steps),
            question,
            step=TokenCount(5),
            max_steps=2,
        )
        posterior = BestOfN(3).run(model, seed=2)
        return Counter(map(str, posterior.particles.token_ids.tolist()))

    questions = ["What is 1 plus 2?", "What is 3 plus 4?", "What is 5 plus 6?"]
    alone = [answered(policy, question) for question in questions]
    tasks: list[Callable[[], Counter[str]]] = [
        partial(answered, shared, question) for question in questions
    ]
    assert dict(run_together(tasks, 3)) == dict(enumerate(alone))


def test_hidden_states_are_not_told(policy: LlamaCppModel) -> None:
    with pytest.raises(InputError, match="does not tell the hidden states.*--engine transformers"):
        policy.forward(policy.new_rows(1), torch.tensor([[1]]), reads=True)


def test_files_that_are_none(path: Path) -> None:
    with pytest.raises(InputError, match="computes GGUF files"):
        LlamaCppModel.from_pretrained("minimath-policy")
    with pytest.raises(InputError, match="num_cells"):
        LlamaCppModel.from_pretrained(path, num_cells=0)


def test_what_is_said_of_it(policy: LlamaCppModel) -> None:
    assert policy.precision == f"llama.cpp, weights in {policy.stored}"
    assert policy.weight_bytes > 0 and policy.device == torch.device("cpu")
