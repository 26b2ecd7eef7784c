"""Values of expressions: exact, within bounds, and the same from any thread."""

import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest

from llmsmc.grading.grammar import MAX_DEPTH, Unreadable, read
from llmsmc.grading.values import Value, is_equal, value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("-1,234.50", Fraction(-2469, 2)),
        (r"10,\!080", 10080),
        (".5", Fraction(1, 2)),
        (r"\dfrac{-3}{4}", Fraction(-3, 4)),
        (r"\frac34", Fraction(3, 4)),
        ("1 4/5", Fraction(9, 5)),
        (r"-137 \frac{1}{2}", Fraction(-275, 2)),
        (r"\$18.90", Fraction(189, 10)),
        (r"28\%", Fraction(28, 100)),
        ("\N{MINUS SIGN}3", -3),
        (r"106^\circ", 106),
        ("106\N{DEGREE SIGN}", 106),
        (r"\textbf{(073)}", 73),
        ("1e5", 100000),
        ("--1", 1),
        (r"\frac{1}{20!}", Fraction(1, 2432902008176640000)),
        (r"2^{-60}", Fraction(1, 2**60)),
        (r"\binom{60}{30}", 118264581564861424),
        (r"0.1\overline{6}", Fraction(1, 6)),
        (r"\left|-3\right| + \lfloor 2.5 \rfloor", 5),
        (r"\gcd(12, 18)", 6),
    ],
)
def test_fractions_are_exact(text: str, expected: Fraction | int) -> None:
    assert value(read(text)).at_points == (expected,)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1/0", "0^0", "0^{-1}", r"\ln 0", r"\tan 90^\circ", r"\infty-\infty", "1 2", "2 +"),
        *("9^{9^{9^{9}}}", "9^{9^9}", "2^{10000000000}", "10000000!", "((9!)!)!", "10^{10^{10}}+1"),
        *(
            r"\binom{10000000000}{5000000000}",
            r"\sin(10^{100000})",
            "1e999999999",
            r"e^{e^{e^{e}}}",
        ),
        *(
            r"\exp(10^{10})",
            r"2^{2^{100}}",
            "(1,2)",
            r"\text{no}+1",
            r"\R",
            "1,2",
            "x^{x^{x^{9^9}}}",
        ),
        *("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), "2" + "*2" * 120, "1" + "!" * 200),
    ],
)
def test_what_has_no_value_or_too_long_a_one(text: str) -> None:
    start = time.process_time()
    with pytest.raises(Unreadable):
        value(read(text))
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    "text",
    [
        r"3^{60000}-2^{120000}",
        "+".join(["x^{99}/7^{99}"] * 18),
        "*".join(["(x+y)^{999}"] * 22),
        r"\frac{1}{" * 10 + "x" + "}" * 10,
        "10000!/9999!",
        r"\binom{300}{150}^{9}",
        "1" * 250,
        "+".join(["100!/99!"] * 28),
    ],
)
def test_large_expressions_take_moments(text: str) -> None:
    start = time.process_time()
    value(read(text))
    assert time.process_time() - start < 2.0


def test_values_do_not_depend_on_the_thread() -> None:
    trees = [read(rf"\sqrt{{{n}}} + \ln {n + 2} + \sin(x + {n})") for n in range(8)]

    def fresh(index: int) -> Value:
        return value.__wrapped__(trees[index % 8])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fresh, range(32)))
    assert all(is_equal(found[index], found[index % 8]) for index in range(32))
    assert not any(is_equal(found[0], found[index]) for index in range(1, 8))
