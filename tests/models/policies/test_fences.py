"""Steps outside of fenced blocks end exactly where a plain reader of the whole text says."""

import re

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmsmc import InputError
from llmsmc.models import OutsideFences, RegularExpression, WholeAnswer
from llmsmc.models.text.fences import MAX_FENCE, FencedAutomaton
from llmsmc.models.text.stopping import Automaton, Delimiter, Resumable, StepRule, TokenCount
from llmsmc.models.text.thinking import ThinkingAutomaton, ThinkingRule

# The plain reader: lines, and regular expressions of Python for what opens and closes a block.

LINES = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
OPENING = re.compile(r" {0,3}(?:(`{3,})[^`]*|(~{3,}).*)", re.DOTALL)
MAY_OPEN = re.compile(r" {0,3}(?:`{1,2}|~{1,2}|`{3,}[^`]*|~{3,}.*)", re.DOTALL)


def read(text: str) -> tuple[str, bool]:
    """Return the text with its blocks made unreadable, and whether it ends within one."""
    seen, fence, last = list[str](), "", ""
    for found in LINES.finditer(text):
        line, end = found.groups()
        if not found[0]:
            break
        closes = fence and re.fullmatch(rf" {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*", line)
        if not fence:
            opening = OPENING.fullmatch(line)
            fence = (opening[1] or opening[2]) if opening and end else ""
            seen.append(line + (len(end) * "\xff" if fence else end))
        else:
            seen.append(len(line) * "\xff" + (end if closes else len(end) * "\xff"))
            fence = "" if closes and end else fence
        last = "" if end else line
    return "".join(seen), bool(fence or MAY_OPEN.fullmatch(last))


def ends_of(rule: StepRule, pieces: list[str], limit: int) -> list[int]:
    """Return the numbers of tokens after which steps end, or are cut off with `limit` tokens."""
    ends, start = list[int](), 0
    for count in range(1, len(pieces) + 1):
        before, text = "".join(pieces[:start]), "".join(pieces[:count])
        seen, is_inside = read(text)
        seen = seen[len(before) :]
        if isinstance(rule, TokenCount):
            is_over = count - start >= rule.count
        elif isinstance(rule, RegularExpression):
            matches = re.compile(rule.pattern).finditer(seen)
            is_over = any(seen[: found.end()].strip() for found in matches)
        else:
            paragraphs = re.compile(r"(?>\r\n|\r|\n)[ \t]*[\r\n]")
            is_over = any(seen[: found.start()].strip() for found in paragraphs.finditer(seen))
        if (is_over and not is_inside) or count - start >= limit:
            ends.append(count)
            start = count
    return ends


def ends_by_automaton(automaton: Automaton, ids: list[int], limit: int) -> list[int]:
    assert isinstance(automaton, Resumable)
    states, ends = automaton.start(1), list[int]()
    for count, token_id in enumerate(ids, 1):
        states = automaton.advance(states, torch.tensor([token_id]))
        if bool(automaton.complete(states)) or count - (ends or [0])[-1] >= limit:
            ends.append(count)
            states = automaton.restart(states)
            rows = torch.tensor([[*ids[:count], 0], [0] * (count + 1)])
            behind = automaton.behind(rows, torch.tensor([count, 0]))
            assert behind.tolist() == [int(states), int(automaton.start(1))]
    return ends


RULES = [Delimiter(), RegularExpression(r"[.!?]\s"), RegularExpression(r"\n"), TokenCount(3)]
PARTS = [
    "`",
    "~",
    "``",
    "```",
    "~~~",
    "````",
    "```py\n",
    "\n```",
    "```\n",
    "\n\n",
    "\r\n",
    "\r",
    "\n",
]
PARTS += [
    " ",
    "   ",
    "    ",
    "\t",
    "a",
    "b. ",
    "c.\n",
    "\n\n`",
    ".\n\n```",
    "\n\n\n",
    "```\n\n",
    "x`y",
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=24).map("".join)


