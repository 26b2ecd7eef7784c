"""Constraints: a text is found however it is cut into tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmsmc import InputError
from llmsmc.models.text.constraint import TokenMask, WithoutText, WithoutTokens
from llmsmc.models.text.stopping import StepAutomaton

PIECES = [b"", b"a", b"b", b"ab", b"ba", b"aab", b"bb", b" a"]

words = st.lists(st.text("ab ", min_size=1, max_size=4), min_size=1, max_size=3)
tokens = st.lists(st.integers(0, len(PIECES) - 1), max_size=12)


def accepts(automaton: StepAutomaton, ids: list[int]) -> bool:
    states = automaton.start(1)
    for token in ids:
        states = automaton.advance(states, torch.tensor([token]))
    return bool(automaton.complete(states))


@given(words=words, ids=tokens)
def test_a_text_is_found_wherever_it_is_cut(words: list[str], ids: list[int]) -> None:
    automaton = WithoutText(*words).automaton(PIECES)
    text = b"".join(PIECES[token] for token in ids).decode()
    assert accepts(automaton, ids) == any(word in text for word in words)


@given(banned=st.sets(st.integers(0, 7), min_size=1), ids=tokens)
def test_a_token_is_found(banned: set[int], ids: list[int]) -> None:
    assert accepts(WithoutTokens(banned).automaton(PIECES), ids) == bool(banned & set(ids))


@given(words=words, rows=st.lists(tokens, min_size=1, max_size=4))
def test_rows_are_read_up_to_their_ends(words: list[str], rows: list[list[int]]) -> None:
    automaton = WithoutText(*words).automaton(PIECES)
    mask = TokenMask.of(automaton)
    width = max(map(len, rows))
    padded = torch.tensor([row + [3] * (width - len(row)) for row in rows], dtype=torch.long)
    found = mask.violated(padded.reshape(len(rows), width), torch.tensor([len(r) for r in rows]))
    assert found.tolist() == [accepts(automaton, row) for row in rows]


@given(words=words, ids=tokens, seed=st.integers(0, 100))
def test_what_is_left_of_the_law_is_conditioned(
    words: list[str], ids: list[int], seed: int
) -> None:
    mask = TokenMask.of(WithoutText(*words).automaton(PIECES))
    state = mask.states(torch.tensor([ids], dtype=torch.long), torch.tensor([len(ids)]))
    generator = torch.Generator().manual_seed(seed)
    law = torch.randn(1, len(PIECES), generator=generator).log_softmax(-1)
    allowed = mask.allowed[state][0]
    restricted = mask.restrict(law, state)[0]
    if not bool(allowed.any()):  # violated for good: nothing is conditioned any more
        torch.testing.assert_close(restricted, law[0])
        return
    mass = law[0].exp()[allowed].sum()
    assert bool((restricted[~allowed] == -torch.inf).all())
    torch.testing.assert_close(restricted[allowed].exp(), law[0].exp()[allowed] / mass)


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda: WithoutText(), r"Got \(\)"),
        (lambda: WithoutText("a", ""), "Got "),
        (lambda: WithoutTokens([]), r"Got \[\]"),
        (lambda: WithoutTokens([-1]), r"Got \[-1\]"),
        (lambda: WithoutTokens([8]).automaton(PIECES), "Got the id 8; accepted: ids below 8"),
    ],
)
def test_bad_constraints(make: object, got: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=got):
        make()
