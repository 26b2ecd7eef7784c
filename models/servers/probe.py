"""Finding out what runs behind an address, and what it can do; asked once, before anything else."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from llmsmc.errors import InputError, ServerError
from llmsmc.models.servers.chat import Chat
from llmsmc.models.servers.client import Client
from llmsmc.models.servers.engine import Capabilities, Draw, Drawn, Engine, LabelEngine, LogProbs
from llmsmc.models.servers.llama_cpp import LlamaCpp
from llmsmc.models.servers.sglang import SGLang
from llmsmc.models.servers.vllm import Vllm

ENGINES: Final = ("vllm", "sglang", "llama.cpp", "chat")
LONGEST_NAME: Final = 500
MOST_TOKENS: Final = 2**31

# Two temperatures tell whether log-probabilities are those at temperature 1: of the same two
# tokens, the difference is then the same.
_TEMPERATURE: Final = 2.0
_SAME: Final = 0.1


@dataclass(frozen=True)
class Server:
    """What runs behind an address.

    Attributes:
        engine: how it is asked.
        capabilities: what it can do.
        model: the name of the model there; empty if it needs none.
    """

    engine: Engine
    capabilities: Capabilities
    model: str


def probe(client: Client, model: str | None) -> Server:
    """Return what runs there; the first kind of server that it answers like.

    Costs a few tokens where the kind of its log-probabilities has to be found out.

    Raises:
        InputError: which model is meant cannot be told.
        ServerError: nothing answers there.
    """
    version = _text(_mapping(client.get("/version")).get("version"))
    if version:
        return _vllm(client, model, version)
    props = _mapping(client.get("/props"))
    if "default_generation_settings" in props:
        return _llama_cpp(props, model)
    for path in ("/server_info", "/get_server_info"):
        info = _mapping(client.get(path))
        if "served_model_name" in info or "disable_radix_cache" in info:
            return _sglang(client, info, model)
    name, _ = _served(client, model)
    return Server(Chat(name), Capabilities(engine="chat"), name)


def _vllm(client: Client, model: str | None, version: str) -> Server:
    name, card = _served(client, model)
    engine = Vllm(name)
    found = Capabilities(
        "vllm", version, seeds=True, context_length=_count(card.get("max_model_len"))
    )
    # A server of pooling models draws no text, and says so.
    token_ids = _works(lambda: _drawn(client, engine).token_ids)
    if not token_ids:
        return Server(engine, found, name)
    found = replace(found, token_ids=True, log_probs=_kind(client, engine))
    found = replace(
        found,
        label_scores=found.log_probs is not None,
        token_scores=_works(lambda: _scores(client, engine)),
    )
    return Server(engine, found, name)


def _sglang(client: Client, info: dict[str, Any], model: str | None) -> Server:
    engine = SGLang()
    card = _mapping(client.get("/get_model_info"))
    served = _text(info.get("served_model_name")) or _text(card.get("model_path"))
    limits = [info.get(key) for key in ("context_length", "max_req_input_len")]
    kind = _kind(client, engine)
    found = Capabilities(
        "sglang",
        _text(info.get("version")),
        token_ids=True,
        log_probs=kind,
        label_scores=kind is not None,
        seeds=info.get("enable_deterministic_inference") is True,
        context_length=next((count for limit in limits if (count := _count(limit))), None),
    )
    return Server(engine, found, model or served)


def _llama_cpp(props: dict[str, Any], model: str | None) -> Server:
    settings = _mapping(props["default_generation_settings"])
    found = Capabilities(
        "llama.cpp",
        _text(props.get("build_info")),
        token_ids=True,
        seeds=True,
        context_length=_count(settings.get("n_ctx")),
    )
    return Server(LlamaCpp(), found, model or _text(props.get("model_path")))


def _kind(client: Client, engine: LabelEngine) -> LogProbs | None:
    """Return of which law the log-probabilities of a server are; None if it is no known one."""
    labels = (0, 1)
    try:
        differences = []
        for temperature in (1.0, _TEMPERATURE):
            body = engine.label_body([0], labels, temperature)
            read = partial(engine.read_labels, labels=labels)
            first, second = client.run(client.post(engine.path, body, read))
            differences.append(first - second)
    except ServerError as error:
        if error.is_down:
            raise
        return None  # logits, say
    at_one, at_two = differences
    if abs(at_two - at_one) < _SAME * abs(at_one):
        return "raw"
    return "tempered" if abs(_TEMPERATURE * at_two - at_one) < _SAME * abs(at_one) else None


def _scores(client: Client, engine: Vllm) -> list[float]:
    ids = [0, 1]
    read = partial(engine.read_scores, ids=ids)
    return client.run(client.post(engine.path, engine.score_body(ids), read))


def _drawn(client: Client, engine: Engine) -> Drawn:
    return client.run(client.post(engine.path, engine.body(Draw((0,), 1, 1.0, 0)), engine.read))


def _works(attempt: Callable[[], object]) -> bool:
    """Return whether a server does what it is asked; that it is down is no answer."""
    try:
        return bool(attempt())
    except ServerError as error:
        if error.is_down:
            raise
        return False


def _served(client: Client, model: str | None) -> tuple[str, dict[str, Any]]:
    """Return the name of the model and what the server says of it.

    Raises:
        InputError: the server has several, or none of that name.
    """
    cards = _mapping(client.get("/v1/models", needed=model is None)).get("data")
    named = [card for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []
    known = {name: card for card in named if (name := _text(card.get("id")))}
    if model is None and len(known) == 1:
        model = next(iter(known))
    if model is None and not known:
        raise InputError(
            f"What answers at {client.root} does not say which models it runs. Got no model; "
            "accepted: the address of vLLM, SGLang or llama.cpp, or of an OpenAI-compatible server "
            "and the name of a model there."
        )
    if model is None or (known and model not in known):
        shown = ", ".join(map(repr, list(known)[:20]))
        raise InputError(f"The server runs models by name. Got model={model!r}; accepted: {shown}.")
    return model, known.get(model, {})


def _mapping(answer: Any) -> dict[str, Any]:
    return answer if isinstance(answer, dict) else {}


def _text(value: Any) -> str:
    """Return a name as a server says it; nothing where it is none that could be shown."""
    is_name = isinstance(value, str) and len(value) <= LONGEST_NAME and value.isprintable()
    return value if is_name else ""


def _count(value: Any) -> int | None:
    """Return a number of tokens; None where it is none that a context could have."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 < value < MOST_TOKENS
    return value if is_count else None
