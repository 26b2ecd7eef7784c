r"""Steps that do not end within fenced blocks, as CommonMark has them.

A line of at least three backticks or tildes opens a block, and a line of at least as many of the
same closes it; each may be indented by up to three spaces, blanks may follow the closing ones, and
an info string the opening ones (without a backtick behind backticks). A block that is not closed
goes on to the end of the text. Line ends are line feeds, carriage returns, and both. Blocks within
quotes and lists are read as if these were text, so that a fence may stand in a list up to three
spaces deep.

The reader of fences is a finite automaton over bytes, so that a fence may be cut into tokens
anywhere. It reads the whole solution, step after step: where a step begins within a block, as it
does behind a token with the beginning of a fence in it, the next one knows.

Reference: CommonMark 0.31.2, section 4.5, https://spec.commonmark.org/0.31.2/#fenced-code-blocks.
"""

import functools
import re
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.models.text.regular_expression import RegularExpression
from llmsmc.models.text.stopping import (
    Automaton,
    Delimiter,
    Resumable,
    StepRule,
    restarted,
    step_rule,
    tokenwise,
)

MAX_FENCE: Final = 12  # characters; a longer fence is read as one of so many
MAX_STATES: Final = 2**15  # of a rule and of the reader of fences together

_MIN_FENCE: Final = 3
_MAX_INDENT: Final = 3
_FENCES: Final = b"`~"
_LINE_ENDS: Final = b"\n\r"
_BLANKS: Final = b" \t"
_CONTENT: Final = 0xFF  # a byte of no text: the rule reads it in the place of each within a block

_State = tuple[Any, ...]
"""What is being read, the character of the fence, its length, and a count of characters."""


@dataclass(frozen=True)
class OutsideFences:
    r"""A step ends where another rule says, but not within a fenced block.

    A delimiter or a regular expression reads what stands outside of blocks, and the line that opens
    one; each byte behind that line is to it a character that is no text, up to the end of the line
    that closes the block. Other rules read all tokens, and a step that is complete within a block
    goes on to the end of the block.

    A token may have the end of a step and the beginning of a block in it: the block then belongs to
    the step.

    Attributes:
        step: the other rule: a delimiter, a number of tokens, or a rule.
    """

    step: str | int | StepRule = "\n\n"

    def __post_init__(self) -> None:
        """Check the rule.

        Raises:
            InputError: it is none, or has too many states.
        """
        object.__setattr__(self, "step", step_rule(self.step))
        if isinstance(self.step, Delimiter | RegularExpression):
            size = len(self.step.transitions()) * len(_reader().table)
            if size > MAX_STATES:
                raise InputError(
                    "A rule that leaves fenced blocks out is kept small. Got "
                    f"{self.step!r}, which makes {size:,} states; accepted: up to {MAX_STATES:,}."
                )

    def automaton(self, pieces: list[bytes]) -> "FencedAutomaton | BesideFences":
        """Return the automaton for a vocabulary."""
        rule = step_rule(self.step)
        if isinstance(rule, Delimiter | RegularExpression):
            return _fenced(rule, pieces)
        return BesideFences(rule.automaton(pieces), _fenced(None, pieces))


