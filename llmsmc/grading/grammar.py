r"""The structure of an answer: a tree of its lists, sets, pairs, relations and expressions.

    answer     := choice | words | numeral | members
    members    := relation ((, | ; | and | or | \land | \lor) relation)*
    relation   := union ((= | < | \le | > | \ge | \ne | \in) union)*
    union      := ratio ((\cup | \cap | \setminus) ratio)* [\pmod number]
    ratio      := sum (: sum)*
    sum        := [+ | - | \pm | \mp] product ((+ | - | \pm | \mp) product)*
    product    := power ([* | / | \cdot | \times | \div] power)* [unit]
    power      := primary (^ argument | ! | % | degrees)*
    primary    := number | letter | ... | function argument | bracket | matrix

Read once from left to right, LaTeX and plain text alike, and nothing is computed. What the grammar
does not have raises `Unreadable`; brackets may stand `MAX_DEPTH` deep.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from llmsmc.grading.text import bare, normalized, numeral, spoken, words
from llmsmc.grading.units import CURRENCIES, SCALES, TEMPERATURES, unit_name

MAX_DEPTH: Final = 24
MAX_HEIGHT: Final = 100  # of a tree: a product of so many factors


class Unreadable(ValueError):
    """An answer is not in the grammar, or an expression has no value that can be computed."""


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of an answer.

    Attributes:
        kind: what it is: "number", "symbol", "constant", "call", "power", "sum", "product",
            "quotient", "negative", "pm", "mp", "degrees", "percent", "unit", "list", "set",
            "bracket", "matrix", "ratio", "time", "relation", "union", "choice", "text", "numeral",
            "modulo" or "dots".
        parts: what it is made of.
        text: its name, its brackets, its operators, its words or its unit.
        value: the value of a number.
        is_decimal: whether a number is written with a decimal point.
    """

    kind: str
    parts: tuple["Node", ...] = ()
    text: str = ""
    value: Fraction = Fraction(0)
    is_decimal: bool = False


def read(answer: str) -> Node:
    """Return the structure of an answer.

    Raises:
        Unreadable: the answer is not in the grammar.
    """
    choice = _CHOICE.match(_OPTION.sub(r"(\1)", bare(answer)))
    if choice:
        return _choice(choice)
    spelt = normalized(answer)
    said = words(answer)
    if said is not None and spelt not in NAMES:
        several = _SEPARATORS.split(spoken(answer))
        if len(several) > 1:
            return Node("list", tuple(map(read, several)), ",")
        return Node("text", _as_product(spelt), said)
    if numeral(spelt):
        digits, base = numeral(spelt) or ("", "")
        return Node("numeral", text=f"{digits}_{base}".casefold())
    text = bare(answer)
    try:
        return _read(text)
    except Unreadable:
        equation = _EQUATION.fullmatch(text)
        if equation is None:
            raise
        name = Node("symbol", text=normalized(equation[1]))
        return Node("relation", (name, _read(equation[2])), "=")


# What cannot be read left of a sign of equality is a name: P(A | B) = 1/2.
_EQUATION: Final = re.compile(r"((?:[^,;()=<>]|\([^()=<>]*\))+)(?<![!\\:])=([^=]+)")


def _read(text: str) -> Node:
    label = _LABEL.match(text)
    if label:
        said = _read(text[label.end() :])
        if "relation" in (said.kind, *(part.kind for part in said.parts)):
            return said
        return Node("relation", (Node("text", text=label[1].casefold()), said), "=")
    text = _TIMES.sub("*", _ANGLES.sub(r"\\langle \1\\rangle ", text))
    text = _PER.sub(r"\\text{\1/\2}\3", _ORDINARY.sub(r"\1", text))
    try:
        tree = _Parser(_tokens(_without_thousands(text))).answer()
    except RecursionError as error:  # of a caller that stands deep already
        raise Unreadable("too deep") from error
    if _height(tree) > MAX_HEIGHT:
        raise Unreadable("too deep")
    return tree


def _choice(match: re.Match[str]) -> Node:
    """Return a letter of choice with what stands behind it: its answer, or further letters."""
    letter = match[match.lastgroup or 0].casefold()
    content = match.string[match.end() :]
    if match[0].count("{") > match[0].count("}"):
        content = content.removesuffix("}")
    further = _FURTHER.match(content)
    if further:
        rest = read(content[further.end() :])
        members = rest.parts if rest.kind == "list" else (rest,)
        return Node("list", (Node("choice", text=letter), *members), ",")
    return Node("choice", (_content(content),) if content.strip() else (), letter)


def _content(text: str) -> Node:
    """Return what stands behind a letter of choice, as words if it cannot be read."""
    try:
        return read(text)
    except Unreadable:
        return Node("text", text=normalized(text).casefold())


