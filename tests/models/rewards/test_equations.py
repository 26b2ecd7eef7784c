"""Arithmetic that is written out in solutions, as models write it."""

import re
import time

import pytest

from llmsmc.errors import InputError
from llmsmc.models.rewards.arithmetic_reward import ArithmeticReward
from llmsmc.models.rewards.equations import equations

RIGHT = [
    r"\[ 8 \times 1.5 = 12 \text{ pounds} \]",
    r"\text{Speed} = \frac{1200 \text{ miles}}{3 \text{ hours}} = 400 \text{ miles per hour}",
    r"\frac{3}{4} \times 240 \text{ pounds/hour} = 180 \text{ pounds}",
    "He has $100 - $72 = $28 left.",
    "10/3 = 3.33",
    "20/3 = 6.67",
    "10/3 ≈ 3",
    r"\frac{10}{3} \approx 3.3",
    "20% of 50 = 10",
    "50% * 80 = 40",
    "25/100 = 25%",
    "30/120 * 100 = 25%",
    "5 + 7 = 12 * 3 = 36",
    "1. 5 + 2 = 7",
    "- 5 + 2 = 7",
    "1,200 + 300 = 1,500",
    r"5 \cdot 3^2 = 45",
    "3 x 4 = 12",
    "3x4=12",
    "3 times 4 equals 12",
    "12 divided by 4 = 3",
    "5 million * 2 = 10 million",
    r"4 + 5 = \boxed{9}",
    "(15 + 5) / 4 = 5 apples per child",
    "15 cups/hour × 6 hours = 90 dollars",
    "33.33 * 3 = 100",
    r"5 \times 10^{3} = 5000",
    "5 - (-3) = 8",
    "2(3 + 4) = 14",
    "The 20 children eat 20 * 2 = 40 apples",
    "13 – 5 = 8",
    "each of them gets 24 / 4 = 6 of the apples",
]
WRONG = [
    r"\[ 8 \text{ pounds} \times 1.50 = 13 \text{ pounds} \]",
    r"\text{Speed} = \frac{1200 \text{ miles}}{3 \text{ hours}} = 300 \text{ miles per hour}",
    "7 + 12 + 15 = 35",
    "He has $100 - $72 = $38 left.",
    "10/3 = 3.34",
    "10/3 = 3",
    "20% of 50 is 0.2*50 = 12",
    "Step 1: 5 + 2 = 8",
    "**Total**: 5 + 3 = **9**",
    "15 + 5 / 4 = 5",
    r"4 + 5 = \boxed{10}",
    r"\begin{align*} a &= 5 + 3 \\ &= 9 \end{align*}",
    "There were 82 – 13 = 71 teachers",
    r"\(10 \times 100,000 = 100,000\) dollars",
    "She works 4 hours a day, so 8*4 = 42 hours",
    "3 times 4 equals 13",
    "6 + 15 = 31 cents",
]
NOTHING = [
    "3x + 5 = 20",
    "x + 5 + 2 = 8",
    "2 x + 3 = 7",
    "f(3) + 2 = 7",
    "4! - 20 + 6 = 10",
    "5 squared + 2 = 27",
    "1/0 = 5",
    "2^999999999 = 5",
    f"{'9' * 400} * 2 = 3",
    f"{'(' * 200}1 + 1{')' * 200} = 3",
    "3 * 60 minutes = 3 hours",
    "4 * 25 cents = $1",
    "2 hours + 30 minutes = 2.5 hours",
    "Drop 8 degrees = 2 - 8",
    "The 8th grade has 3 + 4 = x pupils",
    "a = 5",
    "17 mod 5 + 1 = 3",
    "__import__('os').system('true') = 5 + 5",
    "",
]


def verdicts(text: str) -> set[bool | None]:
    return {each.holds for each in equations(text)}


@pytest.mark.parametrize("text", RIGHT)
def test_right(text: str) -> None:
    assert verdicts(text) == {True}


@pytest.mark.parametrize("text", WRONG)
def test_wrong(text: str) -> None:
    assert False in verdicts(text)


@pytest.mark.parametrize("text", NOTHING)
def test_nothing_that_can_be_told(text: str) -> None:
    assert False not in verdicts(text)


def test_each_equation_by_itself() -> None:
    found = equations(
        r"so \(2 \times 8 = 16\) dollars and \(4 \times 16 = 65\) dollars, 1 + 1 = 2."
    )
    assert [(each.left, each.right, each.holds) for each in found] == [
        ("2 * 8", "16 dollars", True),
        ("4 * 16", "65 dollars", False),
        ("1 + 1", "2", True),
    ]


@pytest.mark.parametrize(
    "piece", ["(", "1+", "\\frac{", "1=", "<<", "a/", "- ", "\\\\ ", "1,000", "=\n"]
)
def test_long_texts_take_no_time(piece: str) -> None:
    begun = time.process_time()
    equations(piece * 50_000)
    assert time.process_time() - begun < 2


def test_the_reward() -> None:
    steps = ["Let us see.", "3 + 4 = 7", "7 * 2 = 15"]
    assert ArithmeticReward().score("?", steps) == [1, 1, 0.01]
    reward = ArithmeticReward(wrong=0.0)
    assert reward.score("?", steps) == [1, 1, 0] and not reward.never_zero
    assert re.fullmatch("arithmetic:wrong=0", reward.name)
    with pytest.raises(InputError, match="wrong is a fraction"):
        ArithmeticReward(wrong=2)
