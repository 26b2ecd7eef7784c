r"""Answers in other forms than `\boxed{}`: each by name, in an order of preference."""

import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from llmsmc.errors import InputError
from llmsmc.grading.extraction import FORMS, extract_answer, last_number, phrased_answer
from llmsmc.grading.forms import NAMES, answer_forms
from llmsmc.models.reasoning.particles import EOS, LENGTH, MAX_STEPS
from tests.solutions import population

PHRASES: list[tuple[str, str | None]] = [
    ("The answer is 18.", "18"),
    ("The final answer is: $\\boxed{18}$. I hope it is correct.", "18"),
    ("**Final Answer:** 18 dollars", "18"),
    ("**Final Answer**: $1,200", "1,200"),
    ("Final Answer:\n\n18", "18"),
    ("ANSWER: 7", "7"),
    ("Answer = 12", "12"),
    ("the answer to the question is **42**", "42"),
    ("The answer would be 50%.", "50%"),
    ("The answer is -3.5, as asked.", "-3.5"),
    ("The answer is therefore 1,200 miles per hour", "1,200"),
    ("The answer is 3 hours and 20 minutes.", "3 hours and 20 minutes"),
    ("The answer is 5 or 7.", "5 or 7"),
    ("The answer is 100 m", "100 m"),
    ("The answer is 18 (since 3*6 = 18).", "18"),
    ("The answer is 18 a day, as 3*6 = 18.", "18"),
    ("The answer is 3 * 6 = 18 eggs.", "18"),
    ("The answer is 2 x 3 = 6", "6"),
    ("The answer is x = 5", "x = 5"),
    ("The answer is y = 2x + 3.", "y = 2x + 3"),
    ("The answer is x=3 or x=4.", "x=3 or x=4"),
    ("The answer is \\frac{1}{2}", "\\frac{1}{2}"),
    ("The answer is \\(\\frac{1}{2}\\).", "\\frac{1}{2}"),
    ("So, the answer is\n\n$$x^2$$", "x^2"),
    ("The answer is $18, not $20.", "18"),
    ("The answer is (B) because x is 3", "(B)"),
    ("The answer is B because", "B"),
    ("The answer is A number of things", None),
    ("The answer is yes.", "yes"),
    ("Answer: Tuesday", "Tuesday"),
    ("The answer is Tuesday", None),
    ("The answer is not 5.", None),
    ("The answer is that she has 18 eggs", None),
    ("The answer is: she has 18 eggs", None),
    ("The answer is 5.\nThe answer is easy.", "5"),
    ("The answer is 5. No, the answer is 6.", "6"),
    ("The answer is ...", None),
    ("I will say 'the answer is \\boxed{}'.", None),
    ("She answered 7 questions: 3 right", None),
    ("The answers are 3 and 5", None),
    ("18", None),
]


@pytest.mark.parametrize(("text", "answer"), PHRASES)
def test_sentences_that_name_an_answer(text: str, answer: str | None) -> None:
    assert phrased_answer(text) == answer
    assert phrased_answer(f"First, 3 + 4 = 7.\n\n{text}") == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She pays $1,200 - 50 in all.", "50"),
        ("10-3", "3"),
        ("it is -3.", "-3"),
        ("it is \u22123", "-3"),
        ("or -$5.50!", "-5.50"),
        ("(-5)", "-5"),
        ("50 %", "50 %"),
        ("3/4 of it", "3/4"),
        ("\\frac{3}{4}", "\\frac{3}{4}"),
        ("1,2,3", "3"),
        ("1,234 or 12,345.5", "12,345.5"),
        ("18 eggs of v2", "18"),
        ("x_1 and H2O", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_last_numbers(text: str, number: str | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("forms", "answer"),
    [
        ("boxed", "1"),
        ("hashes", "2"),
        ("phrase", "3"),
        ("last-number", "4"),
        ("phrase,boxed", "3"),
        ("boxed,phrase", "1"),
        ("last-number,boxed", "4"),
    ],
)
def test_the_first_form_that_gives_an_answer_counts(forms: str, answer: str) -> None:
    text = "\\boxed{1}\n#### 2\nThe answer is 3, and not 4"
    assert extract_answer(text, answer_forms(forms)) == answer
    bare = "So there are 4."
    assert extract_answer(bare, answer_forms(forms)) == ("4" if "last" in forms else None)


def test_by_default_boxes_and_hashes_count() -> None:
    assert extract_answer("The answer is 3") is None
    assert extract_answer("#### 2\nThe answer is 3") == "2"
    assert tuple(FORMS) == NAMES


@pytest.mark.parametrize("given", ["", "boxed,", "box", "boxed,boxed", (), ("boxed", 1), 3, [[]]])
def test_forms_that_are_none(given: Any) -> None:
    with pytest.raises(InputError, match="accepted: one or several of boxed, hashes, phrase, last"):
        answer_forms(given)


def test_the_last_number_of_a_text_that_was_cut_off_is_none_of_its_answers() -> None:
    texts = [["It is 3.\n\n", "So 5"], ["It is 3.\n\n", "Then 4"], ["Answer: 6\n\n", "Then 4"]]
    solutions = population(texts, num_cut_off=2)
    assert solutions.finish_codes.tolist() == [EOS, MAX_STEPS, MAX_STEPS]
    assert solutions.answers() == [None, None, None]
    for codes in ([EOS, MAX_STEPS, LENGTH], [EOS, 0, 0]):
        chosen = replace(
            population(texts),
            answer_forms=("phrase", "last-number"),
            finish_codes=torch.tensor(codes),
        )
        assert chosen.answers() == ["5", None, "6"]
        assert [each.answer for each in chosen] == ["5", None, "6"]
        assert chosen[[2, 0]].concatenate([chosen]).answers() == ["6", "5", "5", None, "6"]


HOSTILE = [
    *(
        "answer is ",
        "answer to ",
        "answer is: $",
        "1",
        "1,",
        "-",
        "$",
        "answer    ",
        "\\frac{",
        "1/",
    ),
    *("answer is 1/", "answer is *_", "answer:\n", "the answer is (A ", "answer is 1,111"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_reading_takes_time_in_proportion_to_the_text(piece: str) -> None:
    """A text of a megabyte takes a second or two; in proportion to its square it takes minutes."""
    begun = time.process_time()
    extract_answer(piece * (200_000 // len(piece)), NAMES)
    assert time.process_time() - begun < 2