_SEPARATORS: Final = re.compile(r",\s*(?:(?:and|or)\s)?|\s(?:and|or)\s")
_FURTHER: Final = re.compile(
    r"[,;]\s*(?:and\s|or\s|\\text\s*\{\s*(?:and|or)\s*\})?|(?:and|or)\s|\\text\s*\{\s*,?\s*(?:and|or)\s*\}"
)
_TIMES: Final = re.compile(r"(?<=[0-9])\s*x\s*(?=10\^)")  # 3.2 x 10^5
_ANGLES: Final = re.compile(r"^(?:\\left)?<([^<>=]*,[^<>=]*?)(?:\\right\s?)?>$")  # <1, 2>
_LABEL: Final = re.compile(r"([A-Za-z]{3,}(?: [A-Za-z]+){0,4}):\s")  # Total: 5
_ORDINARY: Final = re.compile(r"(?<![\^_])\{([:=<>+-])\}")  # 3{:}1, set without spaces
_PER: Final = re.compile(
    r"\\[dt]?frac\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}"
    r"\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*((?:\^\{?[23]\}?)?)\s*\}"
)


def _height(node: Node) -> int:
    return 1 + max(map(_height, node.parts), default=0)


_OPTION: Final = re.compile(
    r"^(?:\\text\s*\{)?(?:[Oo]ption|[Cc]hoice|[Aa]nswer:?)\s+\(?([A-H])\)?\}?$"
)
_CHOICE: Final = re.compile(
    r"""(?:
      \\(?:text|textbf|textit|textrm|textsf|mathrm|mathbf|mbox)\s*\{\s*
        (?: \((?P<bracketed>[A-H])\)[.:]?\s*\} | (?P<dotted>[A-H])[.:)]?\s*\}
          | \((?P<inside>[A-H])\)\s(?=[^{}]*\}$) | (?P<before>[A-H])[.:)]\s(?=[^{}]*\}$) )
    | \((?P<plain>[A-H])\)(?=$|\s|\d|\$|\\(?![a-z])|\\(?:text|frac|dfrac|sqrt|quad|qquad))
    | (?P<open>[A-H])(?:[.:)](?=\s)|\)$)
    )(?!\s*(?:[+*/^_]|\\(?:cdot|times))|-)(?:\s|\\[ ,;:]|\\q?quad(?![a-z])|~|:)*""",
    re.VERBOSE,
)

# ------------------------------------------------------------------------------- marks of thousands

_THOUSANDS: Final = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3}|, 0\d{2})+(?!,?\d)")
_SPACED: Final = re.compile(r"(?<![\d.,])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?! ?[\d/])")
_SURE: Final = re.compile(r"(?<=\d)(?:\{,\}|,\\!\s*|\\,|\\!|['\u2019])(?=\d{3}(?!\d))")


def _without_thousands(text: str) -> str:
    r"""Return a text without the commas and spaces that set groups of three digits apart.

    A comma with a space behind it makes a list, and so does one in brackets, unless the same
    brackets have a comma with a space as well. No member of a list starts with a needless zero.

    >>> [_without_thousands(text) for text in ("1,000", "1, 100", "(2,100)", "(1,000, 2,100)")]
    ['1000', '1, 100', '(2,100)', '(1000, 2100)']
    """
    text = _SURE.sub("", text)
    brackets: list[int | None] = [None]
    inside: list[int | None] = []  # for each place, where the innermost bracket opens
    spaced = set[int | None]()
    for place, letter in enumerate(text):
        if letter in ")]" or text[place - 1 : place + 1] == r"\}":
            brackets = brackets[:-1] or [None]
        inside.append(brackets[-1])
        if letter in "([" or text[place - 1 : place + 1] == r"\{":
            brackets.append(place)
        if letter in ",;" and text[place + 1 : place + 2].isspace():
            spaced.add(brackets[-1])

    def joined(match: re.Match[str]) -> str:
        level = inside[match.start()]
        low, _, high = match[0].partition(",")
        if low == high and text[match.start() - 1 : match.start()] == "-":
            return match[0]  # -100,100 are two numbers
        if level is None or level in spaced or ",0" in match[0]:
            return match[0].replace(",", "").replace(" ", "")
        return match[0]

    return _SPACED.sub(lambda match: match[0].replace(" ", ""), _THOUSANDS.sub(joined, text))


# ------------------------------------------------------------------------------------------- tokens

_WRAPPERS: Final = "text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|sf|tt)|emph|mbox|hbox"
_TOKEN: Final = re.compile(
    rf"""\s*(?:
      (?P<time>(?<![\d:.])\d{{1,2}}:[0-5]\d(?::[0-5]\d)?(?![\d:.]))
    | (?P<number>
        (?P<repeated>\d*\.\d*)
            \\(?:overline|bar|dot)\s*(?:\{{(?P<period>\d+)\}}|(?P<digit>\d))
      | (?P<opened>\d+\.|0\.\d+)\((?P<bracketed>\d+)\)
      | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | \\(?:{_WRAPPERS})\s*\{{(?P<text>[^{{}}]*)\}}
    | \\begin\s*\{{(?P<begin>[a-z]+)\*?\}} | \\end\s*\{{(?P<end>[a-z]+)\*?\}}
    | \\(?:left|right|[bB]igg?[lr]?|middle|(?:no)?limits|(?:display|text|script)style|[tT]iny|
        small|normalsize|[lL]arge|LARGE|[hH]uge|rm|bf|it|mathstrut)(?![a-zA-Z])\.?
    | (?P<space>\\[!,;: ]|\\q?quad(?![a-zA-Z])|~)
    | \\operatorname\*?\s*\{{(?P<operator>[a-zA-Z]+)\}}
    | \\(?P<command>[a-zA-Z]+)
    | (?P<dots>\.\.\.+|\N{{HORIZONTAL ELLIPSIS}})
    | (?P<word>[a-zA-Z]+)
    | (?P<sign>\*\*|<=|>=|!=|\\\\|\\[{{}}%$|&\#_]|[^\s\\])
    )""",
    re.VERBOSE,
)
_EXPRESSION_WITH_E: Final = re.compile(r"(?:[2-9]|\d\d+)[eE][+-]\d")  # 2e-3 is 2e less 3

