"""Rows in the memory of an engine: texts that begin alike share what is computed of them.

A row is a text and how much of it is the row's own. Copying rows, moving and dropping them touches
no numbers and asks nothing of the engine. The engine is told when a row is extended: the text is
extended where it lies if it ends with the row, and else a new one begins as it does.

The memory of the engine is limited in texts and in positions. The text that has not been needed for
the longest time leaves it; it is computed again, behind what it has in common with a text that is
there, when one of its rows is extended.

Shapes: B rows, R of them that are extended, K logits, V vocabulary.
"""

from collections.abc import Collection, Sequence
from itertools import count as counter
from typing import Final, Protocol, runtime_checkable
from weakref import WeakSet

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.models.caches.rows import UNLIMITED


@runtime_checkable
class Engine(Protocol):
    """What computes texts, and remembers them in slots.

    Attributes:
        num_slots: how many texts it has places for.
        tokens_at_once: how many tokens it computes in one call.
        logits_at_once: behind how many of them it tells logits.
        vocab_size: V.
    """

    num_slots: int
    tokens_at_once: int
    logits_at_once: int
    vocab_size: int

    def decode(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        slots: Sequence[int],
        is_wanted: Sequence[bool],
    ) -> Float[Tensor, "K V"] | None:
        """Compute tokens, and keep them; None, with nothing kept, if the memory is full.

        The logits behind those for which they are wanted are overwritten by the next call.
        """
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Let the text of an empty slot begin as another one does."""
        ...

    def forget(self, slot: int) -> None:
        """Forget the text of a slot."""
        ...

    def clear(self) -> None:
        """Forget all texts, and their numbers, which may be no numbers."""
        ...


class Text:
    """A text, which grows at its end only.

    Attributes:
        ids: its tokens.
        slot: its place in the memory; None if it has none.
        held: how many of its tokens the memory holds, the first ones.
        used: when it was last needed.
        parent: a text with all the ids with which this one was made, until it is computed.
    """

    def __init__(self, memory: "TextMemory", ids: list[int], parent: "Text | None" = None) -> None:
        """Make a text of which nothing is computed, and which begins as its parent does."""
        self._memory, self.ids, self.parent = memory, ids, parent
        self.slot: int | None = None
        self.held = self.used = 0

    def __del__(self) -> None:
        """Leave the memory, at its next work: a text may be dropped anywhere."""
        if self.slot is not None:
            self._memory.dropped.append(self.slot)


class _FullError(Exception):
    """The memory does not hold all texts that are computed side by side."""


class TextMemory:
    """Which texts the memory of an engine holds.

    Attributes:
        engine: the engine.
        dropped: slots of texts that nobody has any more, and that are still in the memory.
        num_computed: how many tokens have been computed, again those that had left the memory.
    """

    def __init__(self, engine: Engine) -> None:
        """Take an engine with nothing in its memory."""
        self.engine, self.dropped, self.num_computed = engine, list[int](), 0
        self._free = list(range(engine.num_slots))[::-1]
        self._held: Final = WeakSet[Text]()
        self._clock: Final = counter(1)

    def new_rows(self, num_rows: int) -> "TextRows":
        """Return so many empty rows."""
        texts = [Text(self, []) for _ in range(num_rows)]
        return TextRows(self, texts, torch.zeros(num_rows, dtype=torch.long))

    def extend(
        self, texts: Sequence[tuple[Text, int]], new: Sequence[list[int]], wanted: Sequence[int]
    ) -> tuple[list[Text], Float[Tensor, "K V"]]:
        """Extend texts.

        Args:
            texts: R texts, and how much of each of them is extended.
            new: the tokens that come behind it, at least one.
            wanted: behind how many of these, the last ones, logits are wanted.

        Returns:
            The extended texts, each with its own end, and all logits, in order.

        Raises:
            InputError: a single text is more than the memory holds.
        """
        extended = list[Text]()
        for (text, length), ids in zip(texts, new, strict=True):
            if len(text.ids) != length:
                text = Text(self, text.ids[:length], text)
            text.ids.extend(ids)
            extended.append(text)
        self._let_go()
        try:
            logits = self._computed(extended, wanted)
        except BaseException:
            self.clear()  # what the engine holds is not known
            raise
        return extended, torch.cat([torch.zeros((0, self.engine.vocab_size)), *logits])

    def clear(self) -> None:
        """Forget everything that is computed."""
        for text in list(self._held):
            self._leave(text)
        self._let_go()
        self.engine.clear()

    def _computed(self, texts: Sequence[Text], wanted: Sequence[int]) -> list[Float[Tensor, "_ V"]]:
        """Compute what the memory lacks of these texts, in parts if it does not hold them all."""
        try:
            for text, count in zip(texts, wanted, strict=True):
                self._place(text, len(text.ids) - max(count, 1), texts)
            return self._appended(texts, wanted)
        except _FullError:
            for text, count in zip(texts, wanted, strict=True):
                if text.held > len(text.ids) - count:  # logits of this attempt are lost
                    self._leave(text)
            if len(texts) == 1:
                raise InputError(
                    "The memory of the engine does not hold one text. Got "
                    f"{len(texts[0].ids)} tokens; accepted: shorter texts, or more cells."
                ) from None
        half = len(texts) // 2
        first = self._computed(texts[:half], wanted[:half])
        return [*first, *self._computed(texts[half:], wanted[half:])]

    def _place(self, text: Text, most: int, pinned: Collection[Text]) -> None:
        """Give a text a slot, with what the memory has of it, up to so many tokens."""
        text.used = next(self._clock)
        if text.slot is not None:
            return
        source, common = text.parent, 0
        if source is not None:
            common = min(source.held, most)
            common = next((n for n in range(common) if source.ids[n] != text.ids[n]), common)
        if source is None or not common:
            source, common = self._nearest(text.ids[:most])
        while not self._free:
            self._make_room([*pinned, source])
        text.slot, text.held, text.parent = self._free.pop(), common, None
        self._held.add(text)
        if common:
            assert source.slot is not None
            self.engine.copy(source.slot, text.slot, common)

    def _nearest(self, ids: list[int]) -> tuple[Text, int]:
        """Return the text that has most in common with these ids, and how much of it is held."""
        best = Text(self, []), 0
        for text in self._held:
            most = min(text.held, len(ids))
            same = next((n for n in range(most) if text.ids[n] != ids[n]), most)
            best = max(best, (text, same), key=lambda pair: pair[1])
        return best

    def _appended(self, texts: Sequence[Text], wanted: Sequence[int]) -> list[Float[Tensor, "_ V"]]:
        """Compute what the memory lacks of these texts; return the logits that are wanted."""
        tokens = [
            (text, place, place >= len(text.ids) - count)
            for text, count in zip(texts, wanted, strict=True)
            for place in range(text.held, len(text.ids))
        ]
        logits, start = list[Tensor](), 0
        while start < len(tokens):
            part = tokens[start:][: self.engine.tokens_at_once]
            places = [n for n, (_, _, is_wanted) in enumerate(part) if is_wanted]
            if len(places) > self.engine.logits_at_once:
                part = part[: places[self.engine.logits_at_once]]
            logits.append(self._decoded(part, texts))
            for text, _, _ in part:
                text.held += 1
            start += len(part)
        self.num_computed += len(tokens)
        return logits

    def _decoded(
        self, tokens: Sequence[tuple[Text, int, bool]], pinned: Collection[Text]
    ) -> Float[Tensor, "K V"]:
        """Compute tokens, for which other texts leave the memory until it has room."""
        owners, places, wanted = zip(*tokens, strict=True)
        ids = [text.ids[place] for text, place, _ in tokens]
        while True:
            logits = self.engine.decode(ids, places, [text.slot for text in owners], wanted)
            if logits is not None:
                return logits.clone()
            self._make_room(pinned)

    def _make_room(self, pinned: Collection[Text]) -> None:
        """Let the text leave the memory that has not been needed for the longest time."""
        if self.dropped:
            self._let_go()
            return
        others = [text for text in self._held if text not in pinned]
        if not others:
            raise _FullError
        self._leave(min(others, key=lambda text: text.used))

    def _leave(self, text: Text) -> None:
        """Let a text leave the memory, if it is there."""
        if text.slot is not None:
            self.engine.forget(text.slot)
            self._free.append(text.slot)
        text.slot, text.held = None, 0
        self._held.discard(text)

    def _let_go(self) -> None:
        """Forget the texts that nobody has any more."""
        while self.dropped:
            slot = self.dropped.pop()
            self.engine.forget(slot)
            self._free.append(slot)


class TextRows:
    """Rows of a `TextMemory`; see `llmsmc.models.caches.rows.Rows`.

    Attributes:
        memory: where their texts are computed.
        texts: the text of each row, which may go on behind what is the row's own.
        lengths: how much of it is the row's own.
    """

    lengths: Int[Tensor, " B"]

    def __init__(self, memory: TextMemory, texts: list[Text], lengths: Int[Tensor, " B"]) -> None:
        """Take the texts of the rows."""
        self.memory, self.texts, self.lengths = memory, texts, lengths

    @property
    def num_rows(self) -> int:
        """The number of rows B."""
        return len(self.texts)

    @staticmethod
    def gathered(
        parts: "Sequence[tuple[TextRows, Int[Tensor, ' _']]]", room: int = 0
    ) -> "TextRows":
        """Return new rows of several; see `llmsmc.models.caches.rows.gather`."""
        texts = [rows.texts[row] for rows, which in parts for row in which.tolist()]
        lengths = torch.cat([rows.lengths[which] for rows, which in parts])
        return TextRows(parts[0][0].memory, texts, lengths)

    def select(self, indices: Int[Tensor, " M"]) -> "TextRows":
        """Return new, independent rows; any order, repeats allowed."""
        return TextRows.gathered([(self, indices)])

    def truncate(self, lengths: Int[Tensor, " B"]) -> None:
        """Forget all but the first `lengths` tokens of each row."""
        self.lengths = torch.minimum(self.lengths, lengths)

    def moved_out(self) -> "TextRows":
        """Return the rows, none of which is left here."""
        moved = TextRows(self.memory, self.texts, self.lengths)
        self.texts, self.lengths = [], self.lengths[:0]
        return moved

    def hold(self, rows: Int[Tensor, " M"], lengths: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
        """Hold the first `lengths` tokens of these rows, and nothing else."""
        self.texts, self.lengths = [self.texts[row] for row in rows.tolist()], lengths.clone()
        return torch.arange(len(rows))

    def append(
        self,
        source: "TextRows",
        rows: Int[Tensor, " M"],
        lengths: Int[Tensor, " M"],
        max_rows: int = UNLIMITED,
    ) -> Int[Tensor, " M"]:
        """Append the first `lengths` tokens of rows of `source`; return where they are."""
        start = self.num_rows
        self.texts = self.texts + [source.texts[row] for row in rows.tolist()]
        self.lengths = torch.cat([self.lengths, lengths])
        return torch.arange(start, self.num_rows)

    def put_in_front(self, rows: Int[Tensor, " M"]) -> Int[Tensor, " B"]:
        """Let these rows be the first; return where each of the B rows is now."""
        return self.keep(torch.arange(self.num_rows), rows)

    def keep(
        self, rows: Int[Tensor, " M"], front: Int[Tensor, " K"] | None = None
    ) -> Int[Tensor, " B"]:
        """Forget the other rows; return where each of the B rows is now, -1 for those gone."""
        places = torch.full((self.num_rows,), -1)
        if front is not None:
            rows = torch.cat([front, rows[~torch.isin(rows, front)]])
        places[rows] = torch.arange(len(rows))
        self.texts, self.lengths = [self.texts[row] for row in rows.tolist()], self.lengths[rows]
        return places

    def wipe(self, rows: Int[Tensor, " M"]) -> None:
        """Forget all that is computed: numbers that are none would be met by other texts, too."""
        self.memory.clear()

    def extend(
        self, input_ids: Int[Tensor, "R q"], counts: Int[Tensor, " R"], num_logits: int
    ) -> Float[Tensor, "R k V"]:
        """Extend the first R rows by the first `counts` of q ids, and return logits.

        Returns:
            The logits behind the last k = `num_logits` of the q ids; zeros behind ids that are not
            among the first.
        """
        num_rows, num_new = input_ids.shape
        ends, ids = counts.tolist(), input_ids.tolist()
        which = [row for row in range(num_rows) if ends[row]]
        first = num_new - num_logits  # of the places behind which logits are wanted
        wanted = [max(0, ends[row] - first) for row in which]
        texts = [
            (self.texts[row], length)
            for row, length in zip(which, self.lengths[which].tolist(), strict=True)
        ]
        extended, logits = self.memory.extend(
            texts, [ids[row][: ends[row]] for row in which], wanted
        )
        for row, text in zip(which, extended, strict=True):
            self.texts[row] = text
        self.lengths = self.lengths.index_add(0, torch.arange(num_rows), counts)
        found = torch.zeros((num_rows, num_logits, logits.shape[1]))
        place = first + torch.arange(num_logits)
        found[place < counts[:, None]] = logits
        return found
