r"""Rewards as they are written in one line, on the command line, in Python and in files.

```
MODEL                       a process reward model: embedded, a folder, on the hub, on a server
package.module:NAME         a function or a reward of one's own; or the NAME of an installed package
KIND[:ARGUMENT][,KEY=VALUE]...      one of the kinds below
ensemble:REWARD+REWARD...[,combine=NAME]
```

The names of kinds come first: a folder of such a name is written with its path, `./judge`. Keys
follow the argument behind commas, or the colon where there is no argument. A `+` in the name of a
member of an ensemble is written `\+`.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llmsmc.core.checks import require_choice, require_count, require_fraction
from llmsmc.errors import InputError
from llmsmc.models.pretrained.names import EMBEDDED, resolve
from llmsmc.models.servers.address import root_of
from llmsmc.registry import FORM, REWARDS, is_reference

POLICY: Final = "policy"
"""The word for the policy of the run where a language model is named."""

_OPTION: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PLUS: Final = re.compile(r"(?<!\\)\+")
_PREFIX_RULES: Final = ("last", "min", "model")


Option = Callable[[str, str], Any]
"""From the name and the text of an option to its value."""


def _words(*accepted: str) -> Option:
    def word(name: str, text: str) -> str:
        require_choice(name, text, accepted)
        return text

    return word


def _count(name: str, text: str) -> int:
    require_count(name, int(text) if text.isascii() and text.isdigit() else text)
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise InputError(f"{name} is a number. Got {text!r}; accepted: 0 <= {name} < infinity.")
    return value


def _fraction(name: str, text: str) -> float:
    value = _number(name, text)
    require_fraction(name, value)
    return value


def _text(name: str, text: str) -> str:
    return text


@dataclass(frozen=True)
class Kind:
    """A kind of reward, as it is written.

    Attributes:
        form: how it is written.
        options: its keys, with the function that reads the value of each.
        argument: whether there is one behind the colon: "no", "may" or "must".
        of_prefix: whether its scores are of the solution so far.
    """

    form: str
    options: Mapping[str, Option] = field(default_factory=dict)
    argument: str = "no"
    of_prefix: bool = False


KINDS: Final[dict[str, Kind]] = {
    "none": Kind("none"),
    "own-log-prob": Kind("own-log-prob", {"tokens": _words("mean", "sum", "min")}),
    "arithmetic": Kind("arithmetic", {"wrong": _fraction}),
    "judge": Kind(
        "judge[:MODEL]",
        {"num_critiques": _count, "max_tokens": _count, "temperature": _number},
        "may",
        of_prefix=True,
    ),
    "ratio": Kind(
        "ratio:MODEL[,reference=MODEL]",
        {"reference": _text, "coefficient": _number},
        "must",
        of_prefix=True,
    ),
    "answer": Kind("answer", {"wrong": _fraction}, of_prefix=True),
    "ensemble": Kind(
        "ensemble:REWARD+REWARD", {"combine": _words("mean", "geometric", "min")}, "must"
    ),
}
"""The kinds that have a name of their own."""

REWARD_FORMS: Final = ", ".join(kind.form for kind in KINDS.values())

MODEL, FUNCTION, FOLDER = "model", "function", "folder"
"""The kinds that are known by what is there."""

FOLDERS: Final[dict[str, str]] = {"probe.json": "llmsmc.models.rewards.probe:Probe"}
"""File by which a folder is known as a reward that reads the policy -> reference of its class.

