r"""What of a text is its answer, in the forms in which answers are written.

| form | the answer is | |
| --- | --- | --- |
| `boxed` | the content of the last ``\boxed{...}`` that holds one | by default |
| `hashes` | the last line ``#### answer``, as in GSM8K | by default, if there is no box |
| `phrase` | what follows the last "the answer is", "Answer:" and the like | by name |
| `last-number` | the last number, of a text that its author has ended | by name |

Forms have an order of preference: the first one in which a text gives an answer counts. A box that
holds a placeholder, as ``\boxed{}`` in the words of a task, is only mentioned. Every pattern here
reads a text in time proportional to its length.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from llmsmc.defaults import DEFAULT_ANSWER_FORMS
from llmsmc.grading.forms import BOXED, HASHES, LAST_NUMBER, PHRASE
from llmsmc.grading.text import LABEL

__all__ = ["boxed_answer", "extract_answer", "gives_answer"]


def extract_answer(
    text: str, forms: Iterable[str] = DEFAULT_ANSWER_FORMS, *, is_ended: bool = True
) -> str | None:
    r"""Return the answer of a text in the first form in which it gives one.

    By default it is the content of the last ``\boxed{...}`` that holds an answer, else the last
    ``#### answer``.

    Args:
        text: the text.
        forms: the names of forms, the preferred one first.
        is_ended: whether its author has ended the text; the last number of a text that was cut off
            is none of its answers.

    >>> extract_answer(r"First \boxed{1}, then \boxed{\frac{1}{2}}, as \boxed{...} was asked for.")
    '\\frac{1}{2}'
    >>> extract_answer("So she pays 18 dollars.\n#### 18 dollars\n#### Conclusion")
    '18'
    >>> extract_answer(r"I will put the answer in \boxed{}.") is None
    True
    >>> extract_answer("The answer is **$18** a day, as 9 * 2 = 18.", ["boxed", "phrase"])
    '18'
    """
    for form in forms:
        if is_ended or form != LAST_NUMBER:
            answer = FORMS[form](text)
            if answer is not None:
                return answer
    return None


def boxed_answer(text: str) -> str | None:
    r"""Return the content of the last box that holds an answer.

    Of boxes within a box it is the inner one; ``\{`` and ``\}`` are no braces.
    """
    spans = _boxed_answers(text)
    return text[slice(*spans[-1])].strip() if spans else None


def hashed_answer(text: str) -> str | None:
    """Return the answer in the last line ``#### answer`` that is no heading."""
    lines = reversed(_HASHES.findall(text))
    return next((found for found in map(_answer_of_line, lines) if found is not None), None)


def phrased_answer(text: str) -> str | None:
    r"""Return what the last sentence says that names its answer.

    Such a sentence has "answer is", "answer would be", "answer:" or "answer =", with or without
    "the", "final" or "correct". Its answer is a number, without currency and words behind it; a
    formula; a letter of choice; yes, no, true or false; or, behind a colon, a single word.

    >>> phrased_answer("So the final answer is: $x^2$. I hope it is correct.")
    'x^2'
    >>> phrased_answer("The answer is 3 * 6 = 18 eggs. The answer is not easy.")
    '18'
    """
    if "nswer" not in text and "NSWER" not in text:
        return None
    for found in reversed(list(_PHRASE.finditer(text))[-_MAX_SENTENCES:]):
        has_colon = (found["colon"] or found["mark"]) is not None
        rest = text[found.end() : found.end() + _MAX_SENTENCE]
        answer = _answer_of_sentence(rest, is_labelled=has_colon)
        if answer is not None:
            return answer
    return None


def last_number(text: str) -> str | None:
    r"""Return the last number of a text: whole, decimal, a fraction or a percentage, with its sign.

    >>> last_number("She pays $1,200 - 50 in all, or -$1,150.00.")
    '-1,150.00'
    """
    found = next(iter(deque(_ANY_NUMBER.finditer(text), maxlen=1)), None)
    if found is None:
        return None
    return found["fraction"] or (found["sign"] or "").replace("\u2212", "-") + found["number"]


FORMS: Final[Mapping[str, Callable[[str], str | None]]] = {
    BOXED: boxed_answer,
    HASHES: hashed_answer,
    PHRASE: phrased_answer,
    LAST_NUMBER: last_number,
}
"""Name -> the function from a text to its answer in that form."""


