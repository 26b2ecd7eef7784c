"""What servers answer, as types: JSON that has another one anywhere is no answer.

Each engine states the fields that it reads; those it does not read are passed over.
"""

import re
import reprlib
from collections.abc import Iterable
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from llmsmc.errors import ServerError

ROUNDING: Final = 1e-5  # by which the log-probability of what is certain may come out above zero
LARGEST_COUNT: Final = 2**53


def _whole(text: str) -> str:
    """Raise `UnicodeEncodeError`, which is a `ValueError`, if a text has half of a character."""
    text.encode()
    return text


Text = Annotated[str, AfterValidator(_whole)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True)]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
LogProb = Annotated[float, Field(le=ROUNDING, allow_inf_nan=False)]
LogProbs = Annotated[list[LogProb], Field(fail_fast=True)]
Logit = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Pair = Annotated[tuple[Logit, Logit], Field(strict=False)]  # JSON has lists

_ACCEPTED: Final = re.compile(r"^(Input|List|Tuple) should (be|have) | after validation, not .*")
"""What stands around that which is accepted in the words of pydantic."""

_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxstring = 2, 4, 60


class Answer(BaseModel):
    """A part of what a server answers; strict: no text is a number, and no truth value either."""

    model_config = ConfigDict(strict=True, frozen=True)


A = TypeVar("A", bound=Answer)


def parsed(kind: type[A], answer: Any, engine: str) -> A:
    """Return the answer in its type.

    Raises:
        ServerError: it has another one; says where, what was got and what is accepted.
    """
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"])) or "it"
    if first["type"] == "missing":
        raise unreadable(engine, f"{place} is missing", first["input"])
    accepted = _ACCEPTED.sub("", first["msg"])
    raise ServerError(
        f"{place} is not what {engine} answers there. Got {short(first['input'])}; accepted: "
        f"{accepted}",
        is_down=False,
    )


def unreadable(engine: str, cause: str, got: Any) -> ServerError:
    """Return the error for an answer of the right types that cannot be meant."""
    return ServerError(f"this is no answer of {engine}: {cause}. Got {short(got)}", is_down=False)


def at_most_certain(log_probs: Iterable[float]) -> tuple[float, ...]:
    """Return log-probabilities without what rounding has put above zero."""
    return tuple(min(log_prob, 0.0) for log_prob in log_probs)


def short(value: Any) -> str:
    """Return a value in a few characters, escaped; of an object its fields."""
    return _short.repr(sorted(value) if isinstance(value, dict) else value)