_SIGNS: Final = {
    **{"**": "^", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", r"\%": "%", r"\$": "$"},
    **{"leq": r"\le", "leqslant": r"\le", "le": r"\le", "geq": r"\ge", "geqslant": r"\ge"},
    **{"ge": r"\ge", "ne": r"\ne", "neq": r"\ne", "lt": "<", "gt": ">", "in": r"\in"},
    **{"cdot": "*", "times": r"\times", "ast": "*", "div": "/", "pm": r"\pm", "mp": r"\mp"},
    **{"colon": ":", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]"},
    **{"langle": r"\<", "rangle": r"\>", "lvert": "|", "rvert": "|", "vert": "|", "mid": "mid"},
    **{"cup": r"\cup", "cap": r"\cap", "setminus": r"\setminus", "backslash": r"\setminus"},
    **{"degree": r"\circ", "circ": r"\circ", "lor": r"\lor", "vee": r"\lor"},
    **{"approx": r"\approx", "land": r"\land", "wedge": r"\land", "equiv": "=", "prime": "'"},
    **{"mod": "mod", "bmod": "mod", "pmod": "mod"},
    **{name: name for name in ("lfloor", "rfloor", "lceil", "rceil")},
}
_DOTS: Final = {"ldots", "dots", "cdots", "dotsc", "dotsb", "vdots", "ddots"}
CONSTANTS: Final = {"pi": "pi", "infty": "inf", "infinity": "inf", "inf": "inf", "e": "e", "i": "i"}
CIRCULAR: Final = {"sin", "cos", "tan", "cot", "sec", "csc"}
FUNCTIONS: Final = {
    *CIRCULAR,
    *(f"arc{name}" for name in CIRCULAR),
    *("sinh", "cosh", "tanh", "ln", "log", "lg", "exp", "gcd", "lcm", "max", "min"),
    *("floor", "ceil", "abs", "cbrt", "sqrt"),
}
_RENAMED: Final = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log"}
_VECTORS: Final = {"vec", "overrightarrow", "mathbf", "boldsymbol", "bm"}
_GREEK: Final = set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell "
    "hbar".split()
)
_DECORATIONS: Final = {"overline", "hat", "bar", "tilde", "widehat"}
_PLAIN: Final = {"pi", "infinity", "inf", *FUNCTIONS, *_RENAMED}  # known without a backslash
NAMES: Final = {*_PLAIN, *(name for name in _GREEK if len(name) > 2)}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, time, text, begin, end, letter, word, constant, function, sign, ...
    text: str
    is_spaced: bool = False


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place, spaced = 0, False
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            if text[place:].strip():
                raise Unreadable(text)
            break
        spaced = spaced or match[0][:1].isspace()
        kind = match.lastgroup or ""
        if kind in ("period", "digit", "bracketed"):
            kind = "number"
        end = match.end()
        if kind == "number" and _EXPRESSION_WITH_E.fullmatch(match[0].strip()):
            end = match.start(kind) + re.search("[eE]", match[kind]).start()  # type: ignore[union-attr]
        piece = text[match.start(kind) : end] if kind else ""
        if kind in ("text", "begin", "end", "operator", "command"):
            piece = match[kind]
        place = end
        if kind == "space":
            spaced = True
        if kind in ("", "space"):
            continue
        if kind == "word" and len(piece) > 1 and _is_alone(text, match.start(kind), end):
            kind = "run"
        tokens += _classified(kind, piece, spaced)
        spaced = False
    return tokens


def _is_alone(text: str, start: int, end: int) -> bool:
    """Whether a run of letters is a whole member of a list, or all that is in brackets."""
    before, behind = text[:start].rstrip()[-1:], text[end:].lstrip()[:2].removeprefix("\\")[:1]
    return before in ("", *"([{,;=") and behind in ("", *")]},;")


def _classified(kind: str, piece: str, spaced: bool) -> list[_Token]:
    if kind == "text":
        return _text_tokens(piece, spaced)
    if kind in ("command", "operator"):
        return [_command(piece, spaced)]
    if kind == "sign":
        return [_Token("sign", _SIGNS.get(piece, piece), spaced)]
    if kind not in ("word", "run"):
        return [_Token(kind, piece, spaced)]
    if piece in _PLAIN:
        return [_command(piece, spaced)]
    if piece in _GREEK and len(piece) > 2:
        return [_Token("letter", piece, spaced)]
    if piece in ("and", "or", "to"):
        return [_Token("sign", {"to": ":"}.get(piece, piece), spaced)]
    if len(piece) > 2 and unit_name(piece) in CURRENCIES:
        return [_Token("sign", unit_name(piece), spaced)]
    if kind == "run":
        return [_Token("run", piece, spaced)]
    if len(piece) > 1 and (unit_name(piece) or (spaced and len(piece) > 3)):
        return [_Token("word", piece, spaced)]
    if len(piece) > 2 and piece.istitle():  # May 5
        return [_Token("letter", piece, spaced)]
    letters = [_Token("letter", letter) for letter in piece]
    return [_Token("letter", piece[0], spaced), *letters[1:]]


