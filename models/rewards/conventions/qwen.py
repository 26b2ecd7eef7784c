r"""How Qwen2.5-Math-PRM reads a solution.

The chat template with a fixed system message, the question as the user, and as the assistant the
steps, each followed by the marker `<extra_0>` (which takes the place of the blank line between
them). The score of a step is the probability of label 1 at its marker.

Reference: Zhang et al. (2025). The lessons of developing process reward models in mathematical
reasoning.
"""

from typing import Any, ClassVar, Final

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2Config

from llmsmc.models.pretrained.loading import Placement, load_config, require_chat_template
from llmsmc.models.rewards.conventions.convention import (
    PiecewiseConvention,
    load_with_head,
    not_a_reward_model,
    single_id,
)
from llmsmc.models.rewards.conventions.prm_head import NUM_LABELS, Qwen2ForProcessRewardModel
from llmsmc.models.text.chat import chat_ids, checked_text
from llmsmc.models.text.vocabulary import neutralized

SYSTEM: Final = "Please reason step by step, and put your final answer within \\boxed{}."
MARKER: Final = "<extra_0>"


class QwenConvention(PiecewiseConvention):
    """Layout and head of Qwen2.5-Math-PRM and of models trained like it.

    Attributes:
        marker_id: the id at which a score is read.
    """

    head: ClassVar[str] = "score"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look the marker up in the tokenizer."""
        self.marker_id = single_id(tokenizer, "qwen", MARKER)
        require_chat_template(tokenizer, tokenizer.name_or_path)
        self._tokenizer = tokenizer
        super().__init__(self._encoded_question, self._encoded_step)

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return whether the model has the two-label head under the name of the checkpoints."""
        return architecture == Qwen2ForProcessRewardModel.__name__

    @classmethod
    def load(cls, source: str, placement: Placement) -> Qwen2ForProcessRewardModel:
        """Load a checkpoint, which must have the two-label head."""
        config = load_config(source, cls=Qwen2Config)
        if config.num_labels != NUM_LABELS:
            raise not_a_reward_model(source, "qwen", "score", f"{config.num_labels} labels")
        model = load_with_head(
            Qwen2ForProcessRewardModel,
            source,
            placement,
            convention="qwen",
            head="score",
            config=config,
        )
        assert isinstance(model, Qwen2ForProcessRewardModel)
        return model

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return log p / (1 - p) of label 1, in single precision, from hidden states at markers.

        From the logits, not from the probabilities: these are 1 exactly for a difference of 7 in
        half precision.
        """
        logits: Tensor = model.score(hidden).float()
        return logits[:, 1] - logits[:, 0]

    def _encoded_question(self, question: str) -> tuple[int, ...]:
        """Return the ids of the chat up to where the first step begins."""
        question = checked_text(self._tokenizer, "question", question, markers=(MARKER,))
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        return chat_ids(self._tokenizer, messages)

    def _encoded_step(self, step: str) -> tuple[int, ...]:
        """Return the ids of a step and the marker; markers written out in it are taken apart."""
        text = neutralized(self._tokenizer, step.strip(), markers=(MARKER,))
        return (*self._tokenizer.encode(text, add_special_tokens=False), self.marker_id)