def gives_answer(text: str) -> bool:
    r"""Return whether a text that may go on has a box that holds an answer, whatever follows.

    A box without braces is open as long as nothing stands behind it: ``\boxed 1`` may become
    ``\boxed 12``.
    """
    return any(end < len(text) for _, end in _boxed_answers(text))


def has_box(text: str) -> bool:
    r"""Return whether a text has a box at all, whatever is in it.

    >>> has_box(r"so \boxed{7"), has_box("There are 7 boxes.")
    (True, False)
    """
    return _BOX.search(text) is not None


def is_placeholder(text: str) -> bool:
    r"""Return whether a text only holds the place of an answer: nothing, dots, ``your answer``.

    >>> [is_placeholder(each) for each in ("", r"\ldots", "?", r"\text{your answer}", "#1")]
    [True, True, True, True, True]
    >>> [is_placeholder(each) for each in ("x", r"\emptyset", r"\text{no}", r"2, \ldots, 6", "<")]
    [False, False, False, False, False]
    """
    if len(text.strip()) > _MAX_PLACEHOLDER:
        return False
    rest = _BLANK.sub("", _SETTING.sub("", text))
    if not text.strip() or (rest != text and not rest.strip("()[]")):
        return True
    return _PLACEHOLDER.fullmatch(_SEPARATORS.sub("", rest)) is not None


_MAX_PLACEHOLDER: Final = 100
_BOXES: Final = "f?boxed|fbox|framebox"
_BOX: Final = re.compile(rf"\\(?:{_BOXES})(?![a-zA-Z])")
_STYLES: Final = (
    "text(?:bf|it|rm|sf|tt|normal|color)?|math(?:rm|bf|it|sf|tt)|[hm]box|emph|underline|boldsymbol"
    "|bf|rm|displaystyle|left|right|langle|rangle"
)
_SETTING: Final = re.compile(rf"\\(?:{_STYLES}|{_BOXES})(?![a-zA-Z])")
_BLANK: Final = re.compile(
    r"\\[hv]space\*?\s*\{[^{}]*\}|\\[hv]?phantom\s*\{[^{}]*\}|\\rule\s*\{[^{}]*\}\s*\{[^{}]*\}"
    r"|\\(?:[lcv]?dots[cbmio]?|q?quad|enspace|thinspace|square|Box|cdot|bullet)(?![a-zA-Z])"
    r"|\\[,;:!_ ]"
    r"|-{2,}|={2,}|[{}$~.?_\s\"'`\u2026\u22ef\u201c\u201d\u2018\u2019\u25a1\ufe0f\uff1f]"
)
_SEPARATORS: Final = re.compile(r"[-<>\[\]()*:\\]")
_WHOSE: Final = "(?:put|insert|enter|write|place|type|state|give)?(?:the|my|your|our|an?)?"
_WHICH: Final = "(?:final|correct|numeric(?:al)?|exact|simplified|actual|single|integer)"
_PLACEHOLDER: Final = re.compile(
    r"#[0-9]"
    rf"|{_WHOSE}{_WHICH}*(?:answers?|ans|results?|solution|value|number|expression|content)"
    r"(?:choice|letter|value)?(?:goes|comes|is)?(?:here|below)?"
    rf"|(?:your|the|my|{_WHICH})+(?:choice|option|letter|integer|fraction|text)(?:here)?"
    r"|(?:put|insert|enter|write|place|type)(?:it|this|that)?here"
    rf"|{_WHOSE}{_WHICH}*answer(?:as|in|with|without|to)[a-z]*|letter"
    r"|placeholder|fillin|blank|tbd|todo|tobe(?:determined|found|filledin)",
    re.IGNORECASE,
)

_SIZE: Final = r"(?:\s*\[[^\[\]{}\n]{0,40}\]){0,2}"  # of \framebox[3cm][c]{5}
_TOKEN: Final = re.compile(
    rf"(?P<box>\\?\\(?:{_BOXES})(?![a-zA-Z]))(?P<brace>{_SIZE}\s*+\{{)?|\\.|[{{}}]", re.DOTALL
)

