"""A chat template that a user gives: the text of one, or a file with it."""

from pathlib import Path
from typing import Final

from llmsmc.errors import InputError

_MAX_BYTES: Final = 2**20


def template_text(given: str | Path) -> str:
    """Return the text of a template that is given as such, or as a file.

    A text with a brace is a template, anything else the name of a file.

    Raises:
        InputError: there is no such file, or it holds no text.
    """
    if isinstance(given, str) and "{" in given:
        return given
    path = Path(given)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _no_template(given, f"{path.stat().st_size:,} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no text in UTF-8"
        raise _no_template(given, reason) from error
    if not text.strip():
        raise _no_template(given, "nothing in it")
    return text


def _no_template(given: str | Path, got: str) -> InputError:
    return InputError(
        f"This is no chat template. Got {str(given)!r} ({got}); accepted: a template in the "
        "language Jinja, or a file of at most 1 MiB with one."
    )
