"""The automaton ends a step exactly where a search in the decoded text would."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from llmsmc import InputError
from llmsmc.models.text.stopping import Automaton, Delimiter, TokenCount, step_rule
from llmsmc.models.text.vocabulary import token_pieces


def follow(automaton: Automaton, ids: list[int]) -> int | None:
    """Return the number of tokens after which the step is complete."""
    states = automaton.start(1)
    for count, token_id in enumerate(ids, 1):
        states = automaton.advance(states, torch.tensor([token_id]))
        if bool(automaton.complete(states)[0]):
            return count
    return None


LINE_END, LINE_BREAK = rb"(?>\r\n|\r|\n)", rb"[\r\n]"  # the last of a delimiter ends at once


def search(delimiter: bytes, pieces: list[bytes]) -> int | None:
    """Return the same by looking at the text; leading delimiters are passed over."""
    text, start = b"".join(pieces), 0
    parts = re.findall(rb"(?:\r\n|\r|\n)+|.", delimiter, re.DOTALL)
    for number, part in enumerate(parts):
        if part.strip(b"\r\n"):
            parts[number] = re.escape(part)
        else:
            ends = [LINE_END] * len(re.findall(rb"\r\n|\r|\n", part))
            if number == len(parts) - 1:
                ends[-1] = LINE_BREAK
            parts[number] = rb"[ \t]*".join(ends)
    pattern = re.compile(b"".join(parts))
    while found := pattern.search(text, start):
        if text[start : found.start()].strip():
            lengths = torch.tensor([len(piece) for piece in pieces]).cumsum(0)
            return int((lengths < found.end()).sum()) + 1
        start = found.end()
    return None


ALPHABET = "\n\r\t a#b"
PIECES = st.lists(st.text(ALPHABET, max_size=4).map(str.encode), min_size=1, max_size=6)


@settings(deadline=None)
@given(
    delimiter=st.sampled_from(
        ["\n\n", "\n", "\r\n", "\r\n\r\n", "aab", "aa", "\n\n##", "abab", "# #", "\n \n", "\n\n\n"]
    ),
    pieces=PIECES,
    data=st.data(),
)
def test_automaton_equals_search(delimiter: str, pieces: list[bytes], data: st.DataObject) -> None:
    automaton = Delimiter(delimiter).automaton(pieces)
    ids = data.draw(st.lists(st.integers(0, len(pieces) - 1), max_size=30))
    expected = search(delimiter.encode(), [pieces[n] for n in ids])
    assert follow(automaton, ids) == expected


@pytest.mark.parametrize(
    "text",
    ["a.\r\n\r\n", "a.\r\r", "a.\n\r", "a.\n \t\n", "a.\r\n  \r\n", "a. \n\n", "\r\n\r\n a.\r\n\n"],
)
def test_paragraphs_end_with_all_kinds_of_line_ends(text: str) -> None:
    letters = [letter.encode() for letter in sorted(set(text))]
    ids = [letters.index(letter.encode()) for letter in text]
    at_once = len(text) - text.endswith("\r\n")  # the line feed, if apart, begins the next step
    assert follow(Delimiter().automaton(letters), ids) == at_once
    whole = Delimiter().automaton([b"", text.encode()])
    assert follow(whole, [1]) == 1


@pytest.mark.parametrize("text", ["a.\r\nb", "a.\rb\n", "a. \t\n b", "\r\n\r\n", "a.\n\x0bb\n"])
def test_other_line_ends_do_not(text: str) -> None:
    assert follow(Delimiter().automaton([text.encode()]), [0]) is None


@pytest.mark.parametrize("text", ["a.\n\nb", "\n\n a\n\nb", "a\n.\n\n", "no end\n", "?\n\n\n\n1"])
def test_with_a_real_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    pieces = token_pieces(tokenizer, len(tokenizer))
    ids = tokenizer.encode(text, add_special_tokens=False)
    expected = search(b"\n\n", [pieces[n] for n in ids])
    assert follow(Delimiter().automaton(pieces), ids) == expected


def test_pieces_spell_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = token_pieces(tokenizer, len(tokenizer) + 5)
    text = "Zwölf ≤ 30,\n\n\t日本 🙂 it's"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(pieces[n] for n in ids).decode() == text
    assert all(pieces[n] == b"" for n in tokenizer.all_special_ids)
    assert pieces[len(tokenizer) :] == [b""] * 5


def test_pieces_of_other_tokenizers() -> None:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as tokenizer_models

    vocabulary = {"<unk>": 0, "▁": 1, "a": 2, "▁b": 3, "<0x0A>": 4, "▁a": 5, "b": 6}
    backend = Tokenizer(
        tokenizer_models.BPE(
            vocabulary, [("▁", "a"), ("▁", "b")], unk_token="<unk>", byte_fallback=True
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, unk_token="<unk>"
    )
    assert token_pieces(tokenizer, 7) == [b"", b" ", b"a", b" b", b"\n", b" a", b"b"]


def test_a_step_of_so_many_tokens() -> None:
    automaton = TokenCount(3).automaton([b"a", b"\n\n"])
    assert follow(automaton, [1, 0, 1, 0]) == 3


def test_what_a_user_may_write() -> None:
    assert step_rule("\n") == Delimiter("\n")
    assert step_rule(5) == TokenCount(5)
    assert step_rule(Delimiter("x")) == Delimiter("x")
    for wrong in ("", 0, -1, True, 1.5, None):
        with pytest.raises(InputError, match="Got"):
            step_rule(wrong)
