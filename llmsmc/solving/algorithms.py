"""Algorithms as they are written in one line: `NAME[:key=value,...]`.

The name is one of `llmsmc.registry.ALGORITHMS`, or `package.module:Name` for one's own. The keys
are the fields of the algorithm's settings. A field that takes a resampler is given by the name of a
scheme, likewise; where the algorithm's own is `Adaptive`, it is wrapped in that, and the threshold
is the key `ess_threshold`.
"""

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final, Literal, get_args, get_origin

from llmsmc.core.checks import require_choice
from llmsmc.defaults import DEFAULT_NUM_PARTICLES
from llmsmc.errors import InputError
from llmsmc.inference import Adaptive, Algorithm, Resampler
from llmsmc.registry import ALGORITHMS, RESAMPLERS, split_options

_THRESHOLD: Final = "ess_threshold"
_WORDS_OF_BOOL: Final = {"true": True, "yes": True, "1": True} | dict.fromkeys(
    ["false", "no", "0"], False
)


def parse_algorithm(text: str, num_particles: int | None = None) -> Algorithm:
    """Return the algorithm that the line describes.

    Args:
        text: `NAME[:key=value,...]`; of one's own `package.module:Name[:key=value,...]`.
        num_particles: N, for algorithms that have it; None if it is left to the line, or to the
            default where the line does not say it.

    Raises:
        InputError: the name, a key or a value is not known, or N is said twice; or one's own
            algorithm cannot be imported or made.

    >>> parse_algorithm("self-consistency:num_particles=8")
    SelfConsistency(num_particles=8, truncated='keep', record=True)
    """
    name, options = split_options(ALGORITHMS, text)
    algorithm: type[Any] = ALGORITHMS.find(name)
    annotations = _annotations(name, algorithm)
    accepted = settable(algorithm, annotations)
    given = _split(name, options, accepted)
    values = {
        key: convert(key, value, annotations[key])
        for key, value in given.items()
        if key in annotations
    }
    if _is_adaptive(algorithm) and given.keys() & {"resampler", _THRESHOLD}:
        threshold = convert(_THRESHOLD, given.get(_THRESHOLD, "0.5"), float)
        values["resampler"] = Adaptive(values.get("resampler", Adaptive().resampler), threshold)
    if "num_particles" in accepted:
        values["num_particles"] = _count(values.get("num_particles"), num_particles)
    return _made(name, algorithm, values)


def _annotations(name: str, algorithm: type[Any]) -> dict[str, Any]:
    """Return the types of the settings of an algorithm.

    Raises:
        InputError: it is no dataclass, or they cannot be evaluated.
    """
    if not is_dataclass(algorithm):
        raise InputError(
            f"The settings of an algorithm are the fields of a dataclass. Got {name!r}, which is "
            "none; accepted: a dataclass."
        )
    try:
        return typing.get_type_hints(algorithm)
    except Exception as error:  # of whatever an annotation says
        raise InputError(
            f"The types of the settings of an algorithm are needed to read them. Got {name!r}, "
            f"with {type(error).__name__}: {error}; accepted: annotations that can be evaluated."
        ) from error


def _made(name: str, algorithm: type[Any], values: dict[str, Any]) -> Algorithm:
    """Return the algorithm with its settings.

    Raises:
        InputError: it does not take them, or lacks one.
    """
    lacking = [
        each.name
        for each in _fields(algorithm)
        if each.default is each.default_factory is MISSING and each.name not in values
    ]
    if lacking:
        raise InputError(
            f"{name} has settings without a default. Got none for {', '.join(lacking)}; accepted: "
            f"{name}:{lacking[0]}=VALUE."
        )
    try:
        made = algorithm(**values)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # it is abstract, or refuses a setting
        raise InputError(
            f"{name} cannot be made. Got {type(error).__name__}: {error}; accepted: an algorithm "
            "that takes these settings."
        ) from error
    assert isinstance(made, Algorithm)
    return made


def settable(algorithm: type[Any], annotations: dict[str, Any]) -> list[str]:
    """Return the keys that a line can give for an algorithm."""
    names = [field.name for field in _fields(algorithm) if _converter(annotations[field.name])]
    return [*names, _THRESHOLD] if _is_adaptive(algorithm) else names


