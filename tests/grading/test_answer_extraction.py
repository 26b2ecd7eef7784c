r"""What of a text is its answer: boxes that are filled, boxes without braces, and `####` lines."""

import time

import pytest

from llmsmc.grading.extraction import boxed_answer, extract_answer, gives_answer

MENTIONED = [
    *("", " ", "...", ".", "?", "??", r"\,", "~", "{}", "$ $", "___", r"\_\_\_", "--"),
    *(r"\ldots", r"\dots", r"\cdots", "\u2026", r"\quad", r"\square", r"\phantom{00}", r"\text{ }"),
    *(r"\hspace{1cm}", r"\underline{\hspace{2em}}", r"\rule{1cm}{0.4pt}", r"\boxed{}", r"\text{?}"),
    *("answer", "Answer", "ANSWER", "your answer", r"\text{answer}", r"\text{your answer}"),
    *(r"\textbf{final answer}", "the answer", "<answer>", "[answer]", "{answer}", "'answer'"),
    *(r"\text{your final answer here}", r"final\_answer", "your_answer", "answer here", "result"),
    *(r"\text{insert answer here}", "the final result", r"\mathrm{ans}", "number", "#1", "value"),
    *("solution", "your choice", r"\langle\text{answer}\rangle", "placeholder", "put it here"),
    *(
        r"\cdot",
        r"\bullet",
        "(?)",
        "[...]",
        "[ ]",
        "integer answer",
        "correct option",
        r"\text{TBD}",
        "answer letter",
        "LETTER",
        r"\ ",
        r"\text{your final answer as a single integer}",
        "answer in simplest form",
    ),
]
"""Contents of boxes that hold the place of an answer."""

ANSWERS = [
    *("x", "N", "A", "0", "-", "<", ">=", "5?", ".5", "()", r"\{\}", r"\emptyset", r"\varnothing"),
    *(r"\text{no}", r"\text{none}", r"\text{no solution}", "Yes", r"\text{Answer A}", "answer: 5"),
    *(r"2, 4, \ldots, 100", r"\text{option B}", r"\text{integer}", r"\pi", "a.b", "XXX", "n/a"),
    *(
        r"\text{The answer is } 5",
        r"0.\overline{3}",
        r"\square ABC",
        "number 7",
        r"\text{blank verse}",
    ),
]
"""Contents of boxes that are answers, however little they say."""


@pytest.mark.parametrize("content", MENTIONED)
def test_a_box_that_is_only_mentioned_is_no_answer(content: str) -> None:
    mention = rf"I will put the final answer in $\boxed{{{content}}}$."
    assert extract_answer(mention) is None and not gives_answer(mention)
    assert extract_answer(rf"{mention} So \boxed{{4}}. {mention}") == "4"
    assert extract_answer(f"{mention}\n#### 4\n{mention}") == "4"


