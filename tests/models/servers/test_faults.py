"""Good answers of each engine, with one value of each put out of joint.

What comes of it is an error of the library that concerns one particle, or the same as without it.
"""

import contextlib
import copy
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from llmsmc.errors import InputError, ServerError
from llmsmc.inference import SelfConsistency
from llmsmc.models import Reasoning, RemoteLanguageModel
from llmsmc.models.rewards.conventions.convention import Layout
from llmsmc.models.rewards.remote_reward_model import _Pooled
from llmsmc.models.servers.chat import Chat
from llmsmc.models.servers.client import Client
from llmsmc.models.servers.engine import Engine
from llmsmc.models.servers.llama_cpp import LlamaCpp
from llmsmc.models.servers.probe import MOST_TOKENS, probe
from llmsmc.models.servers.rows import Limits, PendingStep, draw_rows
from llmsmc.models.servers.sglang import SGLang
from llmsmc.models.servers.vllm import Vllm
from llmsmc.models.text.stopping import EOS, FAILED, LENGTH, WholeAnswer
from tests.models.servers.fake_servers import FakeServer, Json, serving

SIZE = 300  # of the vocabulary

VLLM: Json = {
    "choices": [
        {
            "token_ids": [7, 8],
            "logprobs": {"token_logprobs": [-1.0, -2.0]},
            "finish_reason": "length",
            "stop_reason": None,
        }
    ],
    "usage": {
        "prompt_tokens": 2,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 1},
    },
}
SGLANG = {
    "output_ids": [7, 8],
    "meta_info": {
        "finish_reason": {"type": "length", "matched": None},
        "prompt_tokens": 2,
        "cached_tokens": 1,
        "completion_tokens": 2,
        "output_token_logprobs": [[-1.0, 7, None], [-2.0, 8, None]],
    },
}
LLAMA_CPP = {
    "tokens": [7, 8],
    "tokens_predicted": 2,
    "tokens_evaluated": 2,
    "stop_type": "limit",
    "timings": {"cache_n": 1},
}
CHAT = {
    "choices": [{"message": {"content": "It is 3."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 2},
}
LABELS: Json = {
    "choices": [{"logprobs": {"top_logprobs": [{"token_id:3": -1.0, "token_id:4": -2.0}]}}]
}
SGLANG_LABELS: Json = {
    "meta_info": {"output_token_ids_logprobs": [[[-1.0, 3, None], [-2.0, 4, None]]]}
}
SCORES: Json = {
    "choices": [{"prompt_logprobs": [None, {"3": {"logprob": -1.0}}, {"4": {"logprob": -2.0}}]}]
}
POOLING = {"data": [{"index": 0, "data": [[0.1, 0.9], [0.3, 0.7]]}]}

# None stands where a server says nothing: it may be in the place of what is not needed.
ODD: list[Any] = [
    None,
    True,
    -1,
    1.5,
    SIZE,
    10**30,
    math.nan,
    math.inf,
    -math.inf,
    0.5,
    "7",
    "\ud800",
    "\x1b[2J",
    [],
    [None],
    {},
    {"a": {"b": [1]}},
    [[[[[]]]]],
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something in JSON, from the whole of it to each number."""
    yield path
    for key, child in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        yield from places(child, (*path, key))


def mutations(good: Any) -> Iterator[tuple[str, Any]]:
    """Every place with everything odd in it, and without what is there."""
    for path in places(good):
        for odd in ODD if not path else [*ODD, ...]:
            changed = [copy.deepcopy(good)]
            within: Any = changed
            for key in (steps := (0, *path))[:-1]:
                within = within[key]
            if odd is ...:
                del within[steps[-1]]
            else:
                within[steps[-1]] = odd
            yield f"{path} = {odd!r}", changed[0]


ENGINES: dict[str, tuple[Engine, Any]] = {
    "vllm": (Vllm("m"), VLLM),
    "sglang": (SGLang(), SGLANG),
    "llama.cpp": (LlamaCpp(), LLAMA_CPP),
    "chat": (Chat("m"), CHAT),
}


Servers = Callable[[str], tuple[FakeServer, RemoteLanguageModel]]


@pytest.fixture(scope="module")
def servers(tokenizer: PreTrainedTokenizerFast, policy_folder: Path) -> Iterator[Servers]:
    with contextlib.ExitStack() as running:

        @cache
        def made(kind: str) -> tuple[FakeServer, RemoteLanguageModel]:
            server = running.enter_context(serving(kind, tokenizer))
            policy = RemoteLanguageModel(server.url, tokenizer=str(policy_folder), retry_for=0)
            running.callback(policy.close)
            return server, policy

        yield made


def limits_of(kind: str) -> Limits:
    pieces = [b"%d" % id for id in range(SIZE)]
    rule = WholeAnswer()
    return Limits.of(
        rule,
        rule.automaton(pieces),
        pieces,
        (),
        2,
        1.0,
        whole=kind == "chat",
        log_probs=kind in ("vllm", "sglang"),
    )


class Saying(Client):
    """A client that is told what comes back, by the path or for all of them."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1", api_key="sk-of-the-faults", retry_for=0)
        self.answer: Any = None
        self.pages: Json = {}

    async def _ask(self, method: str, path: str, body: Any, seconds: float) -> Any:
        if method == "GET" and path not in self.pages:
            raise ServerError("404, Not Found", is_down=False)
        return self.pages[path] if method == "GET" else self.answer


@pytest.fixture(scope="module")
def saying() -> Iterator[Saying]:
    made = Saying()
    yield made
    made.close()


def is_ours(error: ServerError | InputError) -> bool:
    return str(error).isprintable() and len(str(error)) < 500


@pytest.mark.parametrize("kind", ENGINES)
def test_an_odd_value_fails_its_particle_or_does_not_matter(kind: str, saying: Saying) -> None:
    engine, good = ENGINES[kind]
    limits, failed, answers = limits_of(kind), 0, list(mutations(good))
    for what, saying.answer in [("nothing", good), *answers]:
        row = PendingStep(tuple(b"[]"), 100, seed=0)
        saying.run(draw_rows(saying, engine, [row], limits))
        cost = asdict(row.cost)
        reasons, has_failed = cost.pop("failures"), row.reason == FAILED
        assert sum(reasons.values()) == cost["failed_particles"] == has_failed
        assert all(number >= 0 for number in cost.values()), what
        if row.reason == FAILED:
            failed += 1
            assert what != "nothing" and row.ids == [] and row.log_probs == []
            assert row.error is not None and is_ours(row.error) and not row.error.is_down
            assert "http://127.0.0.1:1/" in str(row.error)
        elif kind == "chat":
            assert set(row.ids) <= set(range(257)) and row.reason in (EOS, LENGTH)
        else:
            fewer = what.endswith("Ellipsis")  # which may be right, and is then asked for
            assert row.ids == [7, 8] or (fewer and set(row.ids) <= {7, 8}), what
            known = kind == "llama.cpp" or (set(row.log_probs) <= {-1.0, -2.0})
            assert known and len(row.log_probs) == len(row.ids), what
    assert failed > 0.6 * len(answers)


READERS: dict[str, tuple[Any, Any, list[float]]] = {
    "labels of vLLM": (partial(Vllm("m").read_labels, labels=[3, 4]), LABELS, [-1.0, -2.0]),
    "labels of SGLang": (partial(SGLang().read_labels, labels=[3, 4]), SGLANG_LABELS, [-1.0, -2.0]),
    "scores": (partial(Vllm("m").read_scores, ids=[2, 3, 4]), SCORES, [-1.0, -2.0]),
    "pooling": (
        partial(_Pooled("m")._log_odds, layout=Layout((1, 2, 3), (1, 2)), count=2),
        POOLING,
        [0.8, 0.4],
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_odd_numbers_are_no_scores(name: str) -> None:
    read, good, expected = READERS[name]
    assert read(good) == pytest.approx(expected)
    refused, answers = 0, list(mutations(good))
    for what, answer in answers:
        try:
            numbers = read(answer)
        except ServerError as error:
            refused += 1
            assert is_ours(error) and not error.is_down
        else:
            assert len(numbers) == 2 and all(map(math.isfinite, numbers)), what
            assert name == "pooling" or max(numbers) <= 0, what
    assert refused > 0.6 * len(answers)


PAGES: dict[str, tuple[Json, Any]] = {
    "vllm": (
        {
            "/version": {"version": "0.32.0"},
            "/v1/models": {"data": [{"id": "m", "max_model_len": 2048}]},
        },
        VLLM | {"choices": [VLLM["choices"][0] | LABELS["choices"][0] | SCORES["choices"][0]]},
    ),
    "sglang": (
        {
            "/server_info": {
                "served_model_name": "m",
                "version": "0.5.23",
                "context_length": 2048,
                "enable_deterministic_inference": True,
            },
            "/get_model_info": {"model_path": "m"},
        },
        SGLANG_LABELS,
    ),
    "llama.cpp": (
        {
            "/props": {
                "default_generation_settings": {"n_ctx": 2048},
                "build_info": "b9999",
                "model_path": "m.gguf",
            }
        },
        LLAMA_CPP,
    ),
    "chat": ({"/v1/models": {"data": [{"id": "m"}, {"id": "n"}]}}, CHAT),
}


@pytest.mark.parametrize("model", [None, "m"])
@pytest.mark.parametrize("kind", PAGES)
def test_odd_pages_say_nothing_odd(kind: str, model: str | None, saying: Saying) -> None:
    pages, saying.answer = PAGES[kind]
    for what, saying.pages in mutations(pages):
        if not isinstance(saying.pages, dict):
            continue
        try:
            found = probe(saying, model)
        except (ServerError, InputError) as error:
            assert is_ours(error), what
            continue
        length = found.capabilities.context_length
        assert length is None or (type(length) is int and 0 < length < MOST_TOKENS), what
        for text in (found.model, found.capabilities.version):
            assert isinstance(text, str) and text.isprintable(), what
        assert type(found.capabilities.seeds) is bool


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_odd_answers_to_the_probe_promise_nothing(kind: str, saying: Saying) -> None:
    saying.pages, good = PAGES[kind]
    for what, saying.answer in itertools.islice(mutations(good), 0, None, 4):
        found = probe(saying, "m").capabilities
        assert found.engine == kind and found.context_length == 2048, what


# One particle of several


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 9999, b'{"choices": "\\ud800"}', b"9" * 9999, b"null", b"NaN", b"\xff"],
    ids=lambda content: repr(content[:12]),
)
def test_the_others_go_on(
    kind: str, content: bytes, tokenizer: PreTrainedTokenizerFast, servers: Servers
) -> None:
    server, policy = servers(kind)
    server.requests.clear()
    server.fault = lambda number, body: (200, {}, content) if number == 1 else None
    model = Reasoning(policy, None, "1 + 2?", max_steps=1, step=WholeAnswer(), max_tokens=9)
    posterior = SelfConsistency(4).run(model, seed=0)
    reasons = [particle.finish_reason for particle in posterior.particles]
    assert reasons.count("failed") == posterior.cost.failed_particles == 1
    failed = reasons.index("failed")
    assert posterior.log_weights.isneginf().tolist() == [n == failed for n in range(4)]
    server.fault = lambda number, body: (200, {}, content)
    with pytest.raises(ServerError, match="no answer that can be used"):
        SelfConsistency(2).run(model, seed=0)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("choices", [], "choices is not what vLLM answers there. Got []; accepted: at least 1 it"),
        ("choices", {}, "Got []; accepted: a valid list"),
        ("usage", 3, "usage is not what vLLM answers there. Got 3; accepted: "),
        ("usage", {"prompt_tokens": -3}, "Got -3; accepted: greater than or equal to 0"),
    ],
)
def test_what_is_accepted_is_said_in_plain_words(key: str, value: Any, said: str) -> None:
    engine = Vllm("markov")
    with pytest.raises(ServerError) as caught:
        engine.read(VLLM | {key: value})
    assert said in str(caught.value)
    assert not re.search("should|validation", str(caught.value))
