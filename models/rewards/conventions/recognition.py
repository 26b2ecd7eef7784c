"""The conventions by name, and which of them a checkpoint follows."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmsmc.errors import InputError
from llmsmc.models.pretrained.checkpoints import stored_tensors
from llmsmc.models.pretrained.loading import load_plain_tokenizer, loading_errors, resolve
from llmsmc.models.rewards.conventions.convention import Convention, not_a_reward_model
from llmsmc.registry import CONVENTIONS


def architecture_of(source: str) -> str:
    """Return the class of model that a checkpoint names; empty if it names none."""
    with loading_errors(source):
        config, _ = PreTrainedConfig.get_config_dict(source)
    return str(next(iter(config.get("architectures") or ()), ""))


def check_checkpoint(name_or_path: str, convention: str | None = None) -> None:
    """Check that a checkpoint is a process reward model, without reading its weights.

    Raises:
        InputError: it is no checkpoint, its convention cannot be told, or it is none of that one:
            its tokenizer lacks a marker, or its files the head.
    """
    source = resolve(name_or_path)
    tokenizer = load_plain_tokenizer(source)
    cls = convention_class(convention, architecture_of(source), tokenizer, name_or_path)
    made(cls, tokenizer, {})
    head = getattr(cls, "head", None)
    if head is None or not Path(source).is_dir():
        return
    with loading_errors(source):
        stored = stored_tensors(source, None)
    if stored is not None and not any(name.startswith(f"{head}.") for name in stored.shapes):
        named = convention or CONVENTIONS.name_of(cls)
        raise not_a_reward_model(source, named, head, "a checkpoint without it")


def convention_class(
    convention: str | type[Convention] | None,
    architecture: str,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
) -> type[Convention]:
    """Return the convention of that name, a class unchanged, or the convention of the checkpoint.

    Conventions of installed packages are asked where no built-in one recognises the checkpoint.

    Args:
        convention: a name, a class, or None to recognise it.
        architecture: the class of the model that the checkpoint names.
        tokenizer: its tokenizer.
        source: where it came from, for error messages.

    Raises:
        InputError: there is no such convention, or it cannot be told from the checkpoint.
    """
    if isinstance(convention, str):
        return named_convention(convention)
    if convention is not None:
        return convention
    found = list[str]()
    for names in (CONVENTIONS, CONVENTIONS.installed()):
        known = ((name, named_convention(name)) for name in names)
        found = [name for name, each in known if each.recognizes(architecture, tokenizer)]
        if found:
            break
    if len(found) != 1:
        got = f"the conventions {' and '.join(found)} alike" if found else f"a {architecture}"
        raise InputError(
            f"How {source} reads a solution cannot be told from its config and tokenizer: it may "
            f"be a reward model of several kinds, or not a process reward model at all. Got {got}; "
            f"accepted: convention= one of {', '.join(map(repr, CONVENTIONS))}; for log-ratios of "
            "two language models `ImplicitReward`, for a model that writes `GenerativeJudge`."
        )
    return named_convention(found[0])


def named_convention(name: str) -> type[Convention]:
    """Return the convention of that name (`llmsmc.registry.CONVENTIONS`).

    Raises:
        InputError: there is none of that name.
    """
    found: type[Convention] = CONVENTIONS.find(name)
    return found


def made(
    cls: Callable[..., Convention], tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]
) -> Convention:
    """Return the convention for a tokenizer, with settings of its own.

    Raises:
        InputError: it has no such setting.
    """
    accepted = [name for name in inspect.signature(cls).parameters if name != "tokenizer"]
    for name in settings:
        if name not in accepted:
            raise InputError(
                f"{getattr(cls, '__name__', cls)} has no such setting. Got {name!r}; accepted: "
                f"{', '.join(accepted) or 'none'}."
            )
    return cls(tokenizer, **settings)
