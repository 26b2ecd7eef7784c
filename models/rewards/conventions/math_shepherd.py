r"""How Math-Shepherd reads a solution.

The question, a space, and the steps as lines "Step i: ... ки", encoded as one text. The score of a
step is the probability of "+" against "-" as the token behind the marker "ки", read at it.

Reference: Wang et al. (2024). Math-Shepherd: verify and reinforce LLMs step-by-step without human
annotations. arXiv 2312.08935.
"""

from typing import Final

from transformers import PreTrainedTokenizerBase

from llmsmc.errors import InputError
from llmsmc.models.rewards.conventions.convention import (
    LabelConvention,
    Layout,
    numbered_layout,
)
from llmsmc.models.text.chat import checked_text
from llmsmc.models.text.vocabulary import neutralized

MARKER: Final = "ки"
GOOD, BAD = "+", "-"


class MathShepherdConvention(LabelConvention):
    """Layout and labels of math-shepherd-mistral-7b-prm.

    Steps that are not numbered yet ("Step 1: ...") are numbered.

    Attributes:
        label_ids: the tokens for right and wrong.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look the marker and the labels up in the tokenizer."""
        self._tokenizer = tokenizer
        # By itself a label would be encoded behind the space that some tokenizers put first, which
        # may be a token of its own.
        self.label_ids = (_label_id(tokenizer, GOOD), _label_id(tokenizer, BAD))

    def layout(self, question: str, steps: tuple[str, ...]) -> Layout:
        """Return the text of the question and the numbered steps, read at the markers."""
        text = checked_text(self._tokenizer, "question", question)
        prompt = neutralized(self._tokenizer, text, markers=(MARKER,)) + " "
        return numbered_layout(self._tokenizer, prompt, steps, MARKER, special_tokens=True)


def _label_id(tokenizer: PreTrainedTokenizerBase, label: str) -> int:
    """Return the id of a label after a space, as it follows the marker."""
    ids = tokenizer.encode(f"{MARKER} {label}", add_special_tokens=False)
    if str(tokenizer.decode(ids[-1:])).strip() != label:
        raise InputError(
            f"The convention 'math-shepherd' reads the label {label!r}. Got a tokenizer that has "
            "no token for it; accepted: that of the checkpoint."
        )
    return int(ids[-1])
