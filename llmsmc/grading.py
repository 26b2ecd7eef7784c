r"""Reading an answer out of a text and comparing it with a reference.

Model text is data here: it is matched by regular expressions and never evaluated. Comparisons that
need algebra run in a separate process (`grading_worker.py`) which is killed when it takes too long,
so that they are safe to make from any thread.
"""

import atexit
import functools
import json
import os
import queue
import re
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Final

__all__ = ["equivalent", "extract_answer"]

MAX_ANSWER_LENGTH: Final = 256  # longer answers are compared as strings only
COMPARISON_SECONDS: Final = 5.0
START_UP_SECONDS: Final = 60.0  # importing a computer algebra system on a busy machine

_BOXED = re.compile(r"\\f?boxed\s*\{")
_HASHES = re.compile(r"^####[ \t]*(.+?)[ \t]*$", re.MULTILINE)


def extract_answer(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}``, else of the last line ``#### answer``.

    >>> extract_answer(r"First \boxed{1}, then \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> extract_answer("So she pays 18 dollars.\n#### 18")
    '18'
    >>> extract_answer("No answer yet") is None
    True
    """
    boxed = boxed_answer(text)
    if boxed is not None:
        return boxed
    lines = _HASHES.findall(text)
    return lines[-1] if lines else None


def boxed_answer(text: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{...}``."""
    for match in reversed(list(_BOXED.finditer(text))):
        end = _closing_brace(text, match.end())
        if end is not None:
            return text[match.end() : end].strip()
    return None


def _closing_brace(text: str, start: int) -> int | None:
    r"""Index of the brace that closes the one before `start`; ``\{`` and ``\}`` do not count."""
    depth = 1
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return position
        position += 1
    return None


def equivalent(answer: str | None, reference: str | None) -> bool:
    r"""Whether `answer` says the same as `reference`.

    Tried in this order: equal strings after normalisation; equal numbers, exactly, when both are
    plain numbers, fractions or percentages; equal expressions by math-verify. A comparison that
    cannot be made (no answer, too long, too slow, package missing) is not an equality.

    >>> equivalent("1,000", "1000"), equivalent(r"\frac{1}{2}", "0.5"), equivalent("10%", "0.1")
    (True, True, True)
    >>> equivalent("12", "13"), equivalent(None, "13")
    (False, False)
    """
    if answer is None or reference is None:
        return False
    answer, reference = _normalized(answer), _normalized(reference)
    if not answer or not reference:
        return False
    if answer == reference:
        return True
    if max(len(answer), len(reference)) > MAX_ANSWER_LENGTH:
        return False
    left, right = _plain_number(answer), _plain_number(reference)
    if left is not None and right is not None:
        return left == right
    try:
        return _equal_expressions(reference, answer)
    except _Undecided:
        return False


# Normalisation. Every rule is here because two writings of one answer differ by it.
_REPLACEMENTS: Final = (
    (re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])"), ""),
    (re.compile(r"\\[!,;: ]|~"), ""),
    (re.compile(r"\^\{?\\circ\}?"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\?\$"), ""),
    (re.compile("\N{MINUS SIGN}"), "-"),
    (re.compile(r"\s+"), ""),
)
_DELIMITERS: Final = ((r"\(", r"\)"), (r"\[", r"\]"))


def _normalized(text: str) -> str:
    text = text.strip()
    for opening, closing in _DELIMITERS:
        if text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)]
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text[:-1] if text.endswith(".") else text


_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_SIGN = r"(?P<sign>[+-]?)"
_NUMBER: Final = re.compile(
    rf"{_SIGN}(?P<top>{_DECIMAL})(?:/(?P<bottom>{_DECIMAL}))?(?P<percent>%?)"
)
_FRACTION: Final = re.compile(
    rf"{_SIGN}\\frac(?:\{{(?P<top>-?{_DECIMAL})\}}\{{(?P<bottom>{_DECIMAL})\}}"
    r"|(?P<first>[0-9])(?P<second>[0-9]))(?P<percent>%?)"
)


def _plain_number(text: str) -> Fraction | None:
    """The exact value of a number as people write it, or None."""
    match = _NUMBER.fullmatch(text) or _FRACTION.fullmatch(text)
    if match is None:
        return None
    parts = match.groupdict()
    top = parts["top"] or parts["first"]
    bottom = parts["bottom"] or parts.get("second") or "1"
    denominator = Fraction(bottom.replace(",", ""))
    if denominator == 0:
        return None
    value = Fraction(top.replace(",", "")) / denominator
    value = -value if parts["sign"] == "-" else value
    return value / 100 if parts["percent"] else value


class _Undecided(Exception):
    """The comparison was not made: too slow, the worker died, or the package is missing."""


@functools.lru_cache(maxsize=4096)
def _equal_expressions(reference: str, answer: str) -> bool:
    return _WORKER.compare(reference, answer)


class _Worker:
    """A process that compares expressions, one at a time; killed and replaced when it is slow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._owner = 0
        self._available = True

    def compare(self, reference: str, answer: str) -> bool:
        with self._lock:
            process = self._running()
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps([reference, answer]) + "\n")
                process.stdin.flush()
                return self._next_line(COMPARISON_SECONDS) == "equal"
            except OSError as error:
                self.stop()
                raise _Undecided(str(error)) from error

    def _running(self) -> subprocess.Popen[str]:
        if not self._available:
            raise _Undecided("math-verify is not installed")
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self.stop()
            self._owner = os.getpid()
            self._lines = queue.Queue()
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("grading_worker.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            threading.Thread(
                target=_forward_lines, args=(self._process, self._lines), daemon=True
            ).start()
            self._available = self._next_line(START_UP_SECONDS) == "ready"
            if not self._available:
                self.stop()
                raise _Undecided("math-verify is not installed")
        return self._process

    def _next_line(self, seconds: float) -> str:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty as error:
            self.stop()
            raise _Undecided(f"no result within {seconds} seconds") from error
        if not line:  # the worker ended
            self.stop()
            raise _Undecided("the comparison ended its process")
        return line

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not yet written cannot be written any more
                    pass


def _forward_lines(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line.strip())
    except ValueError:  # closed while reading: the worker was replaced
        pass
    lines.put("")


_WORKER: Final = _Worker()
atexit.register(_WORKER.stop)
