"""One spelling for what looks alike, exact numbers, words and numerals."""

import pytest

from llmsmc.grading.text import bare, normalized, numeral, words


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
    assert words("ab") == "ab"
    assert words("x") is words(r"864 \mbox{ inches}^2") is words(r"\text{5}") is None
    assert numeral("52_8") == numeral("052_{8}") == numeral("52_{(8)}") == ("52", "8")
    assert numeral("52") is numeral("x_n") is None
