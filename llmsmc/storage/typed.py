"""Values that come from a file, compared with the types that are expected there.

The types are annotations: None, bool, int, float, str, Any, literals, unions, lists, tuples, dicts
with string keys, typed dictionaries, tensors with dtype and shape, and classes.
"""

import reprlib
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import (
    Any,
    Final,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from llmsmc.storage.characters import one_line

INTEGERS: Final = range(-(2**256), 2**256)
"""The range of integers in a file."""

_WORDS: Final[dict[Any, str]] = {
    NoneType: "null",
    bool: "true or false",
    int: "an integer (of at most 256 bits)",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a tuple",
    dict: "an object",
}


def mismatch(value: Any, kind: Any, name: str = "") -> str | None:
    """Return where a value differs from a type, with the accepted type; None if it has the type.

    Args:
        value: the value that was read.
        kind: the annotation of accepted values.
        name: the name of the value in messages.
    """
    return next(_mismatches(value, kind, name), None)


def shown(value: Any) -> str:
    """Return a value as it can stand in an error, whatever its size and its characters."""
    if hasattr(value, "dtype"):  # of torch, which is not imported for JSON
        return f"a tensor {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, int) and value not in INTEGERS:
        return f"an integer of {value.bit_length()} bits"
    return one_line(_repr.repr(value), 120)


def described(kind: Any) -> str:
    """Return an annotation in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(described(each) for each in arguments)
    if origin is Literal:
        return ", ".join(repr(each) for each in arguments)
    if hasattr(kind, "array_type"):  # of jaxtyping
        return f"a tensor {kind.dtypes[0]} [{kind.dim_str.strip()}]"
    return _WORDS.get(origin or kind, f"a {getattr(kind, '__name__', str(kind))}")


def _mismatches(value: Any, kind: Any, name: str) -> Iterator[str]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin in (Required, NotRequired):
        yield from _mismatches(value, arguments[0], name)
    elif origin in (Union, UnionType):
        others = [each for each in arguments if each is not NoneType]
        if value is None and len(others) < len(arguments):
            return
        if len(others) == 1:
            yield from _mismatches(value, others[0], name)
        elif all(mismatch(value, each) is not None for each in others):
            yield _told(value, kind, name)
    elif origin is Literal:
        if not any(type(value) is type(each) and value == each for each in arguments):
            yield _told(value, kind, name)
    elif is_typeddict(kind):
        yield from _in_table(value, kind, name)
    elif not _is_instance(value, origin or kind):
        yield _told(value, kind, name)
    elif origin is dict:
        yield from _in_parts(value.items(), arguments[1], name)
    elif origin is list or (origin is tuple and arguments[1:] == (...,)):
        yield from _in_parts(enumerate(value), arguments[0], name)
    elif origin is tuple:
        if len(value) != len(arguments):
            yield f"{name} has {len(value)} parts; accepted: {len(arguments)}"
        for number, (child, each) in enumerate(zip(value, arguments, strict=False)):
            yield from _mismatches(child, each, f"{name}[{number}]")


def _in_table(value: Any, kind: Any, name: str) -> Iterator[str]:
    """Compare a dict with the keys that it is to have; others are its own affair."""
    if not isinstance(value, dict):
        yield _told(value, dict, name)
        return
    for key, each in get_type_hints(kind, include_extras=True).items():
        place = f"{name}.{key}" if name else key
        if key in value:
            yield from _mismatches(value[key], each, place)
        elif key in kind.__required_keys__:
            yield f"{place} is missing; accepted: {described(each)}"


def _in_parts(parts: Iterable[tuple[Any, Any]], kind: Any, name: str) -> Iterator[str]:
    for key, child in parts:
        yield from _mismatches(child, kind, f"{name}[{shown(key)}]")


def _is_instance(value: Any, kind: Any) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, float) or _is_instance(value, int)
    if kind is int:
        return isinstance(value, int) and value in INTEGERS
    return isinstance(value, kind if isinstance(kind, type) else object)


def _told(value: Any, kind: Any, name: str) -> str:
    return f"{name} is {shown(value)}; accepted: {described(kind)}"


_repr: Final = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60
_repr.maxdict = _repr.maxlist = _repr.maxtuple = 4
