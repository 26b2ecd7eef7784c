"""How Skywork-o1-Open-PRM reads a solution.

The first token of a text, the question and a line break; then each step and a line break, all of
them encoded by themselves. The score of a step is the logistic function of the value that is read
at the line break behind it.

Reference: He et al. (2024). Skywork-o1 Open Series. SkyworkAI/skywork-o1-prm-inference.
"""

from typing import Any, ClassVar, Final

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llmsmc.errors import InputError
from llmsmc.models.pretrained.loading import Placement
from llmsmc.models.rewards.conventions.convention import (
    PiecewiseConvention,
    single_id,
)
from llmsmc.models.rewards.conventions.value_head import Qwen2ForPrmModel, load_with_value_head
from llmsmc.models.text.chat import checked_text
from llmsmc.models.text.vocabulary import neutralized

SEPARATOR: Final = "\n"


class SkyworkConvention(PiecewiseConvention):
    """Layout and head of Skywork-o1-Open-PRM.

    Line breaks within a step are part of it: a score is read behind the step only.

    Attributes:
        separator_id: the id behind each step, at which its score is read.
    """

    head: ClassVar[str] = "v_head"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look up the separator, and what a text starts with."""
        self.separator_id = single_id(tokenizer, "skywork", SEPARATOR)
        if tokenizer.bos_token is None:
            raise InputError(
                "The convention 'skywork' starts a text with its first token. Got a tokenizer "
                "without one (bos_token); accepted: that of the checkpoint."
            )
        self._first = str(tokenizer.bos_token)
        self._tokenizer = tokenizer
        super().__init__(self._encoded_question, self._encoded_step)

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return whether the model has the value head under the name of the checkpoints."""
        return architecture == Qwen2ForPrmModel.__name__

    @classmethod
    def load(cls, source: str, placement: Placement) -> Any:
        """Load a checkpoint, which must have the value head."""
        return load_with_value_head(source, placement, "skywork")

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return the values: the logistic function makes scores of them."""
        values: Tensor = model.v_head(hidden).float()
        return values[:, 0]

    def _encoded_question(self, question: str) -> tuple[int, ...]:
        question = checked_text(self._tokenizer, "question", question)
        return tuple(self._tokenizer.encode(self._first + question + SEPARATOR))

    def _encoded_step(self, step: str) -> tuple[int, ...]:
        text = neutralized(self._tokenizer, step.strip())
        return (*self._tokenizer.encode(text, add_special_tokens=False), self.separator_id)
