"""The conventions by name, and which of them a checkpoint follows."""

import inspect
from collections.abc import Callable
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from llmsmc.core.checks import require_choice
from llmsmc.errors import InputError
from llmsmc.models.rewards.conventions.convention import Convention
from llmsmc.models.rewards.conventions.math_shepherd import MathShepherdConvention
from llmsmc.models.rewards.conventions.pqm import PqmConvention
from llmsmc.models.rewards.conventions.pure import PureConvention
from llmsmc.models.rewards.conventions.qwen import QwenConvention
from llmsmc.models.rewards.conventions.rlhflow import RlhflowConvention
from llmsmc.models.rewards.conventions.skywork import SkyworkConvention
from llmsmc.models.rewards.conventions.trl import TrlConvention
from llmsmc.models.rewards.conventions.versa import VersaConvention

CONVENTIONS: Final[dict[str, type[Convention]]] = {
    "qwen": QwenConvention,
    "math-shepherd": MathShepherdConvention,
    "rlhflow": RlhflowConvention,
    "skywork": SkyworkConvention,
    "versa": VersaConvention,
    "trl": TrlConvention,
    "pqm": PqmConvention,
    "pure": PureConvention,
}


def convention_class(
    convention: str | type[Convention] | None,
    architecture: str,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
) -> type[Convention]:
    """Return the convention of that name, one of your own as it is, or that of the checkpoint.

    Args:
        convention: a name, a class, or None to recognise it.
        architecture: the class of the model that the checkpoint names.
        tokenizer: its tokenizer.
        source: where it came from, for error messages.

    Raises:
        InputError: there is no such convention, or it cannot be told from the checkpoint.
    """
    if isinstance(convention, str):
        require_choice("convention", convention, CONVENTIONS)
        return CONVENTIONS[convention]
    if convention is not None:
        return convention
    found = [name for name, cls in CONVENTIONS.items() if cls.recognizes(architecture, tokenizer)]
    if len(found) != 1:
        got = f"the conventions {' and '.join(found)} alike" if found else f"a {architecture}"
        raise InputError(
            f"How {source} reads a solution cannot be told from its config and tokenizer: it may "
            f"be a reward model of several kinds, or not a process reward model at all. Got {got}; "
            f"accepted: convention= one of {', '.join(map(repr, CONVENTIONS))}; for log-ratios of "
            "two language models `ImplicitReward`, for a model that writes `GenerativeJudge`."
        )
    return CONVENTIONS[found[0]]


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
