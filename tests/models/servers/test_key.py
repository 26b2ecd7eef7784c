"""A key is sent to one address, and is in nothing that leaves."""

import base64
import copy
import html
import json
import logging
import pickle
import time
import traceback
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from llmsmc.errors import InputError, ServerError
from llmsmc.inference import SelfConsistency
from llmsmc.models import Reasoning, RemoteLanguageModel, WholeAnswer
from llmsmc.models.servers.client import Client
from llmsmc.models.servers.key import Key
from llmsmc.solving.loading import given_key, named_key
from llmsmc.solving.settings import Settings
from tests.models.servers.fake_servers import Json, serving
from tests.models.servers.raw_servers import http, of_json, raw_server, saying

KEY = 'sk-p"roj/A+b<c>4\\7%11=='
PLAIN = "sk-very-secret-0815"


@pytest.mark.parametrize(
    "around", ["{}\r", "{}\n", "{}\r\n", "{}\0", " {} ", "\t{}", "\ufeff{}", "{}\x0b", "{}\u2028"]
)
def test_what_is_blank_around_a_key_is_no_part_of_it(around: str) -> None:
    assert Key(around.format(KEY)).header() == {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "text",
    [
        "sk-geheim-ä",
        "sk-секрет",
        "sk-\u200bsecret",
        "sk-sec\rret",
        "sk-sec\nX-Evil: ret",
        "sk-sec\0ret",
        "Bearer sk-secret",
        "sk-sec\x7fret",
        "sk-\ud800secret",
        "",
        " \r\n",
        "x" * 9000,
        b"sk-secret",
        4711081508,
        ["sk-secret"],
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_unseen(text: Any) -> None:
    with pytest.raises(InputError, match="A key is") as caught:
        Key(text)
    said = "".join(traceback.format_exception(caught.value))
    assert not any(part in str(caught.value) for part in ("sk-", "ret", "4711"))
    assert str(caught.value).isascii() and caught.value.__context__ is None, said


FORMS = {
    "itself": KEY,
    "JSON": json.dumps(KEY),
    "JSON in JSON": json.dumps(json.dumps(KEY)),
    "numbers of JSON": "".join(f"\\u{ord(each):04X}" for each in KEY),
    "an address": urllib.parse.quote(KEY, safe=""),
    "an address in an address": urllib.parse.quote(urllib.parse.quote(KEY, safe=""), safe=""),
    "a page": html.escape(KEY),
    "numbers of a page": "".join(f"&#{ord(each)};" for each in KEY),
    "Python": repr({"Authorization": f"Bearer {KEY}"}),
    "Python's bytes": repr(f"Bearer {KEY}\r".encode()),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of a name": base64.b64encode(f"me:{KEY}".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"Bearer {KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex().upper(),
    "cut off": f"the key {KEY[:10]}",
    "cut off with dots": f"the key {KEY[:8]}... is wrong",
    "cut off in the middle of a text": f"the key {KEY[:14]} is wrong",
    "cut off at its beginning": f"a key that ends with {KEY[7:]}",
    "cut off at both ends": f"a key with {KEY[4:19]} in it",
    "octal numbers": "".join(f"\\{ord(each):03o}" for each in KEY),
    "other letters": KEY.upper(),
}


def has_key(text: str) -> bool:
    """Whether there is a good part of the key in a text, as it is or in base64."""
    shown = [form for name, form in FORMS.items() if "cut off" not in name and "Py" not in name]
    parts = [form[start : start + 12] for form in shown for start in range(len(form) - 11)]
    return any(part in text for part in [*parts, KEY[:6]])


@pytest.mark.parametrize("name", FORMS)
def test_a_key_is_hidden_however_it_is_written(name: str) -> None:
    hidden = Key(KEY).hide(f"before {FORMS[name]} after" if "cut" not in name else FORMS[name])
    assert "***" in hidden and not has_key(hidden.replace("before", "").replace("after", ""))


@pytest.mark.parametrize("between", ["\n", "\u200b", "\x1b[0m", " ", "...", "\u0130"])
def test_a_key_is_hidden_in_pieces(between: str) -> None:
    hidden = Key(KEY).hide(f"it is {KEY[:11]}{between}{KEY[11:]}")
    assert hidden == f"it is ***{between}***"


def test_other_texts_stay_as_they_are() -> None:
    text = 'sk-p is not "sk-other"; 50 % of A+b, \\frac12 & \\u0041, ***'
    assert Key(KEY).hide(text) == text
    solution = ["The questions: are they answered?", {"question": 7}]
    assert Key("question-answer-key").hide_in(solution) == solution
    assert Key("x").hide("x = 1") == "x = 1"  # which is no secret
    assert Key("EMPTY").hide("EMPTYING is not EMPTY") == "***ING is not ***"


@pytest.mark.parametrize("sign", ["\\", "%25", "&amp;", "&#0", KEY[:6], KEY[9:13], KEY])
def test_a_key_is_looked_for_in_time_that_grows_with_the_text(sign: str) -> None:
    """Not with its square: 300,000 characters of what a key may begin with, in one of its forms."""
    begun = time.process_time()
    Key(KEY).hide_in(sign * (300_000 // len(sign)))
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("status", ["401 No", "500 Oops", "200 OK"])
def test_a_server_that_repeats_its_key(
    name: str, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the reason, in headers, in what it redirects to, and behind much else."""
    caplog.set_level(logging.DEBUG)
    form = FORMS[name]
    said = {"error": {"message": "x " * 130 + form}, "n": form}
    answer = of_json(said, f"X-Echo: {form}", f"Location: /{form.split()[0]}", status=status)
    with raw_server(answer) as (address, _):
        client = Client(address, api_key=f"{KEY}\r\n", retry_for=0)
        try:
            found = client.run(client.post("/x", {}, lambda answer: answer))
            left = json.dumps(found, ensure_ascii=False)
        except ServerError as error:
            left = "".join(traceback.format_exception(error)) + str(vars(error))
            chain: BaseException | None = error
            while chain is not None:
                left += repr(chain)
                chain = chain.__cause__ or chain.__context__
            left += str(pickle.loads(pickle.dumps(error)))
        client.close()
    logged = caplog.text.replace(str(Path(__file__)), "")
    assert "x x x" in left and not has_key(left + repr(client))
    assert not has_key(logged.split("receive_response_headers.complete")[-1])


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 " + PLAIN.encode() + b"\r\nContent-Length: x\r\n\r\n",
        PLAIN.encode() + b" HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + PLAIN.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: " + PLAIN.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + PLAIN.encode() + b"\r\n\r\n",
        b"HTTP/1.1 500 " + PLAIN.encode() + b"\r\nContent-Length: 0\r\n\r\n",
        http(b"", f"Location: http://{PLAIN}.example/{PLAIN}", status="307 There"),
        http(PLAIN.encode(), status="403 No"),
        http(b"y" * 295 + PLAIN.encode(), status="400 No"),
        http(b" " * 200_000 + PLAIN.encode(), status="400 No"),
        http(b" " * (100_000 - 9) + PLAIN.encode(), status="400 No"),
    ],
)
def test_a_server_that_breaks_off_with_its_key(said: bytes) -> None:
    with raw_server(saying(said)) as (address, _):
        client = Client(address, api_key=PLAIN, retry_for=0)
        with pytest.raises(ServerError) as caught:
            client.run(client.post("/x", {}, lambda answer: answer))
        client.close()
    assert "sk-ver" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None and caught.value.__cause__ is None


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 There", "308 There"])
def test_a_redirect_is_told_and_not_followed(status: str) -> None:
    with raw_server(of_json({})) as (other, elsewhere):
        there = saying(http(b"", f"Location: {other}", status=status))
        with raw_server(there) as (address, requests):
            client = Client(address, api_key=PLAIN, retry_for=0)
            with pytest.raises(ServerError, match=f"{status[:3]}.*points to {other}.*not followed"):
                client.run(client.post("/x", {}, lambda answer: answer))
            client.close()
    assert elsewhere == [] and PLAIN.encode() in requests[0]


def test_nothing_with_a_key_is_pickled_or_copied() -> None:
    client = Client("http://127.0.0.1:1", api_key=PLAIN)
    for whole in (client, Key(PLAIN)):
        for write in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError) as caught:
                write(whole)
            assert "sk-ver" not in str(caught.value)
    assert "sk-ver" not in repr(client) + repr(client._new_client().headers) + repr(vars(client))
    client.close()


def test_what_is_logged_of_one_client_is_hidden_while_there_is_one() -> None:
    before = {name: list(logging.getLogger(name).filters) for name in ("httpx", "httpcore.http11")}
    client = Client("http://127.0.0.1:1", api_key=PLAIN)
    client.close()
    for name, filters in before.items():
        assert logging.getLogger(name).filters == filters


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama.cpp", "chat"])
@pytest.mark.parametrize("cut", [None, -3])
def test_a_key_in_an_answer_is_in_no_result(
    kind: str,
    cut: int | None,
    tokenizer: PreTrainedTokenizerFast,
    policy_folder: Path,
    tmp_path: Path,
) -> None:
    """Whole, or cut off by the limit of tokens; hidden in a text, and a failure in ids."""
    said = f"It is {PLAIN}"[:cut]
    ids = tokenizer.encode(said, add_special_tokens=False)

    def echo(number: int, body: Json) -> Any:
        answer = whole(f"/{path}", body)
        if kind == "chat":
            answer["choices"][0]["message"]["content"] = said
        elif kind == "vllm":
            answer["choices"][0] |= {"token_ids": ids, "finish_reason": "stop"}
            answer["choices"][0] |= {"logprobs": {"token_logprobs": [-1.0] * len(ids)}}
        elif kind == "sglang":
            answer["output_ids"] = ids
            answer["meta_info"]["output_token_logprobs"] = [[-1.0, id, None] for id in ids]
        else:
            answer["tokens"] = ids
        return (200, {}, answer) if number % 2 else None

    with serving(kind, tokenizer) as server:
        path, whole = (
            {
                "vllm": "v1/completions",
                "sglang": "generate",
                "llama.cpp": "completion",
                "chat": "v1/chat/completions",
            }[kind],
            server.reply,
        )
        policy = RemoteLanguageModel(server.url, tokenizer=str(policy_folder), api_key=PLAIN)
        server.requests.clear()
        server.fault = echo
        model = Reasoning(
            policy, None, "1 + 2?", step=WholeAnswer(), max_steps=1, max_tokens_per_step=99
        )
        posterior = SelfConsistency(4).run(model, seed=0)
        policy.close()
    posterior.save(tmp_path / "run")
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"sk-ver" not in file.read_bytes()
    texts = [particle.text for particle in posterior.particles]
    assert not any("sk-ver" in text for text in texts)
    if kind == "chat":
        assert sum("It is ***" in text for text in texts) == 2
    else:
        assert posterior.cost.failed_particles == 2


# Which key goes where

HERE, THERE = "http://localhost:8000/v1", "http://localhost:8001/v1"


@pytest.mark.parametrize(
    ("variables", "policy", "reward"),
    [
        ({}, None, None),
        ({"": "a"}, "a", None),
        ({"": "a\r\n"}, "a", None),
        ({"": "  "}, None, None),
        ({"": "a", "REWARD_": "b"}, "a", "b"),
        ({"POLICY_": "a"}, "a", None),
        ({"REWARD_": "b"}, None, "b"),
        ({"": "a", "POLICY_": "c"}, "c", None),
    ],
)
def test_each_role_has_a_key_of_its_own(
    variables: dict[str, str], policy: str | None, reward: str | None, only: Any
) -> None:
    only({f"LLMSMC_{role}API_KEY": key for role, key in variables.items()})
    settings = Settings(policy=HERE, reward=THERE)
    assert given_key(settings, "policy") == policy
    assert given_key(settings, "reward") == reward
    assert named_key(settings, "policy") is named_key(settings, "reward") is None


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets variables, where none of ours is set."""
    for role in ("", "POLICY_", "REWARD_"):
        monkeypatch.delenv(f"LLMSMC_{role}API_KEY", raising=False)
    for name in ("LLMSMC_API_KEYS", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def set_all(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_one_server_has_the_one_key(only: Any) -> None:
    only({"LLMSMC_API_KEY": "a"})
    assert given_key(Settings(reward=THERE), "reward") == "a"  # the policy runs here
    assert given_key(Settings(policy=HERE, reward="http://LOCALHOST:8000"), "reward") == "a"
    for other in ("https://localhost:8000", "http://localhost", "http://localhost:8000/b/v1"):
        assert given_key(Settings(policy=HERE, reward=other), "reward") is None


def test_keys_that_are_named_go_to_their_addresses_alone(only: Any) -> None:
    only({"LLMSMC_API_KEYS": f"{HERE}=a==\r\n  http://Other/v1=b", "LLMSMC_API_KEY": "c"})
    cases: dict[str, str | None] = {
        HERE: "a==",
        "http://LocalHost:8000/": "a==",
        "http://other:80": "b",
    }
    cases |= {THERE: None, "https://other": None, "http://other/b": None, "http://other.org": None}
    for address, key in cases.items():
        assert named_key(Settings(policy=address), "policy") == key
    assert given_key(Settings(policy=HERE), "policy") == "a=="
    assert given_key(Settings(policy=THERE), "policy") == "c"


def test_the_key_of_openai_goes_there_alone(only: Any) -> None:
    only({"OPENAI_API_KEY": "a"})
    assert named_key(Settings(policy="https://api.openai.com/v1"), "policy") == "a"
    for other in ("http://api.openai.com/v1", "https://api.openai.com.evil.org/v1", HERE):
        assert given_key(Settings(policy=other), "policy") is None


@pytest.mark.parametrize("keys", ["sk-secret", "host=sk-secret", f"{HERE}=", f"{HERE} sk-secret"])
def test_keys_that_are_named_for_nothing_are_refused_unseen(keys: str, only: Any) -> None:
    only({"LLMSMC_API_KEYS": keys})
    with pytest.raises(InputError, match="LLMSMC_API_KEYS has an address") as caught:
        named_key(Settings(policy=THERE), "policy")
    assert "sk-secret" not in str(caught.value)


def test_a_key_that_cannot_be_sent_is_told_by_its_variable(only: Any) -> None:
    only({"LLMSMC_API_KEY": "sk-sec ret"})
    with pytest.raises(InputError, match="LLMSMC_API_KEY cannot be used.*7 is a space") as caught:
        given_key(Settings(policy=HERE), "policy")
    assert "sk-sec" not in "".join(traceback.format_exception(caught.value))
