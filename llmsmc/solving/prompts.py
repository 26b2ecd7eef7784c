r"""System prompts by name, each of which asks for the final answer in ``\boxed{}``.

| name | what it is |
| --- | --- |
| `boxed` | the prompt of the model cards of Qwen2.5-Math: steps, and the answer in a box |
| `search-and-learn` | the prompt of Puri et al. (2025), arXiv 2502.01618 |
| `worked` | a paragraph for each calculation, a blank line between them, and one worked example |

The paper takes its prompt from Hugging Face's search-and-learn (`system_prompt` in
`src/sal/config.py`, Apache-2.0), as the code that is published with it does. The text is quoted to
the letter, because another text is another experiment.
"""

from collections.abc import Mapping
from typing import Final

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
    "worked": r"""Solve the problem step by step. Write each step as a short paragraph with one """
    r"""calculation, leave a blank line between steps, and put the final number in \boxed{}.

Example:

Problem: A box holds 12 pens. Tom buys 3 boxes and gives 8 pens to each of his 2 friends. """
    r"""How many pens does he have left?

Solution: Tom buys 3 * 12 = 36 pens.

He gives away 2 * 8 = 16 pens.

So he has 36 - 16 = 20 pens left.

The answer is \boxed{20}.""",
}
"""Name -> text."""


def system_prompt(name_or_text: str | None) -> str | None:
    r"""Return the prompt of a name; any other text is a prompt itself.

    >>> system_prompt("boxed")
    'Please reason step by step, and put your final answer within \\boxed{}.'
    >>> system_prompt("Be brief."), system_prompt(None)
    ('Be brief.', None)
    """
    return None if name_or_text is None else PROMPTS.get(name_or_text, name_or_text)
