"""The tokens of a model: their bytes, the texts that ids stand for, and rules over ids."""

import functools
import itertools
import json
from collections.abc import Collection, Iterable
from typing import Any, Final, Protocol, runtime_checkable

import torch
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmsmc.models.text.constraint import Constraint, TokenMask
from llmsmc.models.text.stopping import Automaton, StepRule

_CONTEXT_OF_DECODING: Final = 4  # tokens before a step that decide how it begins as text
_MAX_LENGTHS: Final = 4096  # of the texts of such tokens that are remembered
_ANCHOR: Final = "a"


@runtime_checkable
class Vocabulary(Protocol):
    """The tokens of a policy: their ids, the texts that ids stand for, and rules over ids."""

    @property
    def ids(self) -> dict[str, int]:
        """The tokens with their ids."""
        ...

    @property
    def special(self) -> frozenset[str]:
        """The tokens that are markup, not text."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text, with nothing put around it."""
        ...

    def decode(self, token_ids: Iterable[int], after: Iterable[int] = ()) -> str:
        """Return the text of the ids, as it reads behind the ids `after`."""
        ...

    def automaton(self, rule: StepRule) -> Automaton:
        """Return the rule compiled for these tokens."""
        ...

    def mask(self, constraint: Constraint) -> TokenMask:
        """Return the constraint compiled for these tokens."""
        ...


@runtime_checkable
class SpelledVocabulary(Vocabulary, Protocol):
    """A vocabulary that also shows how its tokens are spelled."""

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each id; special tokens have none."""
        ...

    def spelled(self, token_ids: Iterable[int]) -> str:
        """Return the text of the ids, special tokens included as they are written."""
        ...


class TokenizerVocabulary:
    """A tokenizer with a chat template, and what is compiled for its tokens.

    Attributes:
        tokenizer: the tokenizer.
        size: how many ids the model has; some of them may have no token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        size: int,
        device: torch.device | None = None,
        ends: Iterable[int] = (),
    ) -> None:
        """Take a tokenizer and the ids that end a text; what is compiled lies on `device`."""
        self.tokenizer, self.size = tokenizer, size
        named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        self._silent = frozenset({*ends, *(id for id in named if isinstance(id, int))})
        self._device = device or torch.device("cpu")
        self._pieces: list[bytes] | None = None
        self._automata: dict[StepRule, Automaton] = {}
        self._masks: dict[Constraint, TokenMask] = {}
        self._lengths = dict[tuple[int, ...], int]()

    @property
    def ids(self) -> dict[str, int]:
        """The tokens with their ids."""
        return dict(self.tokenizer.get_vocab())

    @property
    def special(self) -> frozenset[str]:
        """The tokens that are markup."""
        added = self.tokenizer.added_tokens_decoder.values()
        return frozenset(token.content for token in added if token.special)

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each id."""
        if self._pieces is None:
            self._pieces = token_pieces(self.tokenizer, self.size)
        return self._pieces

    def spelled(self, token_ids: Iterable[int]) -> str:
        """Return the text of the ids, special tokens included as they are written."""
        text: Any = self.tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text, with nothing put around it."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Iterable[int], after: Iterable[int] = ()) -> str:
        """Return the text of the ids, as it reads behind the ids `after`.

        Left out are the ids that begin, end and fill texts. Other special tokens are spelled out,
        so that whoever reads the text sees that the model has written them.
        """
        context = tuple(after)[-_CONTEXT_OF_DECODING:]
        text = decode(self.tokenizer, [*context, *token_ids], self._silent)
        if not context:
            return text
        if context not in self._lengths:  # steps end alike, so that few are new
            if len(self._lengths) >= _MAX_LENGTHS:
                self._lengths.clear()
            self._lengths[context] = len(decode(self.tokenizer, context, self._silent))
        return text[self._lengths[context] :]

    def automaton(self, rule: StepRule) -> Automaton:
        """Return the rule compiled for these tokens; compiled once."""
        if rule not in self._automata:
            self._automata[rule] = rule.automaton(self.pieces).to(self._device)
        return self._automata[rule]

    def mask(self, constraint: Constraint) -> TokenMask:
        """Return the constraint compiled for these tokens; compiled once."""
        if constraint not in self._masks:
            automaton = constraint.automaton(self.pieces).to(self._device)
            self._masks[constraint] = TokenMask.of(automaton)
        return self._masks[constraint]


def eos_ids_of(*sources: Any) -> tuple[int, ...]:
    """Return every id that a config, a tokenizer or other parts of a checkpoint name as an end."""
    found: set[int] = set()
    for source in sources:
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return tuple(sorted(found))


def decode(
    tokenizer: PreTrainedTokenizerBase,
    ids: Iterable[int],
    silent: Collection[int] | None = None,
) -> str:
    """Return the text of the ids with its spaces as they are.

    Left out are the ids of `silent`; without these, all special tokens.
    """
    skipped = silent is None
    spoken = list(ids if silent is None else itertools.filterfalse(silent.__contains__, ids))
    if type(tokenizer)._decode is PreTrainedTokenizerFast._decode:
        # What is called in the end, three times as fast by itself.
        text: Any = tokenizer.backend_tokenizer.decode(spoken, skip_special_tokens=skipped)
    else:
        settings = {"skip_special_tokens": skipped, "clean_up_tokenization_spaces": False}
        text = tokenizer.decode(spoken, **settings)
    assert isinstance(text, str)
    return text


def neutralized(
    tokenizer: PreTrainedTokenizerBase, text: str, markers: Collection[str] = ()
) -> str:
    """Return the text with special tokens and markers written out in it broken by a space."""
    special = {*markers, *(str(token) for token in tokenizer.all_special_tokens)}
    special |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    for token in sorted(special, key=len, reverse=True):
        if len(token) > 1:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def token_pieces(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[bytes]:
    """Return the bytes of every id below `vocab_size`; special and unused ids have none.

    Byte-level vocabularies are read exactly. For others an id is decoded behind a letter, which
    keeps the leading space that decoding takes off at the start of a text.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(vocab_size, len(tokenizer)))))
    special = set(tokenizer.all_special_ids)
    special |= {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    added = {id: token.content for id, token in tokenizer.added_tokens_decoder.items()}
    if is_byte_level(tokenizer):
        table = _bytes_of_characters()
        pieces = [
            added[id].encode() if id in added else bytes(table[c] for c in token or "")
            for id, token in enumerate(tokens)
        ]
    else:
        pieces = _decoded_pieces(tokenizer, len(tokens))
    pieces = [b"" if id in special else piece for id, piece in enumerate(pieces)]
    return pieces + [b""] * (vocab_size - len(pieces))


def is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokens are strings over the byte alphabet of GPT-2."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    return any(part.get("type") == "ByteLevel" for part in parts)


@functools.cache
def _bytes_of_characters() -> dict[str, int]:
    """Return the byte behind each character of the GPT-2 byte alphabet.

    Printable bytes stand for themselves, the others for the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }


def _decoded_pieces(tokenizer: PreTrainedTokenizerBase, count: int) -> list[bytes]:
    anchor = tokenizer.encode(_ANCHOR, add_special_tokens=False)
    start = len(decode(tokenizer, anchor))
    return [decode(tokenizer, [*anchor, id])[start:].encode() for id in range(count)]
