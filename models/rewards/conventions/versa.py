r"""How VersaPRM reads a solution.

The question, then each step, followed by a marker of four line breaks; no chat template. The score
of a step is the probability of "+" against "-" as the token behind the marker, read at it.

What these models say behind a step that is wrong is extrapolated: they are trained up to there.

Reference: Zeng et al. (2025). VersaPRM: multi-domain process reward model via synthetic reasoning
data. arXiv 2502.06737.
"""

from typing import Final

from transformers import PreTrainedTokenizerBase

from llmsmc.models.rewards.conventions.convention import (
    LabelConvention,
    PiecewiseConvention,
    single_id,
)
from llmsmc.models.text.chat import checked_text
from llmsmc.models.text.vocabulary import neutralized

MARKER: Final = " \n\n\n\n"
GOOD, BAD = "+", "-"


class VersaConvention(PiecewiseConvention, LabelConvention):
    """Layout and labels of VersaPRM, and of Llama-PRM800K and Qwen-PRM800K beside it.

    Attributes:
        marker_id: the id behind each step, at which its score is read.
        label_ids: the tokens for right and wrong.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look the marker and the labels up in the tokenizer."""
        self.marker_id = single_id(tokenizer, "versa", MARKER)
        self.label_ids = (
            single_id(tokenizer, "versa", GOOD),
            single_id(tokenizer, "versa", BAD),
        )
        self._tokenizer = tokenizer
        super().__init__(self._encoded_question, self._encoded_step)

    def _encoded_question(self, question: str) -> tuple[int, ...]:
        question = checked_text(self._tokenizer, "question", question.strip())
        return tuple(self._tokenizer.encode(question.replace(MARKER, "\n\n") + " \n\n"))

    def _encoded_step(self, step: str) -> tuple[int, ...]:
        text = neutralized(self._tokenizer, step.strip()).replace(MARKER, "\n\n")
        return (*self._tokenizer.encode(text, add_special_tokens=False), self.marker_id)