@pytest.mark.parametrize("content", ANSWERS)
def test_a_box_that_says_little_is_an_answer(content: str) -> None:
    text = rf"First \boxed{{4}}, in the end \boxed{{{content}}}."
    assert extract_answer(text) == content and gives_answer(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"$\boxed{N}$, where $N$ is the number of ways", None),
        (r"as \boxed{n} (where n denotes a count). Then \boxed{4}", "4"),
        (r"\boxed{\text{X}} where X stands for it", None),
        (r"\boxed{C} where the lines meet", "C"),
        (r"\boxed{k\pi} where k is whole", r"k\pi"),
        (r"**\boxed{4}**", "4"),
        (r'"\boxed{4}"', "4"),
        (r"`\boxed{4}`", "4"),
        (r"> $$\boxed{4}$$", "4"),
        (r"\[ \boxed{4} \]", "4"),
        (r"\fbox{7}", "7"),
        (r"\framebox[3cm][c]{7}", "7"),
        (r"\framebox{7}, or \fbox{}", "7"),
        (r"\\boxed{7}", "7"),
        (r"1\\\boxed{7}", "7"),
        ("\\boxed\n{7}", "7"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{\boxed 3}", "3"),
        (r"\boxed{\boxed{3} \boxed{}}", "3"),
        (r"\boxed{4} and \boxed{5", "4"),
        (r"\boxed{5", None),
        (r"{\boxed{5}", "5"),
        (r"\boxed{5\}", None),
        (r"<think>maybe \boxed{4}</think> So \boxed{5}", "5"),
        (r"<think>so \boxed{4}</think> I will put it in \boxed{}", "4"),
        (r"print(f'\\boxed{{{answer}}}') gives \boxed{12}", "12"),
        (r"print(f'\\boxed{{{answer}}}')", None),
        (r"\boxed{42}<|im_end|>", "42"),
        ("```\n\\boxed{5}\n```", "5"),
        (r"$\boxed{\{1, \{2\}\}}$", r"\{1, \{2\}\}"),
        (r"\boxedx{5}", None),
        (r"\fboxsep{5}", None),
    ],
)
def test_where_boxes_stand(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed 2", "2"),
        (r"\boxed7", "7"),
        (r"\boxed\frac12", r"\frac12"),
        (r"\boxed\pi", r"\pi"),
        (r"$\boxed 12$.", "12"),
        (r"\boxed -3", "-3"),
        (r"\boxed 3.5.", "3.5"),
        (r"\boxed 1,000 in all", "1,000"),
        (r"\boxed 3, 4", "3"),
        (r"\boxed 3/4", "3/4"),
        (r"\boxed 50\%", r"50\%"),
        (r"\boxed 2\pi", r"2\pi"),
        (r"\boxed 5x^2+3", "5x^2"),
        (r"\boxed\frac{\sqrt{3}}{2}", r"\frac{\sqrt{3}}{2}"),
        (r"\boxed\dfrac 1 2", r"\dfrac 1 2"),
        (r"\boxed\sqrt2", r"\sqrt2"),
        (r"\boxed\sqrt[3]{2}", r"\sqrt[3]{2}"),
        (r"\boxed\text{no}", r"\text{no}"),
        (r"\boxed\infty", r"\infty"),
        (r"\boxed\emptyset", r"\emptyset"),
        (r"\boxed(1,2)", "(1,2)"),
        (r"\boxed\left(1,2\right)", r"\left(1,2\right)"),
        (r"\boxed\{1,2\}", r"\{1,2\}"),
        (r"$\boxed x$", "x"),
        (r"\boxed A.", "A"),
        (r"\boxed $12$", "$12$"),
        (r"\boxed \$12.50", r"\$12.50"),
        (r"$\boxed$ and $5$", None),
        (r"\fbox 7", "7"),
        (r"\boxed 1 or \boxed 2", "2"),
        (r"\boxed{4}, as \boxed was asked for", "4"),
        (r"in \boxed.", None),
        (r"use \boxed a lot", None),
        (r"use \boxed and go on", None),
        (r"use \boxed (see below)", None),
        (r"`\boxed`: 5", None),
        ("in \\boxed\n\n4 apples", None),
        ("in \\boxed\n4 apples", None),
        (r"in \boxed\nThen", None),
        (r"\boxed\ldots", None),
        (r"\boxed\text{answer}", None),
        (r"\boxed\frac1", None),
        (r"\boxed\frac", None),
        (r"\boxed", None),
        (r"\boxed ", None),
        (r"\boxed?", None),
    ],
)
def test_boxes_without_braces(text: str, answer: str | None) -> None:
    assert boxed_answer(text) == extract_answer(text) == answer


def test_what_may_go_on_gives_no_answer_yet() -> None:
    assert [gives_answer(text) for text in (r"\boxed 1", r"\boxed\pi", r"\boxed{1", "#### 1")] == [
        False
    ] * 4
    assert [gives_answer(text) for text in (r"\boxed 1$", "\\boxed\\pi\n", r"\boxed{1}")] == [
        True
    ] * 3
    assert gives_answer(r"So \boxed{4}. I was to use \boxed{}")


HEADINGS = [
    *("Conclusion", "Step 2: add", "3. Multiply", "1) Find the sum", "2.1 Solving for x", "Part A"),
    *("**Conclusion**", "__Step__", "A closer look", "To conclude", "IV. Results", "A. Overview"),
    *(
        "Case 1: x > 0",
        "Why?",
        "\u2705 Checking",
        "\U0001f539 Step 1",
        "\u7ed3\u8bba",
        "\u0428\u0430\u0433 2",
    ),
    *(
        "Final Answer",
        "**Answer:**",
        "Answer key",
        "Total: 5",
        "$x$ is positive",
        "Conclusion ####",
    ),
    *("(1) Compute it", "(a) Find it", "Q1: Find it", "2 - Multiply it", "1: Add", "1. **Add**"),
    *("", "...", "?", "---", "your answer", r"\boxed{}", r"**\boxed{...}**"),
]