def convert(name: str, text: str, annotation: Any) -> Any:
    """Return the value that `text` stands for in a field of that annotation.

    Raises:
        InputError: the text stands for no such value.
    """
    converter = _converter(annotation)
    assert converter is not None, f"{name}: {annotation} is not settable"
    return converter(name, text)


def describe_algorithm(algorithm: Algorithm) -> dict[str, Any]:
    """Return the name and the settings of an algorithm as in a JSON file."""
    description: dict[str, Any] = {"name": ALGORITHMS.name_of(type(algorithm))}
    for field in _fields(type(algorithm)):
        value = getattr(algorithm, field.name)
        if isinstance(value, Adaptive):
            description[field.name] = RESAMPLERS.name_of(value.resampler)
            description[_THRESHOLD] = value.ess_threshold
        elif value is None or isinstance(value, bool | int | float | str):
            description[field.name] = value
        else:
            description[field.name] = RESAMPLERS.name_of(value)
    return description


def default_description(algorithm: Algorithm) -> dict[str, Any]:
    """Return the part of the description that an algorithm with default settings has."""
    cls = type(algorithm)
    required = [
        each.name for each in _fields(cls) if each.default is each.default_factory is MISSING
    ]
    description = describe_algorithm(cls(**{name: getattr(algorithm, name) for name in required}))
    return {key: value for key, value in description.items() if key not in ("name", *required)}


def _split(name: str, options: str, accepted: list[str]) -> dict[str, str]:
    """Return the keys and values of `key=value,...`."""
    given: dict[str, str] = {}
    for option in filter(None, options.split(",")):
        key, equals, value = (part.strip() for part in option.partition("="))
        if key not in accepted:
            raise InputError(
                f"{name} has no option of that name. Got {key!r}; accepted: {', '.join(accepted)}."
            )
        if not equals or not value or key in given:
            raise InputError(
                f"An option of {name} is given once, with its value. Got {option!r}; accepted: "
                f"{key}=VALUE."
            )
        given[key] = value
    return given


def _count(in_line: int | None, beside: int | None) -> int:
    """Return N, which may be given in the line, beside it, or not at all."""
    if in_line is not None and beside is not None and in_line != beside:
        raise InputError(
            "The number of particles is said twice, and differently. Got num_particles="
            f"{in_line} and {beside} particles; accepted: either of them."
        )
    return next((n for n in (in_line, beside) if n is not None), DEFAULT_NUM_PARTICLES)


def _converter(annotation: Any) -> Callable[[str, str], Any] | None:
    """Return the function that reads values of that annotation; None if a line cannot give any."""
    if annotation is Resampler:
        return lambda name, text: RESAMPLERS.find(text)
    if annotation is bool:
        return _bool
    if annotation in (int, float):
        return lambda name, text: _number(name, text, annotation)
    if annotation is str:
        return lambda name, text: text
    if get_origin(annotation) is Literal:
        return lambda name, text: _choice(name, text, get_args(annotation))
    if get_origin(annotation) in (types.UnionType, typing.Union):
        return _optional(get_args(annotation))
    return None


def _optional(members: tuple[Any, ...]) -> Callable[[str, str], Any] | None:
    others = [_converter(member) for member in members if member is not types.NoneType]
    if len(others) == len(members) or len(others) != 1 or others[0] is None:
        return None
    other = others[0]
    return lambda name, text: None if text == "none" else other(name, text)


def _number(name: str, text: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(text)
    except ValueError as error:
        noun = "an integer" if kind is int else "a number"
        raise InputError(f"{name} is {noun}. Got {text!r}; accepted: {noun}.") from error


def _bool(name: str, text: str) -> bool:
    require_choice(name, text.lower(), _WORDS_OF_BOOL)
    return _WORDS_OF_BOOL[text.lower()]


def _choice(name: str, text: str, choices: tuple[str, ...]) -> str:
    require_choice(name, text, choices)
    return text


def _is_adaptive(algorithm: type[Any]) -> bool:
    """Return whether the resampler of an algorithm decides whether to resample."""
    return any(isinstance(field.default, Adaptive) for field in _fields(algorithm))


def _fields(algorithm: type[Any]) -> tuple[Field[Any], ...]:
    return tuple(field for field in fields(algorithm) if field.init)
