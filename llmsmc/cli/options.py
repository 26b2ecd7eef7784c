"""The options of the commands, each declared once.

A setting takes its type and its default from the field of that name in `Settings`; the names that
it accepts come from `llmsmc.registry`.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

import typer

from llmsmc import defaults
from llmsmc.grading.forms import NAMES
from llmsmc.models.pretrained.names import DTYPES, QUANTIZATIONS
from llmsmc.registry import AGGREGATIONS, ALGORITHMS, CONVENTIONS, DATASETS, FORM, RESAMPLERS
from llmsmc.solving.prompts import PROMPTS
from llmsmc.solving.reward_notation import REWARD_FORMS
from llmsmc.solving.settings import Settings

Command = TypeVar("Command", bound=Callable[..., None])

_SETTINGS: Final = {each.name: each for each in fields(Settings)}
_ONLY_ONE, _ON_SERVER = "the only one there", "its name on the server"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


_KINDS: Final = _listed(QUANTIZATIONS)


def option(
    panel: str | None,
    name: str,
    metavar: str | None,
    help: str,
    kind: Any = None,
    default: Any = None,
    flag: str | None = None,
    **more: Any,
) -> Parameter:
    """Return an option as the parameter of a command.

    Args:
        panel: the heading under which the help shows it.
        name: the name of the parameter, from which the name of the option is made.
        metavar: the placeholder of a value in the help.
        help: the text in the help.
        kind: the type; without it, type and default come from the setting of that name.
        default: the default value, if there is a `kind`.
        flag: another spelling of the option.
        more: arguments of `typer.Option`.
    """
    if kind is None:
        kind, default = _SETTINGS[name].type, _SETTINGS[name].default
        kind = next(iter(get_args(kind)), kind)  # of a union, the first is what a text can say
    if kind is Path:
        more["callback"] = _named
    spelled = [flag or f"--{name.replace('_', '-')}"] if flag or kind is bool else []
    info = typer.Option(*spelled, metavar=metavar, help=help, rich_help_panel=panel, **more)
    annotation: Any = Annotated[kind if default is not None else kind | None, info]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _named(path: Path | None) -> Path | None:
    """Refuse the sign that other programs take for the standard output."""
    if path == Path("-"):
        raise typer.BadParameter(
            "A path names a file or a folder. Got '-'; accepted: a name, as ./- is."
        )
    return path


def taking(*options: Parameter) -> Callable[[Command], Command]:
    """Return a decorator that declares the options of a command: its keyword arguments."""

    def declared(command: Command) -> Command:
        own = inspect.signature(command).parameters.values()
        arguments = [each for each in own if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
        signature = inspect.Signature([*arguments, *options])
        command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        command.__signature__ = signature  # type: ignore[attr-defined]
        return command

    return declared


run = functools.partial(option, "Inference")
models = functools.partial(option, "Models")
_servers = functools.partial(option, "Models on servers")
_reasoning = functools.partial(option, "Reasoning")

ALGORITHM: Final = run(
    "algorithm",
    "NAME:KEY=VALUE,...",
    f"{ALGORITHMS.listed}; options after a colon, as in "
    f"bootstrap:resampler=stratified,ess_threshold=0.3. Resamplers: {RESAMPLERS.listed}.",
    str,
    defaults.DEFAULT_ALGORITHM,
)
PARTICLES: Final = run(
    "particles", "N", "Number of particles.", int, show_default=str(defaults.DEFAULT_NUM_PARTICLES)
)
SEED: Final = run("seed", "INTEGER", "The same seed, the same run.", int, defaults.DEFAULT_SEED)
IN_FLIGHT: Final = run(
    "in_flight",
    "K",
    "Questions under way at a time, sharing the batches of the models; 1 takes one after the "
    "other.",
    int,
    defaults.DEFAULT_IN_FLIGHT,
    min=1,
)
TOKENS_MEANWHILE: Final = run(
    "tokens_meanwhile",
    "K",
    "Tokens that are drawn for other questions while the reward model scores, in a thread of its "
    "own. It gains where that has a device, a server or processors to itself.",
    int,
    0,
    min=0,
)
SELECTION: Final = run(
    "selection",
    "RULE",
    "How one answer is selected: mode (the most probable), majority, argmax (that of the best "
    "score) or sample.",
)
MAX_STEPS: Final = "Solutions are cut off after so many steps."
MAX_TOKENS_PER_STEP: Final = "A step is cut off after so many tokens."
MAX_TOKENS: Final = "A solution is cut off after so many tokens."
DEVICE: Final = models(
    "device",
    "DEVICE",
    "Where the models run: cpu, cuda, cuda:1, ...",
    show_default="cuda if there is one, else cpu",
)
DATASET: Final = (
    f"{DATASETS.listed}; or a .jsonl file of objects with a question (or problem) and an answer."
)
RANGE: Final = option(
    None,
    "range",
    "FIRST:LAST",
    "Only the questions at these places, counted from 1, both included: 501: or :500 or 501:600.",
    str,
    show_default="all",
)
DEBUG: Final = option(
    None, "debug", None, "Show where an error comes from, and all warnings.", bool, False
)

OF_MODELS: Final = (
    models(
        "policy",
        "MODEL",
        "The language model: an embedded one (minimath-policy, minimath-policy-small), a GGUF "
        "file, a folder, a name on the Hugging Face hub, or the address of a server, as in "
        "http://localhost:8000/v1 (vLLM, SGLang, llama.cpp; others for whole answers). Its "
        "key is read from LLMSMC_API_KEY.",
    ),
    models(
        "reward",
        "REWARD",
        f"What scores the steps: {REWARD_FORMS}; a process reward model: an embedded one "
        "(minimath-reward, minimath-reward-weak), a folder, a name on the hub, or the address of a "
        "vLLM server, whose key is read from LLMSMC_REWARD_API_KEY; or a function of your own as "
        f"{FORM}. Given several times, they make one ensemble.",
        list[str],
        show_default=f"{defaults.DEFAULT_REWARD} for embedded policies; others need one",
    ),
    models(
        "reward_convention",
        "NAME",
        f"How the reward model reads a solution: {CONVENTIONS.listed}.",
        show_default="recognised from config and tokenizer",
    ),
    models(
        "reward_quantization",
        "KIND",
        f"Of the weights of the reward model: {_KINDS}.",
        show_default="none",
    ),
    models(
        "reward_device", "DEVICE", "Where the reward model runs.", show_default="that of --device"
    ),
    models(
        "reward_calibration",
        "NUMBER",
        "A temperature by which the log-odds of the reward model are divided: above 1 it is less "
        "sure than it was trained to be, below 1 more.",
    ),
    _servers("policy_model", "NAME", "The policy's name on its server.", show_default=_ONLY_ONE),
    _servers(
        "policy_tokenizer",
        "MODEL",
        "Whose tokenizer it has: an embedded model, a folder, or a name on the hub.",
        show_default=_ON_SERVER,
    ),
    _servers(
        "reward_model", "NAME", "The reward model's name on its server.", show_default=_ONLY_ONE
    ),
    _servers("reward_tokenizer", "MODEL", "Whose tokenizer it has.", show_default=_ON_SERVER),
    _servers(
        "request_seconds",
        "S",
        "How long one answer may take, to its last byte.",
        show_default="300",
    ),
    _servers(
        "retry_seconds",
        "S",
        "For how long a server that does not answer, or has too much to do, is asked again.",
        show_default="600",
    ),
    _servers(
        "max_answer_bytes",
        "N",
        "How large an answer may be, as it is sent and as it is unpacked.",
        show_default="32 MiB",
    ),
    models("quantization", "KIND", f"Of the weights of the policy: {_KINDS}."),
    models(
        "proposal",
        "KIND",
        "The quantization in which the policy proposes steps to the guided filter, which weighs "
        "them by the policy as --quantization has it.",
    ),
    models("double_quantization", None, "Quantize the scales of 4-bit weights of the policy, too."),
    models(
        "adapter",
        "ADAPTER",
        "A PEFT adapter of the policy: a folder, or a name on the hub.",
        show_default=False,
    ),
    models(
        "policy_revision",
        "NAME",
        "Branch, tag or commit of a policy on the hub.",
        show_default=False,
    ),
    models(
        "chat_template",
        "FILE",
        "A chat template in the language Jinja in place of that of the policy; base models have "
        "none.",
        Path,
        show_default=False,
    ),
    models(
        "engine",
        "NAME",
        "What computes a policy in this process: transformers, llama-cpp (GGUF files), or auto: "
        "llama-cpp for GGUF files where it is installed and nothing that is asked for needs "
        "transformers.",
    ),
    DEVICE,
    models(
        "device_map",
        "NAME",
        "Spread the policy over several devices, in place of --device: auto, balanced or "
        "sequential.",
        show_default=False,
    ),
    models(
        "dtype",
        "NAME",
        f"The precision of the models: {_listed(DTYPES)}.",
        show_default="float32 on the CPU, or bfloat16 for large models if it computes in that; "
        "elsewhere that of the checkpoint",
    ),
)
OF_REASONING: Final = (
    _reasoning("temperature", "NUMBER", "At which the policy is sampled."),
    _reasoning(
        "aggregation",
        "NAME",
        f"How the scores of the steps make that of a solution: {AGGREGATIONS.listed}.",
    ),
    _reasoning("inverse_temperature", "NUMBER", "The exponent of the score in the target."),
    _reasoning(
        "policy_inverse_temperature",
        "NUMBER",
        "The exponent, in the target, of the law of the policy at temperature 1.",
        show_default="the law at --temperature itself",
    ),
    _reasoning("max_steps", "T", MAX_STEPS),
    _reasoning("max_tokens_per_step", "L", MAX_TOKENS_PER_STEP),
    _reasoning("max_tokens", "L", MAX_TOKENS, show_default="what the context has room for"),
    _reasoning(
        "step",
        "RULE",
        r"Where a step ends: behind a delimiter such as '\n\n', behind a match of "
        r"'regex:[.!?]\s', or after 'tokens:64'; 'fences:' before a rule keeps fenced blocks "
        f"whole; or a rule of your own as {FORM}.",
        str,
        defaults.DEFAULT_STEP_TEXT,
    ),
    _reasoning(
        "system",
        "TEXT",
        f"A system prompt, or the name of one: {_listed(list(PROMPTS))}.",
        show_default="that of the chat template",
    ),
    _reasoning(
        "answer_forms",
        "NAME,...",
        f"Where answers are looked for, the preferred form first: {_listed(NAMES)}. phrase is "
        "'The answer is ...', hashes is '#### ...'.",
    ),
    _reasoning(
        "write_on",
        None,
        "Particles begin the next step while others finish theirs, where one question is under "
        "way: the same law, sooner where steps differ in length.",
    ),
    _reasoning(
        "thinking",
        None,
        "The policy thinks before it answers, up to </think>: its template is told so, and answers "
        "are looked for behind the tag.",
        bool,
        False,
    ),
    _reasoning(
        "thinking_step",
        "RULE",
        "Where a step of the thinking ends.",
        str,
        show_default="that of --step",
    ),
    _reasoning(
        "max_thinking_tokens",
        "L",
        "The thinking is closed by force after so many tokens.",
        int,
        show_default="no limit",
    ),
    _reasoning(
        "score_thinking",
        None,
        "Whether the reward model reads the steps of the thinking.",
        bool,
        True,
        flag="--score-thinking/--score-answer-only",
    ),
)