# Boxes without braces. All repetitions are bounded, so that each is read in bounded time.
_GROUP: Final = r"\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]{0,60}\}){0,60}\}){0,60}\}"
_ARGUMENT: Final = rf" ?(?:{_GROUP}|[0-9a-zA-Z])"
_THOUSANDS: Final = r"(?:(?:,|\{,\}|\\[,!])[0-9]{3}(?![0-9])){0,30}"
_DIGITS: Final = rf"(?:[0-9]{{1,200}}{_THOUSANDS}(?:\.[0-9]{{1,200}})?|\.[0-9]{{1,200}})"
_LETTER: Final = r"[a-zA-Z](?![a-zA-Z])"
_SYMBOLS: Final = (
    "(?:var)?(?:epsilon|theta|kappa|pi|rho|sigma|phi)|alpha|beta|gamma|delta|zeta|eta|iota|lambda"
    "|mu|nu|xi|tau|upsilon|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
    "|infty|pm|mp|emptyset|varnothing|aleph|ell|hbar|cdot|times"
)
_PIECE: Final = (
    rf"{_DIGITS}(?:/{_DIGITS})?"
    rf"|\\(?:[dtc]?frac|[dt]?binom){_ARGUMENT}{_ARGUMENT}|\\sqrt(?:\[[^\[\]\n]{{1,20}}\])?{_ARGUMENT}"
    rf"|\\(?:{_STYLES}|overline|mathbb|mathcal|vec|hat|bar)\s?{_GROUP}|\\(?:{_SYMBOLS})(?![a-zA-Z])"
    r"|\\left(?![a-zA-Z])[^\n$]{1,100}?\\right(?:\\[|}]|[^\n$])"
    r"|\$[-+\\(0-9a-zA-Z][^$\n]{0,100}\$|\\\{[^{}\n$]{0,100}\\\}|\([^()\n$]{1,100}\)|\[[^\[\]\n$]{1,100}\]"
)
_AND_SO_ON: Final = rf"(?:{_PIECE}|{_LETTER}|[\^_]{_ARGUMENT}|!|\\?%){{0,20}}"
_END_OF_FORMULA: Final = r"(?=\s{0,99}+(?:\$|\\[)\]]|\Z)|\.(?:\s|\Z))"
_UNBRACED: Final = re.compile(
    rf"[^\S\n]{{0,99}}(?P<content>[-+\u2212]?(?:\\\$)?(?:(?:{_PIECE}){_AND_SO_ON}"
    rf"|{_LETTER}{_AND_SO_ON}{_END_OF_FORMULA}))"
)
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_COMMANDS: Final = re.compile(rf"\\(?:{_STYLES})\s*\{{[^{{}}]*\}}|\\[a-zA-Z]+")


def _boxed_answers(text: str) -> list[tuple[int, int]]:
    """Return where the contents of boxes are that hold answers, in the order of the text."""
    if "box" not in text:
        return []
    found: list[tuple[int, int]] = []
    newest = -1
    open_braces: list[int | None] = []  # where the content of a box starts, None for other braces
    for token in _TOKEN.finditer(text):
        span = None
        if token["brace"]:
            open_braces.append(token.end())
        elif token["box"]:
            span = _unbraced(text, token.end())
        elif token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}":
            start = open_braces.pop() if open_braces else None
            span = None if start is None else (start, token.start())
        if span is not None and span[0] > newest:  # else it is around another box
            newest = span[0]
            if not (is_placeholder(text[slice(*span)]) or _is_explained(text, *span)):
                found.append(span)
    return found


def _unbraced(text: str, start: int) -> tuple[int, int] | None:
    r"""Return where the content of a box without braces is, None if none follows.

    It is a number, a command with its arguments or a bracket, with what stands behind it without a
    space, as in ``\boxed 2\pi``. (TeX puts the first sign alone into the box.)
    """
    match = _UNBRACED.match(text, start)
    if match is None or _WORD.search(_COMMANDS.sub("", match["content"])):
        return None
    return match.span("content")


