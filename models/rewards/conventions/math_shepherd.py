r"""How Math-Shepherd reads a solution.

The question, a space, and the steps as lines "Step i: ... ки", encoded as one text. The score of a
step is the probability of "+" against "-" as the token behind the marker "ки", read at it.

Reference: Wang et al. (2024). Math-Shepherd: verify and reinforce LLMs step-by-step without human
annotations. arXiv 2312.08935.
"""

import re
from typing import Any, Final

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llmsmc.errors import InputError
from llmsmc.models.pretrained.loading import Placement
from llmsmc.models.rewards.conventions.convention import (
    Layout,
    label_log_odds,
    layout_of_text,
    load_language_model,
)
from llmsmc.models.text.chat import checked_text
from llmsmc.models.text.vocabulary import neutralized

MARKER: Final = "ки"
GOOD, BAD = "+", "-"

_NUMBERED: Final = re.compile(r"Step \d+:\s*")


class MathShepherdConvention:
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

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return that such a checkpoint looks like any language model."""
        return False

    @classmethod
    def load(cls, source: str, placement: Placement) -> Any:
        """Load a checkpoint, which is a language model."""
        return load_language_model(source, placement)

    def layout(self, question: str, steps: tuple[str, ...]) -> Layout:
        """Return the text of the question and the numbered steps, read at the markers."""
        text = self._clean(checked_text(self._tokenizer, "question", question)) + " "
        ends = list[int]()
        for number, step in enumerate(steps, start=1):
            content = _NUMBERED.sub("", self._clean(step.strip()), count=1)
            text += f"{chr(10) if ends else ''}Step {number}: {content} {MARKER}"
            ends.append(len(text))
        return layout_of_text(self._tokenizer, text, ends, special_tokens=True)

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return the log-odds of "+" against "-"."""
        return label_log_odds(model, hidden, *self.label_ids)

    def _clean(self, text: str) -> str:
        return neutralized(self._tokenizer, text, markers=(MARKER,))


def _label_id(tokenizer: PreTrainedTokenizerBase, label: str) -> int:
    """Return the id of a label after a space, as it follows the marker."""
    ids = tokenizer.encode(f"{MARKER} {label}", add_special_tokens=False)
    if str(tokenizer.decode(ids[-1:])).strip() != label:
        raise InputError(
            f"The convention 'math-shepherd' reads the label {label!r}. Got a tokenizer that has "
            "no token for it; accepted: that of the checkpoint."
        )
    return int(ids[-1])
