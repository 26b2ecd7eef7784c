"""One spelling for what looks alike, exact numbers, words and numerals."""

from fractions import Fraction

import pytest

from llmsmc.answer_text import bare, normalized, numeral, plain_number, words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-1,234.50", Fraction(-2469, 2)),
        (r"10,\!080", 10080),
        ("1{,}000", 1000),
        ("1 000 000", 1000000),
        (".5", Fraction(1, 2)),
        (r"\dfrac{-3}{4}", Fraction(-3, 4)),
        (r"\frac34", Fraction(3, 4)),
        ("1 4/5", Fraction(9, 5)),
        (r"1\frac{4}{5}", Fraction(9, 5)),
        (r"-137 \frac{1}{2}", Fraction(-275, 2)),
        (r"\$18.90", Fraction(189, 10)),
        (r"28\%", Fraction(28, 100)),
        ("\N{MINUS SIGN}3", -3),
        (r"106^\circ", 106),
        (r"\textbf{(073)}", 73),
        ("106\N{DEGREE SIGN}", 106),
        ("1/0", None),
        ("1,00", None),
        ("1 2", None),
        ("2x", None),
        ("1e5", None),
        ("--1", None),
        ("", None),
        ("\N{ARABIC-INDIC DIGIT ONE}", None),
    ],
)
def test_numbers(text: str, value: Fraction | int | None) -> None:
    assert plain_number(normalized(text)) == value


def test_rows_of_matrices_stay_apart() -> None:
    matrix = r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}"
    assert normalized(matrix) == r"\begin{pmatrix}-1/3\\2/3\end{pmatrix}"


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("$5$.", "5"),
        (r"\( x \)", "x"),
        ("$$", ""),
        ("$", "$"),
        ("18 dollars", r"18 \text{dollars}"),
        ("2 abc", "2 abc"),
        ("2\N{GREEK SMALL LETTER PI}", r"2\pi "),
    ],
)
def test_what_surrounds_an_answer(text: str, stripped: str) -> None:
    assert bare(text).strip() == stripped.strip()


def test_words_and_numerals() -> None:
    assert words(r"\text{east}") == words("East") == words(r"\textbf{(east)}") == "east"
    assert words("ab") is words(r"864 \mbox{ inches}^2") is words(r"\text{5}") is None
    assert numeral("52_8") == numeral("052_{8}") == numeral("52_{(8)}") == ("52", "8")
    assert numeral("52") is numeral("x_n") is None
