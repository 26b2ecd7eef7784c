"""The policy behind a server, held to the law of the same policy in this process."""

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.servers import two_samples
from llmsmc.errors import InputError, ServerError
from llmsmc.inference import (
    BestOfN,
    BootstrapFilter,
    Greedy,
    GuidedFilter,
    ParticleGibbs,
    SelfConsistency,
)
from llmsmc.models import (
    LanguageModel,
    OutsideFences,
    Reasoning,
    RegularExpression,
    RemoteLanguageModel,
    Thinking,
    WholeAnswer,
    WithoutText,
)
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import StepRequest, UniformTable
from llmsmc.models.servers import client
from llmsmc.models.text.fences import FencedAutomaton
from llmsmc.models.text.stopping import (
    EOS,
    LENGTH,
    STOP,
    Automaton,
    Delimiter,
    StepAutomaton,
    StepRule,
)
from llmsmc.models.text.thinking import ThinkingRule
from llmsmc.results.summary import warnings
from tests.models.servers.fake_servers import FakeServer, Fault, Json, serving
from tests.models.servers.markov import markov_policy

QUESTION = "What is 12 plus 30?"
ENGINES = ["vllm", "sglang", "llama.cpp"]


@pytest.fixture(scope="module")
def local(tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    return markov_policy(tokenizer)


@pytest.fixture(scope="module")
def folder(local: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("markov")
    local.model.save_pretrained(path)
    local.tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_backoff", lambda state: 0.02)


class Remotes:
    """Servers and the policies behind them; those with the same settings are used again."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, folder: str) -> None:
        self._tokenizer, self._folder = tokenizer, folder
        self._made: dict[str, tuple[RemoteLanguageModel, FakeServer]] = {}
        self._servers = contextlib.ExitStack()

    def __call__(
        self,
        kind: str = "vllm",
        fault: Fault = lambda number, body: None,
        *,
        options: Json | None = None,
        **settings: Any,
    ) -> tuple[RemoteLanguageModel, FakeServer]:
        key = repr((kind, options, settings))
        if key not in self._made:
            context = serving(kind, self._tokenizer, **(options or {}))
            server = self._servers.enter_context(context)
            given: dict[str, Any] = {"tokenizer": self._folder, "retry_for": 5.0} | settings
            policy = RemoteLanguageModel(server.url, **given)
            self._servers.callback(policy.close)
            self._made[key] = (policy, server)
        policy, server = self._made[key]
        server.requests.clear()
        server.fault, policy._client.retries = fault, 0
        return policy, server

    def close(self) -> None:
        self._servers.close()


@pytest.fixture(scope="module")
def remote(tokenizer: PreTrainedTokenizerFast, folder: str) -> Iterator[Remotes]:
    remotes = Remotes(tokenizer, folder)
    yield remotes
    remotes.close()


def outcomes(model: Reasoning, num_particles: int) -> Counter[Any]:
    particles = SelfConsistency(num_particles).run(model, seed=3).particles
    return Counter((each.text[:2], len(each.steps), each.finish_reason) for each in particles)


def p_value(model: Reasoning, other: Reasoning, num_particles: int = 150) -> float:
    return two_samples(outcomes(model, num_particles), outcomes(other, 900), fewest=5)[2]


class EvenTokens(StepRule):
    """A rule that no server knows: a step ends behind an even number of tokens, or a blank line."""

    def automaton(self, pieces: list[bytes]) -> StepAutomaton:
        table = torch.tensor([[1], [2], [2]]).repeat(1, len(pieces))
        table[0, [n for n, piece in enumerate(pieces) if piece == b"2"]] = 0
        return StepAutomaton(table, accept=2)

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EvenTokens)


@pytest.mark.parametrize("kind", ENGINES)
def test_solutions_have_the_law_of_the_local_engine(
    kind: str, remote: Remotes, local: LanguageModel
) -> None:
    policy, server = remote(kind)
    model = Reasoning(policy, None, QUESTION, max_steps=3, max_tokens_per_step=12)
    assert p_value(model, replace(model, policy=local)) > 1e-4
    # Leading delimiters do not end a step, so that some steps took more than one request.
    prompts = [body.get("prompt") or body["input_ids"] for body in server.requests]
    assert len({len(prompt) for prompt in prompts}) > 3


@pytest.mark.parametrize(
    ("rule", "temperature"), [(2, 1.0), (WholeAnswer(), 1.0), (EvenTokens(), 1.0), ("\n\n", 0.6)]
)
def test_every_rule_ends_steps_as_the_local_engine(
    rule: Any, temperature: float, remote: Remotes, local: LanguageModel
) -> None:
    policy, _ = remote()
    model = Reasoning(
        policy,
        None,
        QUESTION,
        step=rule,
        temperature=temperature,
        max_steps=3,
        max_tokens_per_step=7,
    )
    assert p_value(model, replace(model, policy=local)) > 1e-4


def test_a_regular_expression_ends_steps_as_in_the_local_engine(
    remote: Remotes, local: LanguageModel
) -> None:
    policy, _ = remote()
    rule = RegularExpression("[0-9] ?[0-9]")
    model = Reasoning(policy, None, QUESTION, step=rule, max_steps=3, max_tokens_per_step=7)
    assert p_value(model, replace(model, policy=local)) > 1e-4


@pytest.mark.parametrize("kind", [*ENGINES, "chat"])
def test_thinking_is_refused_before_anything_is_asked(kind: str, remote: Remotes) -> None:
    settings: Json = {"tokenizer": None} if kind == "chat" else {}
    policy, server = remote(kind, **settings)
    for thinking in (Thinking(), Thinking(max_tokens=3)):
        with pytest.raises(InputError, match="what thinking takes.*thinking=None"):
            Reasoning(policy, None, QUESTION, step=WholeAnswer(), thinking=thinking)
    assert server.requests == []


def test_thinking_that_the_prompt_has_closed_is_none_to_a_server(remote: Remotes) -> None:
    policy, _ = remote()
    closing = policy.tokens.decode(policy.prompt_ids(QUESTION)).split()[-1]
    model = Reasoning(policy, None, QUESTION, max_steps=1, thinking=Thinking(closing, "<t>"))
    assert SelfConsistency(2).run(model, seed=0).particles.thinking_end is None


class Counting(StepRule):
    """A rule of one's own, with an automaton of one's own."""

    def automaton(self, pieces: list[bytes]) -> Automaton:
        return ThinkingRule(Delimiter(), Delimiter(), "1").automaton(pieces)


def test_an_automaton_that_cannot_be_followed_is_refused(remote: Remotes) -> None:
    policy, server = remote()
    with pytest.raises(InputError, match="where Counting says.*StepAutomaton"):
        Reasoning(policy, None, QUESTION, step=Counting())
    assert server.requests == []


def test_another_law_is_told_apart(remote: Remotes, local: LanguageModel) -> None:
    policy, _ = remote()
    model = Reasoning(policy, None, QUESTION, max_steps=3, temperature=0.3)
    assert p_value(model, replace(model, policy=local, temperature=1.0)) < 1e-6


def test_log_probabilities_are_those_of_the_local_engine(
    remote: Remotes, local: LanguageModel
) -> None:
    policy, _ = remote()
    model = Reasoning(policy, None, QUESTION, max_steps=3)
    particles = SelfConsistency(8).run(model, seed=0).particles
    for particle in particles:
        exact = float(local.log_probs(model.prompt_ids, particle.token_ids).sum())
        assert math.isclose(particle.log_prob, exact, abs_tol=1e-4)
        assert particle.proposal_log_prob == particle.log_prob


@pytest.mark.parametrize("kind", ENGINES)
def test_what_is_not_known_is_no_number(kind: str, remote: Remotes) -> None:
    policy, _ = remote(kind)
    model = Reasoning(policy, None, QUESTION, temperature=0.5, max_steps=2)
    particle = SelfConsistency(1).run(model, seed=0).particles[0]
    known = {"vllm": (True, False), "sglang": (False, True), "llama.cpp": (False, False)}[kind]
    assert (not math.isnan(particle.log_prob), not math.isnan(particle.proposal_log_prob)) == known


def test_a_seed_repeats_a_run_and_another_does_not(remote: Remotes) -> None:
    policy, server = remote()
    model = Reasoning(policy, None, QUESTION, max_steps=4)
    first, second, other = (
        [each.token_ids for each in SelfConsistency(16).run(model, seed=seed).particles]
        for seed in (1, 1, 2)
    )
    assert first == second and first != other


def test_offspring_of_one_particle_have_different_seeds(remote: Remotes) -> None:
    policy, server = remote("llama.cpp")
    favourite = lambda question, steps: [0.999 if "1" in step else 1e-6 for step in steps]  # noqa: E731
    model = Reasoning(policy, favourite, QUESTION, max_steps=4, step=1)
    BootstrapFilter(24).run(model, seed=0)
    asked = [(tuple(body["prompt"]), body["seed"]) for body in server.requests]
    prompts = Counter(prompt for prompt, _ in asked)
    assert max(prompts.values()) > 5  # offspring with one prompt
    assert len(set(asked)) == len(asked)


def test_prompts_are_ids_that_grow_at_their_end(remote: Remotes) -> None:
    policy, server = remote()
    model = Reasoning(policy, None, QUESTION, max_steps=5)
    SelfConsistency(1).run(model, seed=4)
    prompts = [body["prompt"] for body in server.requests]
    assert prompts[0] == list(model.prompt_ids)
    for before, after in zip(prompts, prompts[1:], strict=False):
        assert after[: len(before)] == before and len(after) > len(before)


@pytest.mark.parametrize("kind", ENGINES)
def test_every_field_of_the_law_is_sent(kind: str, remote: Remotes) -> None:
    policy, server = remote(kind)
    Greedy().run(Reasoning(policy, None, QUESTION, max_steps=1, max_tokens_per_step=4), seed=0)
    (body,) = server.requests[:1]
    fields = body["sampling_params"] if kind == "sglang" else body
    assert {"top_p", "top_k", "min_p", "temperature"} <= set(fields)
    assert {"presence_penalty", "frequency_penalty"} <= set(fields)
    assert fields["top_p"] == 1.0 and fields["min_p"] == 0.0 and fields["temperature"] == 0.0
    assert {"repetition_penalty", "repeat_penalty"} & set(fields)
    assert fields["stop"] == ["\n\n"]
    if kind == "vllm":
        assert body["include_stop_str_in_output"] and body["return_token_ids"]
    if kind == "sglang":
        assert fields["no_stop_trim"]
    if kind == "llama.cpp":
        assert body["samplers"] == ["temperature"] and body["return_tokens"]


def test_costs_count_prompts_and_what_was_cached(remote: Remotes) -> None:
    policy, server = remote()
    cost = SelfConsistency(8).run(Reasoning(policy, None, QUESTION, max_steps=3), seed=0).cost
    lengths = [len(body["prompt"]) for body in server.requests]
    assert cost.prompt_tokens == sum(lengths)
    assert cost.cached_tokens == sum(length // 16 * 16 for length in lengths) > 0
    assert cost.policy_positions == cost.prompt_tokens - cost.cached_tokens + cost.generated_tokens
    assert cost.model_calls == len(lengths)


# What goes wrong


def test_transient_errors_are_tried_again(remote: Remotes) -> None:
    def fault(number: int, body: Json) -> Any:
        return {
            0: (429, {"Retry-After": "0.3"}, {"error": {"message": "too many requests"}}),
            1: (503, {}, {"detail": "starting"}),
            2: "drop",
            3: (500, {}, {}),
        }.get(number)

    plain, _ = remote()
    expected = SelfConsistency(4).run(Reasoning(plain, None, QUESTION, max_steps=2), seed=0)
    policy, server = remote(fault=fault)
    found = SelfConsistency(4).run(Reasoning(policy, None, QUESTION, max_steps=2), seed=0)
    assert [p.token_ids for p in found.particles] == [p.token_ids for p in expected.particles]
    assert found.cost.failed_particles == 0 and found.cost.policy_seconds > 0.3
    assert policy._client.retries == 4


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_final_errors_are_not_tried_again(status: int, remote: Remotes) -> None:
    policy, server = remote(fault=lambda number, body: (status, {}, {"message": "no \\boxed{7}"}))
    with pytest.raises(ServerError, match=f"{status}, no"):
        SelfConsistency(3).run(Reasoning(policy, None, QUESTION), seed=0)
    assert len(server.requests) == 3


def test_a_timeout_is_tried_again(remote: Remotes) -> None:
    import time

    def fault(number: int, body: Json) -> Any:
        if number == 0:
            time.sleep(0.8)
        return None

    policy, server = remote(fault=fault, timeout=0.5)
    posterior = SelfConsistency(1).run(Reasoning(policy, None, QUESTION, max_steps=1), seed=0)
    assert policy._client.retries == 1 and posterior.cost.failed_particles == 0


@pytest.mark.parametrize("algorithm", [SelfConsistency(12), BootstrapFilter(12), BestOfN(12)])
def test_a_particle_that_fails_has_weight_zero_and_no_text(algorithm: Any, remote: Remotes) -> None:
    poison: Json = {}

    def fault(number: int, body: Json) -> Any:
        poison.setdefault("seed", body["seed"])
        if body["seed"] == poison["seed"]:
            return 400, {}, {"message": "The answer is \\boxed{error}."}
        return None

    policy, _ = remote(fault=fault)
    reward = lambda question, steps: [0.5] * len(steps)  # noqa: E731
    posterior = algorithm.run(Reasoning(policy, reward, QUESTION, max_steps=3), seed=0)
    assert posterior.cost.failed_particles == 1
    failed = [n for n in range(12) if posterior.particles[n].finish_reason == "failed"]
    assert all(posterior.log_weights[n] == -math.inf for n in failed)
    assert all(posterior.particles[n].token_ids == () for n in failed)
    assert "error" not in str(posterior.answers())
    assert any("failed" in text or "no usable answer" in text for text in warnings(posterior))
    if not isinstance(algorithm, BootstrapFilter):  # which has no more of it after resampling
        assert len(failed) == 1


def test_particles_are_asked_for_side_by_side(
    remote: Remotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first four requests are answered when all four are there: never, in turn."""
    policy, server = remote()
    together, reply = threading.Barrier(4), server.reply

    def waiting(path: str, body: Json) -> Json:
        if not together.broken and len(server.requests) <= 4:
            together.wait(timeout=10)
        return reply(path, body)

    monkeypatch.setattr(server, "reply", waiting)
    model = Reasoning(policy, None, QUESTION, max_steps=1)
    particles = SelfConsistency(4).run(model, seed=0).particles
    assert not together.broken and not bool(particles.failed.any())


def test_a_server_may_be_started_anew_in_the_middle(remote: Remotes) -> None:
    import threading
    import time

    plain, _ = remote()
    expected = SelfConsistency(8).run(Reasoning(plain, None, QUESTION, max_steps=4), seed=0)
    policy, server = remote()

    def restart() -> None:
        server.kill()
        time.sleep(0.3)
        server.start()

    def fault(number: int, body: Json) -> Any:
        if number == 10:
            threading.Thread(target=restart).start()
            time.sleep(0.2)
        return None

    server.fault = fault
    found = SelfConsistency(8).run(Reasoning(policy, None, QUESTION, max_steps=4), seed=0)
    assert [p.token_ids for p in found.particles] == [p.token_ids for p in expected.particles]
    assert policy._client.retries > 0


def test_a_server_that_stays_away_ends_the_run(remote: Remotes) -> None:
    policy, server = remote(retry_for=0.2)
    model = Reasoning(policy, None, QUESTION)
    server.fault = lambda number, body: "drop"
    with pytest.raises(ServerError, match="no answer that can be used") as caught:
        SelfConsistency(2).run(model, seed=0)
    assert caught.value.is_down


# What a server cannot do


@pytest.mark.parametrize("kind", ENGINES)
def test_what_is_missing_is_named_before_anything_is_asked(
    kind: str, remote: Remotes, local: LanguageModel
) -> None:
    policy, server = remote(kind)
    model = Reasoning(policy, None, QUESTION, max_steps=2)
    if kind != "vllm":
        missing = "log-probabilities of tokens that it is given"
        with pytest.raises(InputError, match=missing):
            ParticleGibbs(4).run(model, seed=0)
        with pytest.raises(InputError, match=missing):
            Reasoning(policy, None, QUESTION, proposal_policy=local)
        with pytest.raises(InputError, match=missing):
            Reasoning(local, None, QUESTION, expert=policy)
    if kind == "llama.cpp":
        with pytest.raises(InputError, match="log-probabilities at temperature 1"):
            Reasoning(policy, None, QUESTION, policy_inverse_temperature=2.0)
        with pytest.raises(InputError, match="density of its draws"):
            Reasoning(local, None, QUESTION, proposal_policy=policy)
    else:
        with pytest.raises(InputError, match="log-prob|density"):
            Reasoning(policy, None, QUESTION, temperature=0.5, policy_inverse_temperature=2.0)
    with pytest.raises(InputError, match="proposal"):
        constrained = Reasoning(policy, None, QUESTION, constraint=WithoutText("2"))
        GuidedFilter(4).run(constrained, seed=0)
    assert server.requests == []


def test_seeds_that_do_not_count_are_named(remote: Remotes) -> None:
    with pytest.raises(InputError, match="does not give seeds.*deterministic"):
        remote("sglang", repeatable=True)
    policy, _ = remote("sglang", options={"enable_deterministic_inference": True}, repeatable=True)
    assert policy.capabilities.seeds


def test_a_power_of_the_law_and_conditional_runs_on_vllm(
    remote: Remotes, local: LanguageModel
) -> None:
    """Their evidence and their means are those of the local engine, up to noise: same seeds."""
    policy, _ = remote()
    power = Reasoning(policy, None, QUESTION, max_steps=1, step=1, policy_inverse_temperature=2.0)
    posterior = SelfConsistency(3).run(power, seed=0)
    increments = power.log_tilt(posterior.particles)
    exact = torch.tensor([each.log_prob for each in posterior.particles], dtype=torch.float64)
    assert torch.allclose(increments, exact)
    reward = lambda question, steps: [0.7 if "1" in step else 0.4 for step in steps]  # noqa: E731
    gibbs = ParticleGibbs(6, num_sweeps=3).run(
        Reasoning(policy, reward, QUESTION, max_steps=3), seed=0
    )
    for particle in gibbs.particles:
        plain = float(local.log_probs(gibbs.particles.prompt_ids, particle.token_ids).sum())
        assert math.isclose(particle.log_prob, plain, abs_tol=1e-3)


@pytest.mark.parametrize(
    "odd", [None, "-1.0", True, 0.5, math.nan, math.inf, -math.inf, [], {}, 10**30, "gone"]
)
def test_a_text_that_is_not_scored_has_weight_zero(
    odd: Any, remote: Remotes, local: LanguageModel
) -> None:
    """What one particle is scored by is no reason to end the others."""
    odd_texts: list[Json] = []

    def fault(number: int, body: Json) -> Any:
        if "prompt_logprobs" not in body or len(odd_texts) == 1:
            return None
        odd_texts.append(body)
        answer = server.reply("/v1/completions", body)
        scores = answer["choices"][0]["prompt_logprobs"]
        if odd == "gone":
            del scores[-1]
        else:
            scores[-1] = {str(body["prompt"][-1]): {"logprob": odd}}
        return 200, {}, answer

    policy, server = remote()
    server.fault = fault
    even = lambda question, steps: [0.5] * len(steps)  # noqa: E731
    model = Reasoning(policy, even, QUESTION, max_steps=1, proposal_policy=local)
    posterior = GuidedFilter(4).run(model, seed=0)
    assert posterior.log_weights.isneginf().sum() == posterior.cost.failed_particles == 1


def test_the_kind_of_log_probabilities_is_found_out(remote: Remotes) -> None:
    raw, _ = remote()
    tempered, _ = remote(options={"logprobs_mode": "processed_logprobs"})
    sglang, _ = remote("sglang")
    kinds = [policy.capabilities.log_probs for policy in (raw, tempered, sglang)]
    assert kinds == ["raw", "tempered", "tempered"]


def test_closed_endpoints_give_whole_answers_only(remote: Remotes) -> None:
    policy, server = remote("chat", tokenizer=None)
    with pytest.raises(InputError, match="cannot go on with an answer.*WholeAnswer"):
        Reasoning(policy, None, QUESTION)
    assert server.requests == []
    model = Reasoning(policy, None, QUESTION, step=WholeAnswer(), max_tokens_per_step=30)
    posterior = SelfConsistency(5).run(model, seed=0)
    assert len(posterior.history) == 1 and len(server.requests) == 5
    assert {each.finish_reason for each in posterior.particles} <= {"eos", "length"}
    assert server.requests[0]["messages"] == [{"role": "user", "content": QUESTION}]
    assert len({body["seed"] for body in server.requests}) == 5
    assert 0 < posterior.cost.generated_tokens <= 150
    assert all(math.isnan(each.log_prob) for each in posterior.particles if each.token_ids)
    with pytest.raises(InputError, match="tokens that it is given"):
        ParticleGibbs(4).run(model, seed=0)


def test_servers_without_ids_cannot_continue(
    remote: Remotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FakeServer.vllm

    def without_ids(self: FakeServer, body: Json) -> Json:
        answer = whole(self, body)
        del answer["choices"][0]["token_ids"]
        return answer

    monkeypatch.setattr(FakeServer, "vllm", without_ids)
    policy, server = remote(options={"token_ids": False})
    with pytest.raises(InputError, match="token ids"):
        Reasoning(policy, None, QUESTION)
    assert server.requests == []


def test_a_stop_text_that_is_missing_from_the_ids_is_told(
    remote: Remotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FakeServer.llama_cpp

    def trimmed(self: FakeServer, body: Json) -> Json:
        answer = whole(self, body)
        if answer["stop_type"] == "word":
            answer["tokens"] = [69]
        return answer

    monkeypatch.setattr(FakeServer, "llama_cpp", trimmed)
    policy, _ = remote("llama.cpp")
    with pytest.raises(ServerError, match="out of the ids"):
        Greedy().run(Reasoning(policy, None, QUESTION, step=Delimiter("\n")), seed=0)


# Addresses and keys


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host/v1", "http://", "http://host/v1?key=1", ""]
)
def test_addresses_are_checked(url: Any) -> None:
    with pytest.raises(InputError, match="A server has an address"):
        RemoteLanguageModel(url, "markov")


def test_an_address_has_no_secrets() -> None:
    with pytest.raises(InputError, match="no secrets") as caught:
        RemoteLanguageModel("http://user:hidden@host/v1", "markov")
    assert "hidden" not in str(caught.value)


def test_a_key_is_sent_and_shown_nowhere(
    remote: Remotes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk-very-secret-0815"
    caplog.set_level("DEBUG")
    policy, server = remote(api_key=key)
    posterior = SelfConsistency(2).run(Reasoning(policy, None, QUESTION, max_steps=1), seed=0)
    assert all(each["Authorization"] == f"Bearer {key}" for each in server.headers)
    posterior.save(tmp_path / "run")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(key.encode() in path.read_bytes() for path in written)
    server.fault = lambda number, body: (401, {}, {"error": {"message": f"wrong key {key}"}})
    with pytest.raises(ServerError, match=r"wrong key \*\*\*") as caught:
        SelfConsistency(2).run(Reasoning(policy, None, QUESTION, max_steps=1), seed=0)
    assert key not in str(caught.value) + repr(policy) + repr(policy._client) + caplog.text


def test_a_model_that_the_server_does_not_have_is_named(remote: Remotes) -> None:
    with pytest.raises(InputError, match="Got model='other'; accepted: 'markov'"):
        remote(model="other")


def test_it_works_inside_a_running_event_loop(remote: Remotes) -> None:
    import asyncio

    policy, _ = remote()

    async def inside() -> int:
        return len(SelfConsistency(3).run(Reasoning(policy, None, QUESTION, max_steps=1)).particles)

    assert asyncio.run(inside()) == 3


def test_a_delimiter_at_the_limit_of_tokens(remote: Remotes) -> None:
    """The room for the whole text ends a step that is complete, as in the local engine."""
    policy, _ = remote()
    model = Reasoning(policy, None, QUESTION, step=Delimiter("1"), max_tokens=3, max_steps=9)
    particles = SelfConsistency(64).run(model, seed=0).particles
    assert int(particles.num_tokens.max()) == 3
    for particle in particles:
        if len(particle.token_ids) == 3 and particle.finish_reason != "eos":
            assert particle.finish_reason == "length"


@pytest.mark.parametrize("engine", [*ENGINES, None])
def test_steps_that_begin_within_a_block(
    remote: Remotes, local: LanguageModel, engine: str | None
) -> None:
    """A step that has been cut off within a block does not mislead the next one."""
    policy = local if engine is None else remote(engine)[0]
    prompt, block = local.prompt_ids(QUESTION), local.tokens.encode("```\n1")
    rows, counts = torch.tensor([block] * 16), torch.tensor([len(block), 0] * 8)
    rule = OutsideFences(RegularExpression("."))
    drawn, _ = policy.sample_step(
        StepRequest(
            prompt,
            rows,
            counts,
            CacheRows.none(16),
            rule=rule,
            max_tokens=4,
            uniforms=UniformTable(16, torch.Generator().manual_seed(3)),
        )
    )
    automaton = local.tokens.automaton(rule)
    assert isinstance(automaton, FencedAutomaton)
    states, is_within = automaton.behind(rows, counts), torch.tensor([True, False] * 8)
    assert automaton.inside(states).tolist() == is_within.tolist()
    reasons, lengths = drawn.stop_reasons, drawn.num_tokens
    assert (reasons[is_within] == LENGTH).any() and (reasons[~is_within] == STOP).any()
    for position, ids in enumerate(drawn.token_ids.T):
        states = automaton.advance(states, ids)
        complete = automaton.complete(states)
        assert not (complete & (lengths > position + 1)).any()
        last = (lengths == position + 1) & (reasons != EOS)
        assert torch.equal(complete[last], reasons[last] == STOP)