def _command(name: str, spaced: bool) -> _Token:
    name = _RENAMED.get(name, name)
    if name in _SIGNS:
        return _Token("sign", _SIGNS[name], spaced)
    if name in _DOTS:
        return _Token("dots", "", spaced)
    if name in CONSTANTS:
        return _Token("constant", CONSTANTS[name], spaced)
    if name in FUNCTIONS:
        return _Token("function", name, spaced)
    if name in _GREEK:
        return _Token("letter", name, spaced)
    return _Token("command", name, spaced)


def _text_tokens(content: str, spaced: bool) -> list[_Token]:
    r"""Read what stands in `\text{}`: a separator, words, or mathematics if it has a digit."""
    said = bare(" ".join(content.split()).strip(" ,"))
    if said in ("and", "or", "to"):
        return [_Token("sign", {"to": ":"}.get(said, said), spaced)]
    joined = _JOINED.fullmatch(said)
    if joined:  # 5 red and
        return [*_text_tokens(joined[1], spaced), _Token("sign", joined[2], spaced)]
    if _INTRODUCTION.search(said):
        return []
    if unit_name(said) in CURRENCIES:
        return [_Token("sign", unit_name(said), spaced)]
    modulo = _MODULO.fullmatch(said)
    if modulo:
        return [_Token("sign", "mod", spaced), *_tokens(modulo[1])]
    if re.search(r"[0-9=<>]|^\W*$", said):
        return _tokens(said)
    if said in ("mod", "by"):
        return [_Token("sign", {"by": "*"}.get(said, said), spaced)]
    if said in ("e", "i"):
        return [_Token("letter", said, spaced)]
    if said in ("pi", "infinity"):
        return [_Token("constant", CONSTANTS[said], spaced)]
    return [_Token("text", said, spaced)] if said else []


_INTRODUCTION: Final = re.compile(r"(?:\bis|=|:|^approximately|^about)$")  # the answer is
_JOINED: Final = re.compile(r"([a-z]+),?\s(and|or)")
_MODULO: Final = re.compile(r"\(mod ([0-9]+)\)")

# ------------------------------------------------------------------------------------------- parser

_RELATIONS: Final = {"=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx"}
_JOINING: Final = {"and", "or", r"\land", r"\lor"}
_CLOSING: Final = {"(": ")]", "[": ")]", r"\{": (r"\}",), r"\<": (r"\>", ">")}
_MATRICES: Final = {
    "matrix",
    "pmatrix",
    "bmatrix",
    "Bmatrix",
    "vmatrix",
    "smallmatrix",
    "array",
    "cases",
}
_HALVES: Final = {"noon": "pm", "midnight": "am"}
_MERIDIEM: Final = re.compile(r"([ap])\.?\s?m\.?", re.IGNORECASE)