@dataclass(frozen=True, eq=False)
class FencedAutomaton:
    """A rule and the reader of fences, which reads for it what is no block.

    A state is that of the rule and that of the reader, as one number.

    Attributes:
        table: the next state for each state and kind of token, [S, K].
        kinds: of each token, [V]; the last kind is that of tokens without bytes.
        is_inside: whether the reader is within a block, or within what may open one, [F].
        accept: the state of the rule in which it is complete.
    """

    table: Int[Tensor, "S K"]
    kinds: Int[Tensor, " V"]
    is_inside: Bool[Tensor, " F"]
    accept: int

    @property
    def vocab_size(self) -> int:
        """Number of ids that it knows."""
        return len(self.kinds)

    @functools.cached_property
    def is_complete(self) -> Bool[Tensor, " S"]:
        """In which states a step is complete."""
        rules = torch.arange(len(self.table) // len(self.is_inside)).to(self.is_inside.device)
        return ((rules[:, None] == self.accept) & ~self.is_inside).flatten()

    def start(self, num_rows: int) -> Int[Tensor, " B"]:
        """Return the states at the start of a text."""
        return torch.zeros(num_rows, dtype=torch.long, device=self.table.device)

    def advance(self, states: Int[Tensor, " B"], ids: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states after one more token in each row."""
        return self.table[states, self.kinds[ids]].long()

    def complete(self, states: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Return which steps are complete; a block may still follow behind its last token."""
        return self.is_complete[states]

    def inside(self, states: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Return which texts are within a block, or within what may open one."""
        return self.is_inside[states % len(self.is_inside)]

    def restart(self, states: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states at the start of the next step, given those at the end of one."""
        return states % len(self.is_inside)

    def behind(
        self, token_ids: Int[Tensor, "B L"], num_tokens: Int[Tensor, " B"]
    ) -> Int[Tensor, " B"]:
        """Return the states at the start of a step behind the tokens of each row."""
        is_token = torch.arange(token_ids.shape[1]) < num_tokens.cpu()[:, None]
        kinds = self.kinds.cpu()[token_ids.cpu()].where(is_token, self.table.shape[1] - 1)
        table, states = self.table.cpu().numpy(), np.zeros(len(token_ids), dtype=np.int64)
        for column in kinds.numpy().T:
            states = table[states, column]
        return self.restart(torch.from_numpy(states.astype(np.int64)).to(self.table.device))

    def to(self, device: torch.device) -> "FencedAutomaton":
        """Return the automaton with its tables on `device`."""
        return FencedAutomaton(
            self.table.to(device), self.kinds.to(device), self.is_inside.to(device), self.accept
        )


@dataclass(frozen=True, eq=False)
class BesideFences:
    """Any automaton, whose steps go on where they would end within a block.

    A state is its own and that of the reader of fences, as one number.

    Attributes:
        rule: the automaton.
        fences: the reader of fences.
    """

    rule: Automaton
    fences: FencedAutomaton

    @property
    def vocab_size(self) -> int:
        """Number of ids that it knows."""
        return self.fences.vocab_size

    def start(self, num_rows: int) -> Int[Tensor, " B"]:
        """Return the states at the start of a text."""
        return self._packed(self.rule.start(num_rows), self.fences.start(num_rows))

    def advance(self, states: Int[Tensor, " B"], ids: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states after one more token in each row."""
        rule, fences = self._parts(states)
        return self._packed(self.rule.advance(rule, ids), self.fences.advance(fences, ids))

    def complete(self, states: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Return which steps are complete."""
        rule, fences = self._parts(states)
        return self.rule.complete(rule) & ~self.fences.inside(fences)

    def restart(self, states: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states at the start of the next step, given those at the end of one."""
        rule, fences = self._parts(states)
        return self._packed(restarted(self.rule, rule), fences)

    def behind(
        self, token_ids: Int[Tensor, "B L"], num_tokens: Int[Tensor, " B"]
    ) -> Int[Tensor, " B"]:
        """Return the states at the start of a step behind the tokens of each row."""
        rule = self.rule.start(len(token_ids))
        if isinstance(self.rule, Resumable):
            rule = self.rule.behind(token_ids, num_tokens)
        return self._packed(rule, self.fences.behind(token_ids, num_tokens))

    def to(self, device: torch.device) -> "BesideFences":
        """Return the automaton with its tables on `device`."""
        return replace(self, rule=self.rule.to(device), fences=self.fences.to(device))

    def _packed(self, rule: Tensor, fences: Tensor) -> Int[Tensor, " B"]:
        return rule * len(self.fences.table) + fences

    def _parts(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return states // len(self.fences.table), states % len(self.fences.table)


@dataclass(frozen=True, eq=False)
class _Reader:
    """The reader of fences over bytes.

    Attributes:
        table: the next state for each state and byte, [F, 256].
        is_inside: whether a block, or what may open one, has begun, [F].
        is_content: whether the line that opens the block is over, [F].
    """

    table: np.ndarray
    is_inside: np.ndarray
    is_content: np.ndarray


@functools.cache
def _reader() -> _Reader:
    """Return the reader of fences."""
    numbers: dict[_State, int] = {("line", 0): 0}
    queue, rows = list(numbers), list[list[int]]()
    for state in queue:  # which grows
        following = [_after(state, byte) for byte in range(256)]
        for each in following:
            if each not in numbers:
                numbers[each] = len(numbers)
                queue.append(each)
        rows.append([numbers[each] for each in following])
    names = [state[0] for state in queue]
    is_content = np.array([name in ("block", "content", "closing", "closed") for name in names])
    return _Reader(
        np.array(rows),
        is_content | np.array([name in ("run", "info") for name in names]),
        is_content,
    )


def _after(state: _State, byte: int) -> _State:
    """Return the state of the reader of fences after one more byte."""
    is_end = byte in _LINE_ENDS
    match state:
        case ("line", indent):  # at the start of a line, behind so many spaces
            if byte in _FENCES:
                return "run", byte, 1
            return _indented(("line",), indent, byte, ("text",))
        case ("run", fence, length):
            if byte == fence:
                return "run", fence, min(length + 1, MAX_FENCE)
            if length < _MIN_FENCE:
                return ("line", 0) if is_end else ("text",)
            return ("block", fence, length, 0) if is_end else ("info", fence, length)
        case ("info", fence, length):
            if byte == fence == _FENCES[0]:
                return ("text",)
            return ("block", fence, length, 0) if is_end else state
        case ("block", fence, length, indent):  # at the start of a line within the block
            if byte == fence:
                return "closing", fence, length, 1
            return _indented(("block", fence, length), indent, byte, ("content", fence, length))
        case ("closing", fence, length, count):
            if byte == fence:
                return "closing", fence, length, min(count + 1, length)
            if count < length:
                return ("block", fence, length, 0) if is_end else ("content", fence, length)
            return _after(("closed", fence, length), byte)
        case ("closed", fence, length):
            if is_end:
                return "line", 0
            return state if byte in _BLANKS else ("content", fence, length)
        case ("content", fence, length):
            return ("block", fence, length, 0) if is_end else state
        case _:
            return ("line", 0) if is_end else state


def _indented(line: _State, indent: int, byte: int, other: _State) -> _State:
    """Return the state behind one more byte at the start of a line, which is no fence."""
    if byte in _LINE_ENDS:
        return (*line, 0)
    return (*line, indent + 1) if byte == ord(" ") and indent < _MAX_INDENT else other


@dataclass(frozen=True, eq=False)
class _Bytewise:
    """A rule and the reader of fences, over bytes.

    Attributes:
        table: the next state for each state and byte, [S, 256].
        accept: the state of the rule in which it is complete.
        same: for each byte, one that every state reads alike.
        repeated: bytes in a row of which all but the first change nothing.
    """

    table: np.ndarray
    accept: int
    same: bytes
    repeated: re.Pattern[bytes]


@functools.lru_cache(maxsize=8)
def _bytewise(rule: Delimiter | RegularExpression | None) -> _Bytewise:
    """Return a rule, or none, and the reader of fences, which reads for it what is no block."""
    transitions = np.zeros((1, 256), dtype=np.int64) if rule is None else rule.transitions()
    reader = _reader()
    num_states = len(transitions) * len(reader.table)
    read = np.where(reader.is_content[reader.table], _CONTENT, np.arange(256))
    table = transitions[:, read] * len(reader.table) + reader.table
    table = table.reshape(num_states, 256)
    _, by_rule = np.unique(transitions, axis=1, return_inverse=True)
    _, by_reader = np.unique(reader.table, axis=1, return_inverse=True)
    kinds = by_rule.reshape(-1) * 256 + by_reader.reshape(-1)
    _, firsts, inverse = np.unique(kinds, return_index=True, return_inverse=True)
    settled = [byte for byte in firsts.tolist() if _is_settled(table[:, byte])]
    either = b"|".join(re.escape(bytes([byte])) for byte in settled) or b"(?!)"
    return _Bytewise(
        table,
        len(transitions) - 1,
        bytes(firsts[inverse.reshape(-1)].tolist()),
        re.compile(b"(" + either + b")\\1+"),
    )


def _is_settled(following: np.ndarray) -> bool:
    """Return whether reading a byte once more changes nothing."""
    return np.array_equal(following[following], following)


def _fenced(rule: Delimiter | RegularExpression | None, pieces: list[bytes]) -> FencedAutomaton:
    """Return a rule, or none, and the reader of fences, over the tokens of a vocabulary.

    Tokens that are read alike share a column; the last column is that of no bytes.
    """
    over_bytes = _bytewise(rule)
    short = [over_bytes.repeated.sub(rb"\1", piece.translate(over_bytes.same)) for piece in pieces]
    distinct = [*dict.fromkeys(piece for piece in short if piece), b""]
    numbers = {piece: number for number, piece in enumerate(distinct)}
    return FencedAutomaton(
        tokenwise(over_bytes.table, distinct),
        torch.tensor([numbers[piece] for piece in short]),
        torch.from_numpy(_reader().is_inside),
        over_bytes.accept,
    )
