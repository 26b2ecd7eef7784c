"""What the engines make of answers, from answers written out by hand."""

from typing import Any

import pytest

from llmsmc.errors import InputError, ServerError
from llmsmc.models.servers import client
from llmsmc.models.servers.address import root_of
from llmsmc.models.servers.chat import END, ByteVocabulary, Chat
from llmsmc.models.servers.engine import Draw, Engine, LabelEngine, ScoringEngine
from llmsmc.models.servers.llama_cpp import LlamaCpp
from llmsmc.models.servers.sglang import SGLang
from llmsmc.models.servers.vllm import Vllm
from llmsmc.models.text.stopping import EOS, LENGTH, STOP

DRAW = Draw((1, 2), 5, 0.7, 11, "\n\n")


def of_vllm(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"token_ids": [7, 8]} | choice]}


@pytest.mark.parametrize(
    ("finish", "stop", "reason"),
    [("stop", None, EOS), ("stop", 2, EOS), ("stop", "\n\n", STOP), ("length", None, LENGTH)],
)
def test_vllm_says_why_a_text_ended(finish: str, stop: Any, reason: int) -> None:
    """No stop reason is both an end and a cut: the finish reason tells them apart."""
    drawn = Vllm("m").read(of_vllm(finish_reason=finish, stop_reason=stop))
    assert drawn.reason == reason and drawn.token_ids == (7, 8) and drawn.log_probs is None


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ({"type": "stop", "matched": 2}, EOS),
        ({"type": "stop", "matched": "\n\n"}, STOP),
        ({"type": "length", "length": 2}, LENGTH),
    ],
)
def test_sglang_says_why_a_text_ended(finish: Any, reason: int) -> None:
    info = {"finish_reason": finish, "output_token_logprobs": [[-1.0, 7, None], [-2.0, 8, None]]}
    drawn = SGLang().read({"output_ids": [7, 8], "meta_info": info})
    assert drawn.reason == reason and drawn.log_probs == (-1.0, -2.0)


@pytest.mark.parametrize(("stop", "reason"), [("eos", EOS), ("word", STOP), ("limit", LENGTH)])
def test_llama_cpp_says_why_a_text_ended(stop: str, reason: int) -> None:
    drawn = LlamaCpp().read({"tokens": [7, 8], "tokens_predicted": 2, "stop_type": stop})
    assert drawn.reason == reason and drawn.generated_tokens == 2


@pytest.mark.parametrize(
    ("engine", "answer"),
    [
        (Vllm("m"), of_vllm(finish_reason="abort")),
        (Vllm("m"), {"choices": []}),
        (Vllm("m"), {"choices": [{"finish_reason": "stop", "text": "7"}]}),
        (SGLang(), {"output_ids": [7], "meta_info": {"finish_reason": {"type": "abort"}}}),
        (SGLang(), [1]),
        (LlamaCpp(), {"tokens": [7], "stop_type": "none"}),
        (LlamaCpp(), {"tokens": [], "tokens_predicted": 3, "stop_type": "eos"}),
        (Chat("m"), {"choices": [{"message": {"content": "7"}, "finish_reason": "tool_calls"}]}),
        (Chat("m"), {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}),
        (Chat("m"), "Internal error"),
    ],
)
def test_what_is_no_answer_is_an_error(engine: Engine, answer: Any) -> None:
    with pytest.raises(ServerError) as caught:
        engine.read(answer)
    assert not caught.value.is_down


def test_a_temperature_and_a_seed_are_sent() -> None:
    for engine in (Vllm("m"), SGLang(), LlamaCpp()):
        body = engine.body(DRAW)
        settings = body.get("sampling_params", body)
        assert settings["temperature"] == 0.7
        assert 11 in (settings.get("seed"), settings.get("sampling_seed"))
    assert isinstance(Vllm("m"), ScoringEngine) and isinstance(SGLang(), LabelEngine)
    assert not isinstance(SGLang(), ScoringEngine) and not isinstance(LlamaCpp(), LabelEngine)


def test_labels_that_are_not_said_are_no_floor() -> None:
    answer = of_vllm(logprobs={"top_logprobs": [{"token_id:3": -1.0}]})
    assert Vllm("m").read_labels(answer, [3]) == [-1.0]
    with pytest.raises(ServerError, match="named tokens"):
        Vllm("m").read_labels(answer, [3, 4])


def test_bytes_stand_for_ids_where_there_are_none() -> None:
    tokens, engine = ByteVocabulary(), Chat("m")
    prompt = tokens.prompt_ids("What is 1 + 2?", "Think.")
    messages = engine.body(Draw(prompt, 5, 1.0, 0))["messages"]
    assert [each["role"] for each in messages] == ["system", "user"]
    assert messages[1]["content"] == "What is 1 + 2?"
    choice = {"message": {"content": "It is ≈ 3."}, "finish_reason": "stop"}
    drawn = engine.read({"choices": [choice], "usage": {"completion_tokens": 6}})
    assert drawn.token_ids[-1] == END and drawn.generated_tokens == 6
    assert tokens.decode(drawn.token_ids) == "It is ≈ 3."
    with pytest.raises(InputError, match="not blank"):
        tokens.prompt_ids(" ")


def test_addresses_with_and_without_the_version() -> None:
    for address in ("http://host:8000", "http://host:8000/", "http://host:8000/v1/"):
        assert root_of(address) == "http://host:8000"
    assert root_of("https://host/proxy/v1") == "https://host/proxy"


def test_the_time_to_wait_is_a_number_or_a_date() -> None:
    assert client._seconds("1.5") == 1.5 and client._seconds("soon") is None
    assert client._seconds(None) is None
    assert client._seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    ahead = client._seconds("Wed, 21 Oct 2099 07:28:00 GMT")
    assert ahead is not None and ahead > 1e9
