r"""System prompts by name, each of which asks for the final answer in ``\boxed{}``.

| name | what it is |
| --- | --- |
| `boxed` | the prompt of the model cards of Qwen2.5-Math: steps, and the answer in a box |
| `search-and-learn` | the prompt of Puri et al. (2025), arXiv 2502.01618 |
| `worked` | a short paragraph for each calculation and nothing else, and two worked examples |

The paper takes its prompt from Hugging Face's search-and-learn (`system_prompt` in
`src/sal/config.py`, Apache-2.0), as the code that is published with it does. The text is quoted to
the letter, because another text is another experiment.
"""

import difflib
from collections.abc import Mapping
from typing import Final

from llmsmc.errors import InputError

PROMPTS: Final[Mapping[str, str]] = {
    "boxed": r"Please reason step by step, and put your final answer within \boxed{}.",
    "search-and-learn": r"""Solve the following math problem efficiently and clearly:

- For simple problems (2 steps or fewer):
Provide a concise solution with minimal explanation.

- For complex problems (3 steps or more):
Use this step-by-step format:

## Step 1: [Concise description]
[Brief explanation and calculations]

## Step 2: [Concise description]
[Brief explanation and calculations]

...

Regardless of the approach, always conclude with:

Therefore, the final answer is: $\boxed{answer}$. I hope it is correct.

Where [answer] is just the final number or expression that solves the problem.""",
    "worked": r"""You solve school math problems. Write a few short paragraphs with one """
    r"""calculation in each, blank lines between them, and nothing else: no introduction, no """
    r"""headings, no lists, no code. The last paragraph is the final number in \boxed{}.


Problem: A box holds 12 pens. Tom buys 3 boxes and gives 8 pens to each of his 2 friends. """
    r"""How many pens does he have left?
Tom buys 3 * 12 = 36 pens.

He gives away 2 * 8 = 16 pens.

He has 36 - 16 = 20 pens left.

\boxed{20}

Problem: Ann earns $15 an hour and works 6 hours a day on 4 days. She spends a third of the """
    r"""money on a bike. How many dollars are left?
Ann works 6 * 4 = 24 hours.

She earns 15 * 24 = 360 dollars.

The bike costs 360 / 3 = 120 dollars.

She has 360 - 120 = 240 dollars left.

\boxed{240}""",
}
"""Name -> text."""


def system_prompt(name_or_text: str | None) -> str | None:
    r"""Return the prompt of a name; any other text is a prompt itself.

    A word that nearly is a name is no prompt: a model would be told nothing but a misspelt word.

    >>> system_prompt("boxed")
    'Please reason step by step, and put your final answer within \\boxed{}.'
    >>> system_prompt("Be brief."), system_prompt(None)
    ('Be brief.', None)

    Raises:
        InputError: the text is a word without white space that nearly is a name.
    """
    if name_or_text is None:
        return None
    if name_or_text in PROMPTS:
        return PROMPTS[name_or_text]
    is_word = name_or_text.split() == [name_or_text]
    if is_word and difflib.get_close_matches(name_or_text.lower(), PROMPTS):
        raise InputError(
            f"A word that nearly is the name of a system prompt is not sent as one. Got "
            f"{name_or_text!r}; accepted: {', '.join(PROMPTS)}, or a text of several words."
        )
    return name_or_text