LINES = {
    **{"$5 + $3 = $8": "$5 + $3 = $8", "5 apples + 3 pears = 8": "5 apples + 3 pears = 8"},
    **{"18 \u2705": "18", '"18"': "18", "2 and a half": "2 and a half"},
    **{"Result: 18": "18", "18 and that is all": "18"},
    **{"72 clips, altogether.": "72", "**18**": "18", "__18__": "18", "`18`": "18", "*18*": "18"},
    **{"18 ####": "18", "18.": "18", "**72** clips": "72", "72 clips in 2 months": "72"},
    **{"$1,200": "1,200", "$1,200 in all": "1,200", "-$5": "-5", "$-5": "-5", "$18$ dollars": "18"},
    **{"\u20ac5": "5", "5 \u20ac": "5", "\u00a33.50 each": "3.50", "Rs. 500": "500", r"\$7": "7"},
    **{
        "-5 degrees": "-5",
        "\N{MINUS SIGN}3": "\N{MINUS SIGN}3",
        ".5": ".5",
        "50%": "50%",
        "5% off": "5%",
    },
    **{
        "3/4 of it": "3/4",
        "1 1/2 cups": "1 1/2",
        "5 km/h": "5",
        "= 18": "18",
        "1 000 clips": "1 000",
        "1200 (twelve hundred)": "1200",
    },
    **{"Answer: 18": "18", "**Final Answer:** 18": "18", "The answer is 18 dollars.": "18"},
    **{"\u2705 Final Answer: 18": "18", "Answer: Monday": "Monday", "so the answer is x": "x"},
    **{"yes": "yes", "No.": "No.", "A": "A", "(B)": "(B)", r"\text{no}": r"\text{no}", "x": "x"},
    **{"x = 5": "x = 5", r"\frac{1}{2}": r"\frac{1}{2}", "pi/2": "pi/2", "sqrt(2)": "sqrt(2)"},
    **{"5, 7": "5, 7", "5 or 7": "5 or 7", "5 and 7": "5 and 7", "3:00 PM": "3:00 PM"},
    **{"10 pm": "10 pm", "3 hours 20 minutes": "3 hours 20 minutes", "3 million": "3 million"},
    **{
        "2 pi": "2 pi",
        "2**3": "2**3",
        "2x + 3": "2x + 3",
        "5 x 10^3": "5 x 10^3",
        "12 - 5": "12 - 5",
    },
}
"""What may stand behind the hashes, and what of it is the answer."""


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_no_answer(heading: str) -> None:
    assert extract_answer(f"#### {heading}\nThen.") is None
    assert extract_answer(f"#### 5\n#### {heading}\nThen.") == "5"


@pytest.mark.parametrize(("line", "answer"), LINES.items())
def test_an_answer_behind_hashes(line: str, answer: str) -> None:
    assert extract_answer(f"#### Step 1\nwork\n#### {line}") == answer
    assert extract_answer(f"#### 4\r\n####{line}\r\nThen.") == answer


@pytest.mark.parametrize("line", ["**#### 18**", "> #### 18", " #### 18"])
def test_marks_around_hashes(line: str) -> None:
    assert extract_answer(line) == "18"
    assert extract_answer(line.replace("####", "#####")) is None


UNITS = [
    *(
        r"\boxed{",
        r"\boxed",
        r"\boxed ",
        r"\boxed 1",
        r"\boxed\frac{",
        r"\boxed\frac{}{",
        r"\boxed{}",
    ),
    *(
        r"\boxed{x} where ",
        r"\boxed(",
        r"\boxed\left(",
        r"\boxed x ",
        r"\framebox[",
        "\\",
        "{",
        "}",
    ),
    *(
        "#### ",
        "####a\n",
        "#### 1,",
        "\u2705",
        "**",
        "1",
        "1,000",
        "1.",
        " ",
        "_",
        "answer ",
        "so ",
        r"\text{",
    ),
]


def test_a_text_is_read_once() -> None:
    """It takes moments, and minutes by nested scans."""
    for unit in UNITS:
        for before in ("", r"\boxed ", "#### ", "#### 1 ", "#### answer"):
            text = before + unit * (10_000 // len(unit))
            start = time.process_time()
            extract_answer(text)
            gives_answer(text)
            assert time.process_time() - start < 1.0, (before, unit)
