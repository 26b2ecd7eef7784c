"""Reading an evaluation: the lines of results, and the manifest that they belong to."""

from pathlib import Path
from typing import Any, Final, NotRequired, TypedDict

from llmsmc.errors import InputError
from llmsmc.storage.json_files import read_document
from llmsmc.storage.strict_files import loads
from llmsmc.storage.typed import mismatch, shown


class CostLine(TypedDict):
    """The entries of the cost of a run that figures need."""

    generated_tokens: int
    scored_tokens: int
    model_calls: int
    failures: NotRequired[dict[str, int]]


class ResultLine(TypedDict):
    """The entries of the result of one question that figures need; a line has more."""

    id: str
    level: bool | int | float | str | None
    answer: str | None
    reference: str
    correct: bool
    grading: NotRequired[str | None]
    probability: float
    probability_correct: float
    selected: dict[str, bool]
    truncated: int | None
    num_steps: int | None
    num_particles: int | None
    num_right: NotRequired[int | None]
    independent_draws: NotRequired[bool | None]
    why_no_answer: NotRequired[str | None]
    no_answer: NotRequired[dict[str, int] | None]
    seconds: float
    cost: CostLine
    error: str | None


class Manifest(TypedDict):
    """The entries of a manifest that are read."""

    config: dict[str, Any]


_RANGES: Final = {
    "probability": (0, 1),
    "probability_correct": (0, 1),
    "truncated": (0, 2**63),
    "num_particles": (1, 2**63),
    "seconds": (0.0, 1e12),
}
"""Key -> the smallest and the largest number that it may be, up to rounding."""
_ROUNDING: Final = 1e-9


def parse_results(path: Path, content: bytes) -> list[dict[str, Any]]:
    """Return the results in the lines of a file.

    Raises:
        InputError: a line is no result; the message has its number and the reason.
    """
    lines = content.splitlines()
    results = [_object(path, number, line) for number, line in enumerate(lines, start=1)]
    for number, result in enumerate(results, start=1):
        wrong = mismatch(result, ResultLine) or _beyond(result)
        if wrong is not None:
            raise _broken(path, number, wrong)
    return results


def is_result(line: bytes) -> bool:
    """Return whether a line is the whole of a result."""
    try:
        parse_results(Path(), line)
    except InputError:
        return False
    return line != b""


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the configuration that a manifest states.

    Raises:
        InputError: it is no manifest; the message has the reason.
    """
    try:
        config: dict[str, Any] = read_document(path, Manifest)["config"]
    except (OSError, ValueError) as error:
        raise InputError(
            f"This is not the manifest of an evaluation: {error}. Got {str(path)!r}; accepted: an "
            "empty folder, or one of an earlier evaluation."
        ) from error
    return config


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        result = loads(line)
    except ValueError as error:
        raise _broken(path, number, str(error)) from error
    if not isinstance(result, dict) or "id" not in result:
        raise _broken(path, number, f"it is {shown(result)}")
    return result


def _beyond(result: dict[str, Any]) -> str | None:
    """Return which number is too small or too large."""
    for key, (smallest, largest) in _RANGES.items():
        if result[key] is not None and not smallest <= result[key] <= largest + _ROUNDING:
            return f"{key} is {shown(result[key])}; accepted: {smallest} to {largest}"
    cut, count = result["truncated"], result["num_particles"]
    if (cut is None) != (count is None) or (cut or 0) > (count or 0):
        return f"truncated is {shown(cut)} of {shown(count)} particles"
    causes = result.get("no_answer") or {}
    if any(number < 0 for number in causes.values()):
        return f"no_answer is {shown(causes)}; accepted: counts"
    for key, number in (
        ("num_right", result.get("num_right")),
        ("no_answer", sum(causes.values())),
    ):
        if number is not None and not 0 <= number <= (count or 0):
            return f"{key} is {shown(number)} of {shown(count)} particles"
    return None


def _broken(path: Path, number: int, reason: str) -> InputError:
    return InputError(
        f"A results file has one result a line. Got something else at line {number} of "
        f"{str(path)!r}: {reason}. Accepted: the file as it was written; without that line, its "
        "question is asked again."
    )