@settings(deadline=None, max_examples=60)
@example(text="Run:\n```py\na = 1\n\nb = 2\n```\n\nDone.\n\n", cuts=set(), limit=99)
@example(text="Run:\n\n~~~\na\n\n```\n\n~~~~  \nNo.\n\nYes. ", cuts={5, 6, 7, 20}, limit=99)
@example(text="````\n```\n\n````\n\na\n\n    ```\n\nb\n\n", cuts=set(), limit=99)
@example(text="```\na\n\nb\n\nc\n\n```\n\nd\n\ne", cuts=set(), limit=3)
@given(text=TEXTS, cuts=st.sets(st.integers(1, 60)), limit=st.sampled_from([3, 99]))
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_automaton_equals_a_plain_reader(
    rule: StepRule, text: str, cuts: set[int], limit: int
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for tokens in (
        list(text),
        [text[start:end] for start, end in zip(places, places[1:], strict=False)],
    ):
        vocabulary = ["", *dict.fromkeys(tokens)]
        automaton = OutsideFences(rule).automaton([token.encode() for token in vocabulary])
        ids = [vocabulary.index(token) for token in tokens]
        assert ends_by_automaton(automaton, ids, limit) == ends_of(rule, tokens, limit)


CODE = "Run:\n\n```py\na\n\nb\n```\n\nDone.\n\n"


def automaton_of(step: StepRule | str | int, text: str) -> tuple[Automaton, list[int]]:
    letters = ["", *sorted(set(text + "</think>"))]
    automaton = OutsideFences(step).automaton([letter.encode() for letter in letters])
    return automaton, [letters.index(letter) for letter in text]


def test_a_step_within_a_block_is_resumed_by_a_policy() -> None:
    automaton, ids = automaton_of("\n\n", CODE)
    rows = torch.tensor([ids, ids, ids])
    lengths = torch.tensor([0, CODE.index("a"), len(CODE)])
    starts = automaton.behind(rows, lengths)  # type: ignore[attr-defined]
    assert isinstance(automaton, FencedAutomaton)
    assert automaton.inside(starts).tolist() == [False, True, False]
    assert automaton.to(torch.device("cpu")).behind(rows, lengths).tolist() == starts.tolist()


@pytest.mark.parametrize("fence", [3, 4, MAX_FENCE, MAX_FENCE + 3])
def test_longer_fences_hold_shorter_ones(fence: int) -> None:
    text = f"{'~' * fence}\n~~\n\n{'~' * fence}\n\n"
    automaton, ids = automaton_of("\n\n", text)
    assert isinstance(automaton, FencedAutomaton)
    assert ends_by_automaton(automaton, ids, 99) == [len(text)]


def test_other_rules_read_all_tokens() -> None:
    class Own:
        def automaton(self, pieces: list[bytes]) -> Automaton:
            return Delimiter(";").automaton(pieces)

    text = "a;\n```\nb;\n```\nc;"
    automaton, ids = automaton_of(Own(), text)
    assert ends_by_automaton(automaton, ids, 99) == [2, text.index("c"), len(text)]
    assert automaton.vocab_size == len({*text, *"</think>"}) + 1
    whole, ids = automaton_of(WholeAnswer(), text)
    assert ends_by_automaton(whole, ids, 99) == []
    nested, ids = automaton_of(OutsideFences(TokenCount(2)), "a\n```;;")
    assert ends_by_automaton(nested, ids, 99) == [2]
    assert ends_by_automaton(nested.to(torch.device("cpu")), ids, 99) == [2]


def test_blocks_within_thinking_and_behind_it() -> None:
    text = "```\na\n\nb\n```\n\nSo\n```\n</think>\n\nAs:\n```\nc\n\nd\n```\n\n"
    letters = ["", *sorted(set(text))]
    rule = ThinkingRule(OutsideFences("\n\n"), OutsideFences("\n\n"), "</think>")
    automaton = rule.automaton([letter.encode() for letter in letters])
    assert isinstance(automaton, ThinkingAutomaton) and automaton.resumes
    ends = ends_by_automaton(automaton, [letters.index(letter) for letter in text], 99)
    assert ends == [text.index("So"), text.index("\n\nAs"), len(text)]


def test_what_cannot_be_kept_out_of_blocks() -> None:
    for wrong in ("", 0):
        with pytest.raises(InputError, match="Got"):
            OutsideFences(wrong)
    with pytest.raises(InputError, match="kept small. Got .* states; accepted"):
        OutsideFences(RegularExpression("[ab]{150}c"))