def _is_explained(text: str, start: int, end: int) -> bool:
    r"""Return whether what is in a box is a letter that stands for the answer.

    As in ``\boxed{N}, where N is the number of ways``.
    """
    letter = _SETTING.sub("", text[start : min(end, start + 40)]).strip(" {}$")
    if len(letter) != 1 or not letter.isalpha():
        return False
    where = (
        rf"[\s$`*\"'\u201d).,;:\\}}\]]{{0,9}}\(?where\s+[$`*\\(]{{0,4}}{letter}[$`*\\)]{{0,4}}\s+"
    )
    return re.match(where + r"(?:is|denotes|stands|represents)\b", text[end : end + 60]) is not None


_HASHES: Final = re.compile(r"^[ >*_`]{0,8}####(?!#)(.*)$", re.MULTILINE)
_BOLD: Final = re.compile(r"(?<![\w)}])(?:\*\*|__)|(?:\*\*|__)(?![\w({\\])")
_ORNAMENTS: Final = r"[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff\ufe0f\u200d\s]"
_ORNAMENT: Final = re.compile(rf"^{_ORNAMENTS}++|(?<!{_ORNAMENTS}){_ORNAMENTS}++$")
_NUMBER: Final = r"(?:(?:[0-9]{1,3}(?:[, ][0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_CURRENCY: Final = r"(?:(?:USD|EUR|GBP|INR|Rs\.?|\\?\$|[\u00a3\u00a5\u20ac\u20b9])\s?)?"
_AMOUNT: Final = (
    rf"{_CURRENCY}(?P<sign>[-+\u2212]?)\s?{_CURRENCY}"
    rf"(?P<number>(?:[0-9]+\s[0-9]+/[0-9]+|[0-9]+/[0-9]+|{_NUMBER})(?:\s?\\?%)?)"
    r"(?:\s?[$\u00a3\u00a5\u20ac\u20b9])?"
)
_AMOUNT_ALONE: Final = re.compile(rf"{_AMOUNT}[.!]?")
_AMOUNT_AND_WORDS: Final = re.compile(rf"{_AMOUNT}[,;!]?\s+\(?(?P<words>[^\W\d_]{{2,}}[^=]*)")
_NAMES: Final = (
    r"(?:pi|sqrt|a?(?:rc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp|inf(?:inity)?|mod)(?![^\W\d_])"
)
# Of these the number is only a part: 2 pi, 3 million, 3 hours 20 minutes, 10 pm, 5 or 7.
_MORE: Final = re.compile(
    r"(?:hundred|thousand|million|billion|trillion|dozen|by|times|plus|minus|am|pm)\b"
    r"|(?:and|or|to)\s+(?:[0-9]|(?:a\s+)?(?:half|quarter|third)\b)"
    rf"|{_NAMES}|[^\W\d_]+[.,]?\s+(?:and\s+)?[0-9]",
    re.IGNORECASE,
)
_NUMBERED: Final = re.compile(
    r"(?:\(?[0-9]+(?:\.[0-9]+)*[.):]|[A-Z][0-9]*[.:])\s+[^\W\d_]{2,}"
    r"|[0-9]+(?:\s*[-\u2013\u2014]|(?:\.[0-9]+)+)\s+[A-Z][a-z]+\s"
)
_WORD_IN_FRONT: Final = re.compile(r"[^\w\\]*(?:[^\W\d_]{3,}|[A-Z][a-z]|[^\W\d_a-zA-Z]{2,})")
_LONG_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_MATHEMATICS: Final = re.compile(rf"{_COMMANDS.pattern}|(?<![^\W\d_]){_NAMES}")
_VERDICT: Final = re.compile(r"(?:yes|no|true|false)[.!]?", re.IGNORECASE)


def _answer_of_line(line: str) -> str | None:
    """Return the answer in what follows ``####``, None if that is a heading."""
    line = _BOLD.sub("", line.strip().strip("#")).strip(' \t\r*_`"')
    line = _ORNAMENT.sub("", line)
    label = LABEL.match(line)
    line = (line if label is None else line[label.end() :]).lstrip("=:\u2248 ")
    if is_placeholder(line):
        return None
    found = _AMOUNT_ALONE.fullmatch(line) or _AMOUNT_AND_WORDS.fullmatch(line)
    if found is None or _NUMBERED.match(line):
        is_labelled = label is not None and label["colon"]
        return line if is_labelled or not _is_heading(line) else None
    is_part = _MORE.match(found.groupdict().get("words", ""))
    return line if is_part else found["sign"] + found["number"]


