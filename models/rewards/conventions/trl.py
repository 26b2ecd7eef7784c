r"""How token classifiers trained by the `PRMTrainer` of TRL read a solution.

The question, then each step and the separator, all of them encoded by themselves; no chat template.
The score of a step is the probability of label 1 at the last token of the separator behind it.

Reference: von Werra et al. (2020). TRL: transformer reinforcement learning. `PRMTrainer`.
"""

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerBase

from llmsmc.errors import InputError
from llmsmc.models.pretrained.loading import Placement
from llmsmc.models.rewards.conventions.convention import (
    PiecewiseConvention,
    load_with_head,
    not_a_reward_model,
)
from llmsmc.models.text.chat import checked_text
from llmsmc.models.text.vocabulary import neutralized

NUM_LABELS = 2  # 0: the step is wrong, 1: it is right


class TrlConvention(PiecewiseConvention):
    r"""Layout and head of token classifiers, such as TRL trains them.

    The separator is not stored with a checkpoint: that of TRL is "\n" where nothing else was said,
    that of the Qwen2.5-Math-PRM-0.2 models of Hugging Face is "\n\n".
    """

    head: ClassVar[str] = "score"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, separator: str = "\n") -> None:
        """Look the separator up in the tokenizer."""
        if not isinstance(separator, str) or not separator:
            raise InputError(
                f"The separator stands behind each step. Got {separator!r}; accepted: a string "
                "that is not empty, the one of the training."
            )
        self._tokenizer = tokenizer
        self._separator_ids = tuple(tokenizer.encode(separator, add_special_tokens=False))
        first = tokenizer.bos_token_id
        self._first_ids = () if first is None else (int(first),)
        super().__init__(self._encoded_question, self._encoded_step)

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return whether the model is a token classifier."""
        return architecture.endswith("ForTokenClassification")

    @classmethod
    def load(cls, source: str, placement: Placement) -> Any:
        """Load a checkpoint, which must have two labels."""
        model = load_with_head(
            AutoModelForTokenClassification, source, placement, convention="trl", head="score"
        )
        if model.config.num_labels != NUM_LABELS:
            raise not_a_reward_model(source, "trl", "score", f"{model.config.num_labels} labels")
        return model

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return log p / (1 - p) of label 1, from the logits."""
        logits: Tensor = model.score(hidden).float()
        return logits[:, 1] - logits[:, 0]

    def _encoded_question(self, question: str) -> tuple[int, ...]:
        question = checked_text(self._tokenizer, "question", question)
        ids = self._tokenizer.encode(question, add_special_tokens=False)
        return (*self._first_ids, *ids)

    def _encoded_step(self, step: str) -> tuple[int, ...]:
        text = neutralized(self._tokenizer, step.strip())
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return (*ids, *self._separator_ids)
