r"""Where a reasoning step ends, decided by a finite automaton that reads token ids.

A rule is compiled, once for each vocabulary, into a table of the state that follows each state and
token. Following N particles then takes a single gather for each token, whatever the rule.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmsmc.core.checks import require_count
from llmsmc.errors import InputError

EOS: Final = 1  # the model ended the text
STOP: Final = 2  # the step is complete
LENGTH: Final = 3  # cut off: too many tokens
FAILED: Final = 4  # nothing could be drawn

WHITESPACE: Final = frozenset(b" \t\n\r\x0b\x0c")
_LINE_END: Final = b"\n"
_LINE_ENDS: Final = (b"\n", b"\r", b"\r\n")
_BLANKS: Final = (b" ", b"\t")
_PARTS: Final = re.compile(rb"\r\n|.", re.DOTALL)  # of a delimiter: line ends, and other bytes


@runtime_checkable
class Automaton(Protocol):
    """Reads the tokens of B steps side by side and says which are complete; a state is a number."""

    @property
    def vocab_size(self) -> int:
        """Number of ids that it knows."""
        ...

    def start(self, num_rows: int) -> Int[Tensor, " B"]:
        """Return the states at the start of a step."""
        ...

    def advance(self, states: Int[Tensor, " B"], ids: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states after one more token in each row."""
        ...

    def complete(self, states: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Return which steps are complete; complete steps stay so."""
        ...

    def to(self, device: torch.device) -> "Automaton":
        """Return the automaton with what it needs on `device`."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """An automaton whose next step begins in a state that depends on the text before it."""

    def restart(self, states: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states at the start of the next step, given those at the end of one."""
        ...

    def behind(
        self, token_ids: Int[Tensor, "B L"], num_tokens: Int[Tensor, " B"]
    ) -> Int[Tensor, " B"]:
        """Return the states at the start of a step behind the tokens of each row.

        Rows are padded on the right.
        """
        ...


def restarted(automaton: Automaton, states: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Return the states at the start of the next step, given those at the end of one."""
    if isinstance(automaton, Resumable):
        return automaton.restart(states)
    return automaton.start(len(states))


@dataclass(frozen=True, eq=False)
class StepAutomaton:
    """A compiled rule: `table[state, token_id]` is the next state.

    Attributes:
        table: the next states, [S, V].
        accept: the state in which the step is complete (or whatever else the rule is looking for
            has been found); it starts in state 0.
    """

    table: Int[Tensor, "S V"]
    accept: int

    @property
    def vocab_size(self) -> int:
        """Number of ids that it knows."""
        return int(self.table.shape[1])

    def start(self, num_rows: int) -> Int[Tensor, " B"]:
        """Return the states at the start of a step."""
        return torch.zeros(num_rows, dtype=torch.long, device=self.table.device)

    def advance(self, states: Int[Tensor, " B"], ids: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states after one more token in each row."""
        return self.table[states, ids].long()

    def complete(self, states: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Return which steps are complete."""
        return states == self.accept

    def to(self, device: torch.device) -> "StepAutomaton":
        """Return the automaton with its table on `device`."""
        return StepAutomaton(self.table.to(device), self.accept)


@dataclass(frozen=True, eq=False)
class CountAutomaton:
    """Counts tokens; needs no table.

    Attributes:
        count: the number of tokens of a step.
        vocab_size: number of ids that it knows.
        device: where the states lie.
    """

    count: int
    vocab_size: int
    device: torch.device = torch.device("cpu")

    def start(self, num_rows: int) -> Int[Tensor, " B"]:
        """Return the states at the start of a step."""
        return torch.zeros(num_rows, dtype=torch.long, device=self.device)

    def advance(self, states: Int[Tensor, " B"], ids: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states after one more token in each row."""
        return states + 1

    def complete(self, states: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Return which steps are complete."""
        return states >= self.count

    def to(self, device: torch.device) -> "CountAutomaton":
        """Return the automaton for states on `device`."""
        return replace(self, device=device)


@runtime_checkable
class StepRule(Protocol):
    """Says where a step ends."""

    def automaton(self, pieces: list[bytes]) -> Automaton:
        """Return the rule compiled for a vocabulary, given the bytes of each token."""
        ...


@dataclass(frozen=True)
class Delimiter:
    r"""A step ends with the token that completes the delimiter.

    What follows the delimiter within that token belongs to the step. The delimiter counts only
    behind something other than white space, so that no step is empty: leading delimiters are
    part of the step that follows them.

    A line end in it stands for all kinds of line ends: a line feed, a carriage return, and both.
    Between two line ends the line may have blanks and tabs, which nobody sees. A carriage return
    that completes the delimiter does so at once; a line feed in a later token is then the first
    of the next step.
    """

    text: str = "\n\n"

    def __post_init__(self) -> None:
        """Check the delimiter."""
        if not isinstance(self.text, str) or not self.text:
            raise InputError(
                f"A step delimiter is a piece of text. Got {self.text!r}; accepted: a string that "
                "is not empty."
            )

    def automaton(self, pieces: list[bytes]) -> StepAutomaton:
        """Return the automaton, from the transitions for single bytes."""
        bytewise = self.transitions()
        return StepAutomaton(tokenwise(bytewise, pieces), accept=len(bytewise) - 1)

    def transitions(self) -> np.ndarray:
        """Return the next state for each state and byte, [S, 256]; the last one: complete."""
        return _delimiter_transitions(self.text.encode())


@dataclass(frozen=True)
class TokenCount:
    """A step has `count` tokens."""

    count: int

    def __post_init__(self) -> None:
        """Check the count."""
        require_count("The number of tokens of a step", self.count)

    def automaton(self, pieces: list[bytes]) -> CountAutomaton:
        """Return the automaton that counts."""
        return CountAutomaton(self.count, len(pieces))


@dataclass(frozen=True)
class WholeAnswer:
    """A step is a whole answer: it ends where the model ends the text."""

    def automaton(self, pieces: list[bytes]) -> StepAutomaton:
        """Return the automaton that never accepts."""
        return StepAutomaton(torch.zeros((1, len(pieces)), dtype=torch.int16), accept=-1)


def step_rule(rule: object) -> StepRule:
    """Return the rule for what a user may write: a delimiter, a number of tokens, or a rule."""
    if isinstance(rule, str):
        return Delimiter(rule)
    if isinstance(rule, int):
        return TokenCount(rule)
    if isinstance(rule, StepRule):
        return rule
    raise InputError(
        f"step says where a step ends. Got {rule!r}; accepted: a delimiter such as '\\n\\n', a "
        "number of tokens, or a StepRule."
    )


class _Match(NamedTuple):
    """A delimiter that has begun: how many of its parts have been read, and how it goes on.

    Attributes:
        num_read: parts read.
        is_return: whether the last byte is a carriage return; a line feed belongs to it.
        is_inner: whether something other than white space and delimiters stands before it.
    """

    num_read: int
    is_return: bool
    is_inner: bool


def _delimiter_transitions(delimiter: bytes) -> np.ndarray:
    """Return the next state for each state and byte, [S, 256]; the last one: complete.

    A state is the set of matches that have begun, and whether there is nothing but white space and
    delimiters so far.
    """
    parts = tuple(_LINE_END if part in _LINE_ENDS else part for part in _PARTS.findall(delimiter))
    known = {*delimiter, *WHITESPACE}
    other = next(byte for byte in range(256) if byte not in known)
    numbers, rows = {(frozenset[_Match](), True): 0}, list[np.ndarray]()
    queue = list(numbers)
    for matches, is_blank in queue:  # which grows
        row = np.zeros(256, dtype=np.int64)
        for byte in (other, *known):
            following = _matches(parts, matches, is_blank, bytes([byte]))
            ended = {match.is_inner for match in following if match.num_read == len(parts)}
            state = following, is_blank and byte in WHITESPACE
            if ended == {False}:
                state = frozenset[_Match](), True
            if state not in numbers and True not in ended:
                numbers[state] = len(numbers)
                queue.append(state)
            row[slice(None) if byte == other else byte] = -1 if True in ended else numbers[state]
        rows.append(row)
    table = np.array([*rows, np.full(256, -1)])
    return np.where(table < 0, len(rows), table)


def _matches(
    parts: tuple[bytes, ...], matches: frozenset[_Match], is_blank: bool, byte: bytes
) -> frozenset[_Match]:
    """Return the matches after one more byte: those that go on, and one that begins with it."""
    found = set[_Match]()
    for match in (*matches, _Match(0, False, not is_blank)):
        due, last = parts[match.num_read], parts[match.num_read - 1] if match.num_read else b""
        if match.is_return and byte == b"\n":
            found.add(match._replace(is_return=False))
        elif byte == due or (due == _LINE_END and byte in _LINE_ENDS):
            found.add(
                _Match(match.num_read + 1, due == _LINE_END and byte == b"\r", match.is_inner)
            )
        elif last == due == _LINE_END and byte in _BLANKS:
            found.add(match._replace(is_return=False))
    return frozenset(found)


def tokenwise(bytewise: np.ndarray, pieces: list[bytes]) -> Tensor:
    """Return the next state for each state and token: the bytes of a token, one after another."""
    longest = max((len(piece) for piece in pieces), default=0)
    num_states = len(bytewise)
    states = np.tile(np.arange(num_states)[:, None], (1, len(pieces)))
    lengths = np.array([len(piece) for piece in pieces])
    padded = b"".join(piece.ljust(longest, b"\0") for piece in pieces)
    columns = np.frombuffer(padded, dtype=np.uint8).reshape(len(pieces), longest)
    for position in range(longest):
        tokens = np.flatnonzero(lengths > position)
        states[:, tokens] = bytewise[states[:, tokens], columns[tokens, position]]
    return torch.from_numpy(states.astype(np.int16 if num_states < 2**15 else np.int64))