The class makes the reward by `from_pretrained(folder, policy)`, and may have a class method
`check_folder(folder)`, which raises `InputError` where the folder cannot be used.
"""


@dataclass(frozen=True)
class NamedReward:
    """A reward as it has been named.

    Attributes:
        text: the text that names it.
        kind: its kind: one of `KINDS`, or "model", "function" or "folder".
        argument: what the text says behind the name of the kind; of the others, all of it.
        options: the keys with their values.
        members: those of an ensemble.
    """

    text: str
    kind: str
    argument: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    members: "tuple[NamedReward, ...]" = ()

    @property
    def parts(self) -> "tuple[NamedReward, ...]":
        """The members of an ensemble; itself otherwise."""
        return self.members or (self,)

    @property
    def reads_policy(self) -> bool:
        """Whether the loaded policy is needed to make it, which may be a model that it names."""
        return any(each.kind in ("own-log-prob", FOLDER) or each.models for each in self.parts)

    @property
    def reads_network(self) -> bool:
        """Whether it may need the network of the policy, beyond what that says of its tokens."""
        return any(each.kind == FOLDER or each.models for each in self.parts)

    @property
    def reads_answers(self) -> bool:
        """Whether it knows the right answers: an oracle, whose figures are a ceiling."""
        return any(each.kind == "answer" for each in self.parts)

    @property
    def models(self) -> list[str]:
        """The language models that it is made of; `policy` stands for that of the run."""
        if self.kind == "judge":
            return [self.argument or POLICY]
        if self.kind == "ratio":
            return [self.argument, self.options.get("reference", POLICY)]
        return []

    def check_aggregation(self, name: str) -> None:
        """Raise `InputError` if the rule would count the parts of a solution repeatedly."""
        of_prefix = [p.kind for p in self.parts if p.kind in KINDS and KINDS[p.kind].of_prefix]
        if of_prefix and name in ("product", "odds", "exp"):
            raise InputError(
                f"{of_prefix[0]} scores the solution so far, and {name} would count its beginning "
                f"again at every step. Got aggregation={name!r} beside reward={self.text!r}; "
                f"accepted: {', '.join(map(repr, _PREFIX_RULES))}."
            )


def parse_reward(text: str | Path) -> NamedReward:
    """Return the reward that a text names; nothing is loaded.

    >>> parse_reward("judge:qwen-7b,num_critiques=4").options
    {'num_critiques': 4}
    >>> [each.kind for each in parse_reward("ensemble:arithmetic+own-log-prob").members]
    ['arithmetic', 'own-log-prob']

    Raises:
        InputError: there is no such kind, model or function, or it is not written so.
    """
    if isinstance(text, Path):
        return _model(text)
    name, _, rest = text.partition(":")
    if name in KINDS:
        return _of_kind(name, rest, text)
    if text not in EMBEDDED and (is_reference(text) or text in REWARDS.installed()):
        return _function(text)
    return _model(text)


def joined(texts: Sequence[str]) -> str | None:
    """Return the text of an ensemble of rewards; that of a single one unchanged, None for none.

    >>> joined(["arithmetic", "own-log-prob"])
    'ensemble:arithmetic+own-log-prob'
    """
    if not texts:
        return None
    if len(texts) == 1:
        return texts[0]
    return "ensemble:" + "+".join(_PLUS.sub(r"\\+", text) for text in texts)


def accepted_rewards() -> str:
    """Return how rewards are written, for errors and help texts."""
    return (
        f"{REWARD_FORMS}; a process reward model (a folder, a name on the hub, the address of a "
        "vLLM server, minimath-reward, minimath-reward-weak); or a function of your own as "
        f"{FORM}"
    )


def is_address(model: object) -> bool:
    """Return whether a model is given by the address of a server."""
    return isinstance(model, str) and model.startswith(("http://", "https://"))


def _of_kind(name: str, rest: str, text: str) -> NamedReward:
    kind = KINDS[name]
    pieces, options = rest.split(",") if rest else [], dict[str, Any]()
    while pieces and (found := _OPTION.fullmatch(pieces[-1].strip())):
        key = found[1]
        if name == "ensemble" and key not in kind.options:
            break  # of the last member
        if key not in kind.options or key in options:
            accepted = ", ".join(f"{each}=VALUE" for each in kind.options) or "none"
            raise InputError(
                f"The reward {name} has options by name, each once. Got {pieces[-1].strip()!r} in "
                f"{text!r}; accepted: {accepted}."
            )
        options[key] = kind.options[key](key, found[2])
        del pieces[-1]
    argument = ",".join(pieces).strip()
    if bool(argument) != (kind.argument == "must") and kind.argument != "may":
        got = f"{argument!r} behind it" if argument else "nothing behind it"
        raise InputError(
            f"The reward {name} is written {kind.form}. Got {got} in {text!r}; accepted: "
            f"{kind.form}."
        )
    if name == "ensemble":
        members = tuple(
            parse_reward(each.replace(r"\+", "+").strip()) for each in _PLUS.split(argument)
        )
        _check_members(members, text)
        return NamedReward(text, name, argument, options, members)
    named = NamedReward(text, name, argument, options)
    if name == "ratio" and len(set(named.models)) == 1:
        raise InputError(
            f"A ratio is of two language models. Got {named.argument!r} twice in {text!r}; "
            "accepted: another one as reference=."
        )
    for model in set(named.models) - {POLICY}:
        if is_address(model):
            raise InputError(
                f"The language model of {name} runs in this process. Got {model!r}; accepted: a "
                "folder or a name on the hub."
            )
        resolve(model)
    return named


def _check_members(members: tuple[NamedReward, ...], text: str) -> None:
    wrong = next((each for each in members if each.kind in ("none", "ensemble")), None)
    if wrong is not None or len(members) < 2:
        got = f"{wrong.text!r} as one of them" if wrong else "a single one"
        raise InputError(
            f"An ensemble has two members or more, which are rewards by themselves. Got {got} in "
            f"{text!r}; accepted: ensemble:REWARD+REWARD."
        )


def _function(text: str) -> NamedReward:
    from llmsmc.models.rewards.reward_function import named_reward

    try:
        named_reward(text)
    except InputError as error:
        raise InputError(f"{error}{_hint(text)}") from error
    return NamedReward(text, FUNCTION, text)


def _model(model: str | Path) -> NamedReward:
    text = str(model)
    if is_address(text):
        root_of(text)
        return NamedReward(text, MODEL, text)
    is_bare = isinstance(model, str) and "/" not in text and not Path(text).is_dir()
    if is_bare and text not in EMBEDDED and _near(text):
        raise InputError(f"There is no such reward. Got {text!r}.{_hint(text)}")
    try:
        source = Path(resolve(model))
    except InputError as error:
        raise InputError(f"{error}{_hint(text)}") from error
    is_own = any((source / marker).is_file() for marker in FOLDERS)
    return NamedReward(text, FOLDER if is_own else MODEL, text)


def _near(text: str) -> list[str]:
    """Return the kind with nearly that name, if there is one."""
    return difflib.get_close_matches(text.partition(":")[0], KINDS, n=1, cutoff=0.8)


def _hint(text: str) -> str:
    """Return what else could have been meant."""
    meant = "".join(f" Did you mean {KINDS[near].form}?" for near in _near(text))
    return f"{meant} A reward is written {accepted_rewards()}."