def _is_heading(line: str) -> bool:
    """Return whether a line starts with a word, numbers a step, or has words and no digit."""
    rest = _MATHEMATICS.sub("0", line)
    if _VERDICT.fullmatch(rest):
        return False
    if _WORD_IN_FRONT.match(rest) or _NUMBERED.match(line):
        return True
    return _LONG_WORD.search(rest) is not None and not any(c.isdigit() for c in line)


# What names an answer, and no more than it: "The answer is 5", "**Final Answer:** 5".
_PHRASE: Final = re.compile(
    r"(?<![\w\\])answer(?:\s+(?:to|for|of)\s[^.:=\n]{1,80}?)?[*_`\"')]{0,4}\s{0,4}"
    r"(?:(?:is|was|equals|(?:will|would|should|must)\s+be)\b"
    r"(?:\s+(?:therefore|thus|then|hence|simply|just|approximately|about|equal\s+to|given\s+by)\b)?"
    r"[*_`]{0,4}(?P<colon>\s?[:\uff1a])?|(?:(?P<mark>[:\uff1a])|=))[*_`\"]{0,4}\s*",
    re.IGNORECASE,
)
_MAX_SENTENCE: Final = 400  # characters of it that are read
_MAX_SENTENCES: Final = 50  # that name an answer and are read, the last ones
_SENTENCE: Final = re.compile(r"[.!?](?=[\s*_`\"')]|$)")
_FORMULA: Final = re.compile(
    r"[*_`]{0,3}(?:\$\$?(?=[^\s$])(?P<dollars>[^$\n]{1,300})(?<=[^\s\\])\$(?!\d)"
    r"|\\[(\[]\s*(?P<brackets>[^\n]{1,300}?)\s*\\[)\]])"
)
_AMOUNT_IN_FRONT: Final = re.compile(
    rf"{_AMOUNT}(?:$|\s+(?P<words>(?:[^\W\d_]{{2,}}|a\s).*)|\s*[(,;:!].*)"
)
_CALCULATION: Final = re.compile(
    r"(?:[-+*/x().,0-9\s$%^=\u2212\u00b7\u00d7\u00f7]|\\(?:times|cdot|div)(?![a-zA-Z]))*[0-9)%]\s*"
)
_CHOICE: Final = re.compile(r"\([A-J]\)(?=\W|$)|[A-J](?=\s*(?:$|[),:;]|(?:because|since|as)\b))")
_ONE_WORD: Final = re.compile(r"[^\W\d_]{3,30}")


def _answer_of_sentence(rest: str, *, is_labelled: bool) -> str | None:
    """Return the answer that a sentence says, given what follows its "answer is"."""
    line = rest.partition("\n")[0]
    formula = _FORMULA.match(line)
    if formula is not None:
        inner = (formula["dollars"] or formula["brackets"]).strip()
        inner = boxed_answer(inner) or inner
        return None if is_placeholder(inner) else inner
    line = _BOLD.sub("", line).strip(' \t\r*_`"')
    end = _SENTENCE.search(line)
    line = (line if end is None else line[: end.start()]).rstrip(' *_`"')
    if is_placeholder(line):
        return None
    choice = _CHOICE.match(line)
    if choice is not None:
        return choice[0]
    before, _, behind = line.rpartition("=")
    parts = [line, behind.strip()] if _CALCULATION.fullmatch(before) else [line]
    for part in parts:
        found = _AMOUNT_IN_FRONT.fullmatch(part)
        if found is not None:
            is_part = _MORE.match(found["words"] or "")
            return part if is_part else found["sign"] + found["number"]
    if _is_heading(line) and not (is_labelled and _ONE_WORD.fullmatch(line)):
        return None
    return line


_ANY_NUMBER: Final = re.compile(
    r"(?P<fraction>-?\\[dtc]?frac\s?\{-?[0-9]+\}\s?\{[0-9]+\})"
    r"|(?:(?<![\w)\]}.])(?P<sign>[-\u2212]))?(?:\\?\$)?(?<![\w^.])"
    r"(?P<number>(?:[0-9]+/[0-9]+(?![0-9/])|(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
    r"|\.[0-9]+)(?:\s?\\?%)?)"
)
