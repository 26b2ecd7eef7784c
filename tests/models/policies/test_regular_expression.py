"""The automaton of a regular expression against Python's own, on any text cut into any tokens."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from llmsmc import InputError
from llmsmc.models.text.regular_expression import RegularExpression
from llmsmc.models.text.vocabulary import token_pieces
from tests.models.policies.test_stopping import follow

PATTERNS = [
    r"\n\n+",
    r"[.!?]\s",
    r"\n(Step [0-9]+:|## )",
    r"a.b",
    r"é|日本?|🙂",
    r"[^a-z\s]{2}",
    r"(ab|ba)*c",
    r"\}\$?\.",
    r"x{2,3}y",
    r"[à-ü]+ ",
    r"[\w.-]+:",
    r"[-a]b|[\]^-]|[+,-]",
    r"\d{,2}x",
    r"{|}|a{b",
    r"[\u00e0-\u00fc]\x20|\U0001f642",
    r"(?P<n>a|b)(?:c|(?#none)d)",
    r"(|a)b|#",
    r"[\W\d]y",
    r"[^\s\S]|[\0-\uffff]c",
    r"\t|[\a\v]",
]


def search(pattern: str, pieces: list[bytes]) -> int | None:
    """Return the tokens up to the first end of a match, looked for behind every character."""
    text = b"".join(pieces).decode()
    compiled = re.compile(pattern, re.ASCII)
    for stop in range(1, len(text) + 1):
        prefix = text[:stop]
        if not prefix.strip(" \t\n\r\x0b\x0c"):
            continue
        if any(compiled.fullmatch(text, start, stop) for start in range(stop)):
            length, count = len(prefix.encode()), 0
            for piece in pieces:
                if length <= 0:
                    break
                length, count = length - len(piece), count + 1
            return count
    return None


@settings(deadline=None, max_examples=150)
@given(
    pattern=st.sampled_from(PATTERNS),
    text=st.text("ab \n.!?#Step12:xycé日本🙂}$àü\t", max_size=30),
    cuts=st.lists(st.integers(1, 5), min_size=1),
)
def test_automaton_equals_search(pattern: str, text: str, cuts: list[int]) -> None:
    """The tokens are pieces of bytes, which may end within a character."""
    data, pieces, start = text.encode(), list[bytes](), 0
    while start < len(data):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(data[start : start + size])
        start += size
    if not pieces:
        return
    automaton = RegularExpression(pattern).automaton(pieces)
    assert follow(automaton, list(range(len(pieces)))) == search(pattern, pieces)


def test_bytes_that_are_no_text() -> None:
    pieces = [b"\xe6", b"\x97", b"\xa5", b"a", b"\xff", b"b"]  # the first three: one character
    automaton = RegularExpression("a.b").automaton(pieces)
    assert follow(automaton, [3, 4, 5]) == 3
    assert follow(automaton, [3, 0, 5]) == 3  # broken off
    assert follow(automaton, [3, 0, 1, 2, 5]) == 5
    exact = RegularExpression("a日b").automaton(pieces)
    assert follow(exact, [3, 0, 1, 2, 5]) == 5
    assert follow(exact, [3, 0, 1, 5]) is None
    assert follow(exact, [0, 3, 0, 1, 2, 5]) == 6


def test_with_a_real_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = token_pieces(tokenizer, len(tokenizer))
    ids = tokenizer.encode("First, add. Then? 7.\n\nThe end", add_special_tokens=False)
    for pattern in PATTERNS[:2]:
        expected = search(pattern, [pieces[n] for n in ids])
        assert follow(RegularExpression(pattern).automaton(pieces), ids) == expected


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "nothing to match"),
        ("a*", "a match of nothing"),
        ("(a", "unterminated"),
        ("^a", "anchor"),
        ("a$", "anchor"),
        (r"a\b", "anchor"),
        (r"(a)\1", "a reference"),
        ("a+?b", r"repetition with '\?' behind it"),
        ("a(?=b)", "look-around"),
        ("(?i)a", "a flag"),
        ("(?i:a)b", "a flag"),
        ("(?s)a.b", "a flag"),
        ("a++b", r"repetition with '\+' behind it"),
        ("(?>a)b", "atomic"),
        (r"(a)(?(1)b|c)", "a reference"),
        (r"(?P<n>a)(?P=n)", "a reference"),
        ("(?<=a)b", "look-around"),
        ("(?!)", "look-around"),
        (r"\Aa", "anchor"),
        (r"\p{L}", "bad escape"),
        (r"[^\s\S]", "no text that it matches"),
        (r"a[^\s\S]", "no text that it matches"),
        ("a|", "a match of nothing"),
        ("(" * 2000 + "a" + ")" * 2000, "recursion"),
        ("a.{12}b", "more than 500 states"),
        ("((a?){40}){40}", "a match of nothing"),
        ("x{99999999999}", "too large"),
    ],
)
def test_what_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as raised:
        RegularExpression(pattern).automaton([b"a"])
    assert str(raised.value).count("accepted:") == 1


def test_classes_keep_their_brackets_and_dots() -> None:
    pieces = [b"a", b"]", b"^", b".", b"$", b"\n"]
    for pattern, ends in (
        (r"[\].$^]", {1, 2, 3, 4}),
        (r"\.", {3}),
        ("a.", set()),
        ("[^a]", {1, 2, 3, 4}),
    ):
        automaton = RegularExpression(pattern).automaton(pieces)
        assert {n for n in range(6) if follow(automaton, [n]) == 1} == ends
    assert follow(RegularExpression("a.").automaton(pieces), [0, 5]) is None


@pytest.mark.parametrize(
    ("pattern", "num_states"),
    [
        (r".{80,200}[.!?]\s", 320),  # 80 characters of up to four bytes, in the smallest automaton
        (r".{80,}[.!?]\s", 320),
        (r".{10,500}\n", 49),
        (r"(\w+\s){5,30}[.]", 12),
        (r"((a|b|c){1,9}d){1,20}e", 4),
        ("((a?){40}){40}b", 2),
        ("(){1000000000}a", 2),
        ("(a*)*b", 2),
        ("(a|b)*a(a|b){9}", 11),  # a match may begin anywhere: ten letters
        ("(.{1,30}\n){4,9}\n", 461),
        ("(" * 20 + "a" + ")" * 20, 2),
        ("[一-龥]{5,10}。", None),
        (r"[^a-z]{1,300}[a-z]", 3),
        (r"[\0-\uffff]x", 8),
        (r"[^\u4e00-\u9fff]{3}。", None),
        ("|".join(map(chr, range(0x4E00, 0x5300, 7))), None),
        ("|".join(f"word{n}" for n in range(400)), 6),
        (r"[^\n]{150}x", "more than 500 states"),
        (r"(.{1,50}[.!?]\s){3,9}", "more than 500 states"),
        (r"(a.{3}|b.{4}|c.{5}|d.{6}|e.{7}){2,10}f", "more than 500 states"),
        (r"(x.{6}y.{6}){3}", "more than 500 states"),
        ("[éa-z][日a-z].{9}[a-c]z", "more than 500 states"),
        ("(a{1000}){1000}b", "1,000,001 characters"),
        ("((a{0,30}b{0,30}){0,30}c){0,30}d", "54,031 characters"),
        ("a{0,99999}b", "100,000 characters"),
        ("x" * 600, "more than 500 states"),
    ],
)
def test_the_size_is_known_before_the_work_is_done(
    pattern: str, num_states: int | str | None
) -> None:
    before = time.process_time()
    if isinstance(num_states, str):
        with pytest.raises(InputError, match=rf"{num_states}.* accepted: at most 500 states"):
            RegularExpression(pattern)
    else:
        automaton = RegularExpression(pattern).automaton([b"a"])
        assert num_states in (len(automaton.table), None)
    assert time.process_time() - before < 5  # a second or less, were the machine alone


def test_long_steps_end_where_they_may() -> None:
    text = "é" * 78 + "a. " + "b" * 79 + "! c"
    pieces = [character.encode() for character in text]
    automaton = RegularExpression(r".{80,200}[.!?]\s").automaton(pieces)
    assert follow(automaton, list(range(len(text)))) == len(text) - 1
    assert search(r".{80,200}[.!?]\s", pieces) == len(text) - 1
    assert follow(automaton, list(range(1, len(text)))) == len(text) - 2


def test_what_one_byte_can_say_is_no_text_in_two() -> None:
    pieces = [b"\xe0", b"\x81", b"\x81", b"A"]  # a letter A, of which UTF-8 knows no such spelling
    automaton = RegularExpression("A").automaton(pieces)
    assert follow(automaton, [0, 1, 2]) is None
    assert follow(automaton, [0, 1, 2, 3]) == 4