class _Parser:
    """A descent through the grammar; `_place` is the next token."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._place, self._depth, self._bars = tokens, 0, 0, 0

    def answer(self) -> Node:
        found = self._group()
        if self._next() is not None or not found:
            raise Unreadable("something stands behind the answer")
        return found[0] if len(found) == 1 else Node("list", tuple(found), self._separators)

    # What follows is one rule of the grammar each.

    def _group(self, *closing: str) -> list[Node]:
        r"""Return the members of what stands in braces, which may be a fraction with `\over`."""
        found = self._members(closing)
        infix = self._next()
        if infix is None or infix.text not in _INFIX or len(found) != 1:
            return found
        self._take()
        below = self._sum()
        if infix.text == "over":
            return [_quotient(found[0], below)]
        return [Node("call", (found[0], below), "binomial")]

    def _members(self, closing: tuple[str, ...]) -> list[Node]:
        found: list[Node] = []
        separators = set[str]()
        while not self._at(*closing) and self._next() is not None:
            found.append(self._relation())
            if not self._at(",", ";", *_JOINING):
                break
            separators.add(self._take().text)
            if self._at("and", "or"):  # 1, 2, and 3
                separators.add(self._take().text)
        joining = separators & _JOINING
        if len(joining) > 1:
            raise Unreadable("and beside or")
        self._separators = joining.pop() if joining else ","
        return found

    def _relation(self) -> Node:
        parts, operators = [self._union()], list[str]()
        while self._at(*_RELATIONS):
            operators.append(self._take().text)
            parts.append(self._union())
        if not operators and _is_point(parts[0]):  # A(1, 2) is A = (1, 2)
            parts, operators = [*parts[0].parts], ["="]
        return Node("relation", tuple(parts), " ".join(operators)) if operators else parts[0]

    def _union(self) -> Node:
        left = self._ratio()
        while self._at(r"\cup", r"\cap", r"\setminus"):
            operator = self._take().text
            left = Node("union", (left, self._ratio()), operator)
        if self._at("mod"):
            self._take()
            left = Node("modulo", (left, self._argument()))
        return left

    def _ratio(self) -> Node:
        parts = [self._sum()]
        while self._at(":"):
            self._take()
            parts.append(self._sum())
        return Node("ratio", tuple(parts)) if len(parts) > 1 else parts[0]

    def _sum(self) -> Node:
        parts = list[Node]()
        while True:
            sign = self._take().text if self._at("+", "-", r"\pm", r"\mp") else ""
            if not sign and parts:
                break
            part = self._product() if not self._at("-") else self._signed()
            kinds = {"-": "negative", r"\pm": "pm", r"\mp": "mp"}
            parts.append(Node(kinds[sign], (part,)) if sign in kinds else part)
        return Node("sum", tuple(parts)) if len(parts) > 1 else parts[0]

    def _signed(self) -> Node:
        """Return a product with a sign of its own, as in 2 - -3."""
        with_sign = self._at("-")
        if with_sign:
            self._take()
        part = self._product()
        return Node("negative", (part,)) if with_sign else part

    def _product(self) -> Node:
        left = self._power()
        while (token := self._next()) is not None:
            if token.text == "/" and self._is_word_ahead():  # 18/day
                left = self._with_unit(left)
            elif token.kind == "sign" and token.text in _TIMES_OR_BY:
                self._take()
                right = self._signed_power()
                if token.text == r"\times" and _is_vector(left) and _is_vector(right):
                    left = Node("call", (left, right), "cross")
                else:
                    left = Node("quotient" if token.text == "/" else "product", (left, right))
            elif token.kind in ("text", "word") or self._at_currency():
                left = self._with_unit(left)
            elif self._starts_primary(token):
                left = self._beside(left, token)
            else:
                break
        return left

    def _signed_power(self) -> Node:
        if self._at("-", "+"):
            sign = self._take().text
            power = self._power()
            return Node("negative", (power,)) if sign == "-" else power
        return self._power()

    def _beside(self, left: Node, token: _Token) -> Node:
        """Return a product without a sign, or a mixed number."""
        ends_in_number = left.kind == "number" and self._tokens[self._place - 1].kind == "number"
        if token.kind == "number" and self._tokens[self._place - 1].kind == "number":
            if not ends_in_number or not self._is_fraction_ahead():
                raise Unreadable("two numbers side by side")
            top, bottom = self._number(), (self._take(), self._number())[1]
            mixed = _mixed(left, Node("quotient", (top, bottom)), must=True)
            return self._with_signs(mixed)
        right = self._power()
        if left.kind == "unit" and token.kind == "number":  # 5 feet 6 inches
            if (ahead := self._next()) is not None and ahead.kind in ("text", "word"):
                right = self._with_unit(right)
            return Node("bracket", (left, right), "quantity")
        if ends_in_number and token.text in _FRACTIONS:
            if right.kind == "quotient":
                return _mixed(left, right, must=False)
            if right.kind == "percent" and right.parts[0].kind == "quotient":
                return Node("percent", (_mixed(left, right.parts[0], must=False),))
        return Node("product", (left, right))

    def _is_fraction_ahead(self) -> bool:
        ahead = self._tokens[self._place : self._place + 3]
        kinds = [token.kind for token in ahead]
        return kinds == ["number", "sign", "number"] and ahead[1].text == "/"

    def _is_word_ahead(self) -> bool:
        ahead = self._tokens[self._place + 1 : self._place + 2]
        return bool(ahead) and ahead[0].kind in ("text", "word")

    def _power(self) -> Node:
        return self._with_signs(self._primary())

    def _with_signs(self, base: Node) -> Node:
        """Return a piece with what stands behind it: its power, a factorial, per cent, degrees."""
        while (token := self._next()) is not None:
            if token.kind in ("text", "word") and unit_name(token.text) == "deg":
                self._take()
                base = Node("degrees", (base,))
            elif token.kind != "sign":
                break
            elif token.text == "^":
                self._take()
                base = self._raised(base)
            elif token.text == "!":
                self._take()
                base = Node("call", (base,), "factorial")
            elif token.text in ("%", r"\circ"):  # without a power sign, as in 5%
                self._take()
                base = Node("percent" if token.text == "%" else "degrees", (base,))
            else:
                break
            if base.kind == "degrees" and self._next_text() in TEMPERATURES:
                base = Node("unit", base.parts, TEMPERATURES[self._take().text.casefold()])
        return base

    def _raised(self, base: Node) -> Node:
        grouped = self._at("{")
        at = self._place + grouped
        token = self._tokens[at] if at < len(self._tokens) else None
        if token is not None and token.text == r"\circ" and token.kind == "sign":
            self._place = at + 1
            if grouped:
                self._expect("}")
            return Node("degrees", (base,))
        if token == _Token("letter", "o") and base.kind == "number":  # 30^o
            self._argument()
            return Node("degrees", (base,))
        if grouped and token is not None and token.kind in ("text", "word"):
            self._take()
            return Node("unit", (base,), self._unit_text("}"))
        return Node("power", (base, self._argument()))

    def _argument(self) -> Node:
        """Return what a power, a root or a fraction takes: a group, or one piece."""
        if self._at("-", "+"):
            sign = self._take().text
            part = self._argument()
            return Node("negative", (part,)) if sign == "-" else part
        return self._primary()

    def _digit(self) -> Node:
        r"""Return an argument of `\frac`: of a number its first digit, a letter without index."""
        token = self._next()
        if token is not None and token.kind == "letter" and token.text not in CONSTANTS:
            return Node("symbol", text=self._take().text)
        if token is not None and token.kind == "number" and token.text.isdigit() and token.text[1:]:
            self._tokens[self._place] = _Token("number", token.text[1:])
            return _number(token.text[0])
        return self._argument()

    # What follows reads one piece.

    def _primary(self) -> Node:
        token = self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("too deep")
        try:
            return self._piece(token)
        finally:
            self._depth -= 1

    def _piece(self, token: _Token) -> Node:
        readers: dict[str, Callable[[_Token], Node]] = {
            "number": self._numeral,
            "time": self._time,
            "letter": self._letter,
            "constant": lambda token: Node("constant", text=token.text),
            "function": self._function,
            "dots": lambda token: Node("dots"),
            "text": lambda token: Node("text", text=token.text.casefold()),
            "word": lambda token: Node("text", text=token.text.casefold()),
            "run": lambda token: Node("text", _as_product(token.text), token.text.casefold()),
            "command": self._command,
            "begin": self._matrix,
            "sign": self._bracket,
        }
        if token.kind not in readers:
            raise Unreadable(token.text)
        return readers[token.kind](token)

    def _numeral(self, token: _Token) -> Node:
        if not self._at("_"):
            return _number(token.text)
        self._take()
        return Node("numeral", text=f"{token.text}_{self._raw_argument()}")

    def _number(self) -> Node:
        return _number(self._take().text)

    def _time(self, token: _Token) -> Node:
        following = self._next()
        if following is not None and following.kind in ("text", "word"):
            self._take()
            half = _MERIDIEM.fullmatch(_HALVES.get(following.text.casefold(), following.text))
            if not half and not unit_name(following.text):
                raise Unreadable(following.text)
            return Node("time", text=f"{token.text} {half[1].casefold()}m" if half else token.text)
        return Node("time", text=token.text)

    def _letter(self, token: _Token) -> Node:
        name = token.text
        if self._at("_"):
            self._take()
            name += "_" + self._raw_argument()
        elif (ahead := self._next()) is not None and ahead.kind == "number":
            if not ahead.is_spaced and ahead.text.isdigit() and len(name) == 1:
                name += "_" + self._take().text  # x1
        while self._at("'"):
            self._take()
            name += "'"
        if name in ("f", "g", "h") or name.endswith("'"):
            ahead_texts = [each.text for each in self._tokens[self._place :]]
            if ahead_texts[: len(_INVERSE)] == [*_INVERSE]:
                self._place += len(_INVERSE) - 1
                name += "^-1"
            if self._at("(") and not self._tokens[self._place].is_spaced:
                self._take()
                arguments = self._members((")",))
                self._expect(")")
                return Node("call", tuple(arguments), name)
        if name in CONSTANTS:
            return Node("constant", text=CONSTANTS[name])
        return Node("symbol", text=name)

    def _raw_argument(self) -> str:
        if not self._at("{"):
            return self._take().text
        self._take()
        found = []
        while not self._at("}"):
            found.append(self._take().text)
        self._take()
        return "".join(found)

    def _function(self, token: _Token) -> Node:
        name = token.text
        exponent: Node | None = None
        base: Node | None = None
        if name == "sqrt":
            return self._root(None)
        if name == "cbrt":
            return Node("call", (self._argument(), Node("number", value=Fraction(3))), "root")
        if self._at("_"):
            self._take()
            base = self._argument()
        if self._at("^"):
            self._take()
            exponent = self._argument()
        if exponent == Node("negative", (Node("number", value=Fraction(1)),)) and name in CIRCULAR:
            name, exponent = f"arc{name}", None
        argument = self._function_argument(name)
        parts = argument.parts if argument.kind in ("bracket", "list") else (argument,)
        call = Node("call", parts if base is None else (*parts, base), name)
        return call if exponent is None else Node("power", (call, exponent))

    def _function_argument(self, name: str) -> Node:
        r"""Return what a function is applied to: brackets, or a product as in `\sin 2x`."""
        if self._at("-"):
            self._take()
            return Node("negative", (self._function_argument(name),))
        bracketed = self._at("(", "[", "{", "|")
        found = self._power()
        if bracketed:
            return found
        while (token := self._next()) is not None:
            if token.kind in ("number", "letter", "constant") or token.text in _FRACTIONS:
                found = Node("product", (found, self._power()))
            elif token.text == "/" and name in CIRCULAR:
                self._take()
                found = Node("quotient", (found, self._power()))
            else:
                break
        return found

    def _root(self, index: Node | None) -> Node:
        if self._at("["):
            self._take()
            index = index if self._at("]") else self._sum()
            self._expect("]")
        return Node("call", (self._argument(), index or Node("number", value=Fraction(2))), "root")

    def _command(self, token: _Token) -> Node:
        name = token.text
        if name in _FRACTIONS:
            return _quotient(self._digit(), self._digit())
        if name == "det":
            return _determinant(self._argument())
        if name in ("binom", "dbinom", "tbinom"):
            return Node("call", (self._digit(), self._digit()), "binomial")
        if name in ("emptyset", "varnothing", "O"):
            return Node("set")
        if name in ("mathbb", "R", "Bbb"):
            letter = "R" if name == "R" else self._raw_argument()
            return Node("symbol", text=f"\\{letter}")
        if name in _VECTORS:
            return self._vector(is_bold=name not in ("vec", "overrightarrow"))
        if name in _DECORATIONS:
            return Node("symbol", text=f"{name} {self._raw_argument()}")
        if name in ("angle", "triangle", "measuredangle"):
            said = ""
            while (ahead := self._next()) is not None and ahead.kind == "letter":
                said += self._take().text
            return Node("symbol", text=f"{name} {said}")
        if name in ("color", "textcolor"):
            self._raw_argument()
            return self._argument()
        if name in _STYLES:
            return self._argument()
        raise Unreadable(name)

    def _vector(self, is_bold: bool) -> Node:
        """Return letters with an arrow, or what is in bold, which is a vector if it is a letter."""
        if not is_bold:
            return Node("symbol", text=f"vec {self._raw_argument()}")
        found = self._argument()
        is_letter = found.kind in ("symbol", "constant") and len(found.text) == 1
        return Node("symbol", text=f"vec {found.text}") if is_letter else found

    def _bracket(self, token: _Token) -> Node:
        opening = token.text
        if opening == "{":
            found = self._group("}")
            self._expect("}")
            if not found:
                raise Unreadable("nothing in braces")
            return found[0] if len(found) == 1 else Node("list", tuple(found), ",")
        if opening in ("|", "lfloor", "lceil"):
            closing = {"|": "|", "lfloor": "rfloor", "lceil": "rceil"}[opening]
            self._bars += opening == "|"
            inner = self._sum()
            self._bars -= opening == "|"
            self._expect(closing)
            return Node("call", (inner,), {"|": "abs", "lfloor": "floor", "lceil": "ceil"}[opening])
        if opening in CURRENCIES:
            return Node("unit", (self._signed_power(),), opening)
        if opening not in _CLOSING:
            raise Unreadable(opening)
        if opening == r"\{" and self._is_builder():
            return self._builder()
        found = self._members(tuple(_CLOSING[opening]))
        if not self._at(*_CLOSING[opening]):
            raise Unreadable("a bracket is not closed")
        closing = self._take().text
        if opening == r"\{":
            return Node("set", tuple(found))
        if not found:
            raise Unreadable("nothing in brackets")
        if opening == "[" and all(row.kind == "bracket" and row.text == "[]" for row in found):
            return Node("matrix", tuple(Node("list", row.parts) for row in found))
        if len(found) == 1 and opening + closing in ("()", "[]"):
            return found[0]
        round_ones = opening + closing if opening != r"\<" else "()"
        return Node("bracket", tuple(found), round_ones)

    def _is_builder(self) -> bool:
        ahead = self._tokens[self._place : self._place + 2]
        return [token.kind for token in ahead] == ["letter", "sign"] and (
            ahead[1].text in ("|", "mid", ":", r"\in")
        )

    def _builder(self) -> Node:
        """Return the condition of a set of real numbers, as in { x | x > 3 }."""
        self._take()
        if self._at(r"\in"):
            self._take()
            if self._sum() != Node("symbol", text=r"\R"):
                raise Unreadable("a set of other numbers")
        if not self._at("|", "mid", ":"):
            raise Unreadable("no condition")
        self._take()
        found = self._members((r"\}",))
        self._expect(r"\}")
        return found[0] if len(found) == 1 else Node("list", tuple(found), self._separators)

    def _matrix(self, token: _Token) -> Node:
        if token.text not in _MATRICES:
            raise Unreadable(token.text)
        if token.text == "array":
            self._raw_argument()
        rows, row = list[Node](), list[Node]()
        while True:
            row.append(self._relation())
            if self._at("&"):
                self._take()
                continue
            rows.append(Node("list", tuple(row)))
            row = []
            if not self._at("\\\\"):
                break
            self._take()
            if (ahead := self._next()) is not None and ahead.kind == "end":
                break
        if self._take().kind != "end" or len({len(row.parts) for row in rows}) > 1:
            raise Unreadable("a matrix")
        if token.text == "cases":
            return Node("list", tuple(cell for row in rows for cell in row.parts), "and")
        matrix = Node("matrix", tuple(rows))
        return _determinant(matrix) if token.text == "vmatrix" else matrix

    def _with_unit(self, left: Node) -> Node:
        if self._at_currency():
            return Node("unit", (left,), self._take().text)
        token = self._next()
        if token is not None and token.text.casefold() in SCALES:
            self._take()
            scale = Node("number", value=Fraction(SCALES[token.text.casefold()]))
            return Node("product", (left, scale))
        name = self._unit_text()
        half = _MERIDIEM.fullmatch(name)
        if half and left.kind == "number" and left.value in range(1, 13):
            return Node("time", text=f"{left.value}:00 {half[1].casefold()}m")
        return Node("unit", (left,), name)

    def _at_currency(self) -> bool:
        return self._at(*CURRENCIES)

    def _unit_text(self, closing: str = "") -> str:
        """Return the words of a unit with their powers and strokes."""
        found: list[str] = []
        while (token := self._next()) is not None:
            following = self._tokens[self._place + 1 : self._place + 2]
            if token.text in _TIMES_OR_BY and following and following[0].kind == "number":
                break  # 4 cm * 5 cm
            if (
                token.kind in ("text", "word", "letter")
                or token.text in (*"^/{}-*", r"\times")
                or (token.kind == "number" and found[-1:] in (["^"], ["{"]))
            ):
                if closing and token.text == closing:
                    self._take()
                    break
                if not closing and token.text == "}" and found.count("{") <= found.count("}"):
                    break
                found.append(self._take().text)
            else:
                break
        return " ".join(piece for piece in found if piece not in "{}")

    # What follows moves through the tokens.

    def _next(self) -> _Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _next_text(self) -> str:
        token = self._next()
        return "" if token is None else token.text.casefold()

    def _at(self, *signs: str) -> bool:
        token = self._next()
        return token is not None and token.kind == "sign" and token.text in signs

    def _take(self) -> _Token:
        token = self._next()
        if token is None:
            raise Unreadable("the answer ends too early")
        self._place += 1
        return token

    def _expect(self, sign: str) -> None:
        if not self._at(sign):
            raise Unreadable(f"no {sign}")
        self._take()

    def _starts_primary(self, token: _Token) -> bool:
        if token.kind == "sign":
            return token.text in ("(", "[", "{", "lfloor", "lceil") or (
                token.text == "|" and not self._bars
            )
        return token.text not in _INFIX and token.kind in (
            *("number", "letter", "run", "constant", "function", "command", "dots", "begin"),
        )


_INVERSE: Final = ("^", "{", "-", "1", "}", "(")
_STYLES: Final = {
    *("mathit", "mathcal", "boxed", "fbox", "underline"),
    *("text", "textbf", "textit", "textrm", "textsf", "mathrm", "emph"),
}
_FRACTIONS: Final = ("frac", "dfrac", "tfrac", "cfrac")
_INFIX: Final = ("over", "choose")
_TIMES_OR_BY: Final = ("*", r"\times", "/")


def _is_point(node: Node) -> bool:
    """Return whether a piece is a capital letter with a pair beside it."""
    if node.kind != "product":
        return False
    name, pair = node.parts
    is_name = name.kind == "symbol" and name.text[:1].isupper()
    return is_name and pair.kind == "bracket" and pair.text == "()"


def _is_vector(node: Node) -> bool:
    r"""Return whether a letter with an arrow or in bold, such as `\vec a`, is in an expression."""
    if node.kind == "symbol":
        return node.text.startswith("vec ")
    return any(map(_is_vector, node.parts))


def _quotient(top: Node, bottom: Node) -> Node:
    """Return a fraction, or what a derivative is called."""
    below = [part for part in bottom.parts if bottom.kind == "product"] or list(bottom.parts)
    differential = Node("symbol", text="d")
    if below[:1] == [differential]:
        if top == differential:
            raise Unreadable("a derivative")
        if top.kind in ("product", "text") and top.parts[0] == differential:
            return Node("symbol", text=f"{top.parts} by {below}")
    return Node("quotient", (top, bottom))


def _determinant(matrix: Node) -> Node:
    cells = tuple(cell for row in matrix.parts for cell in row.parts)
    if matrix.kind != "matrix" or len(cells) != len(matrix.parts) ** 2:
        raise Unreadable("no square matrix")
    return Node("call", cells, "determinant")


def _mixed(whole: Node, fraction: Node, must: bool) -> Node:
    top, bottom = fraction.parts
    proper = (
        top.kind == bottom.kind == "number"
        and whole.value.denominator == top.value.denominator == bottom.value.denominator == 1
        and not whole.is_decimal
        and 0 < top.value < bottom.value
    )
    if proper:
        return Node("number", value=whole.value + top.value / bottom.value)
    if must:
        raise Unreadable("two numbers side by side")
    return Node("product", (whole, fraction))


_DIGITS_OF: Final = re.compile(
    r"(?P<whole>\d*)\.(?P<fixed>\d*)(?:\(|\\[a-z]+\s*\{?)(?P<period>\d+)[)}]?"
)
MAX_EXPONENT: Final = 400


def _number(text: str) -> Node:
    match = _DIGITS_OF.fullmatch(text)
    if match:
        fixed, period = match["fixed"], match["period"]
        value = Fraction(int(match["whole"] + fixed or "0")) + Fraction(
            int(period), 10 ** len(period) - 1
        )
        return Node("number", value=value / 10 ** len(fixed))
    exponent = re.split("[eE]", text)[1:]
    if exponent and abs(int(exponent[0])) > MAX_EXPONENT:
        raise Unreadable(text)
    plain = text.removesuffix(".") if text[-1:] == "." else text
    return Node("number", value=Fraction(plain), is_decimal="." in plain)


def _as_product(spelt: str) -> tuple[Node, ...]:
    """Return the letters of a short word as factors, should it be a product."""
    letters = tuple(Node("symbol", text=letter) for letter in spelt)
    return letters if spelt.isascii() and spelt.isalpha() and len(spelt) < 5 else ()
