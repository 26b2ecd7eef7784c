r"""How Qwen2.5-Math-PRM reads a solution.

The chat template with a fixed system message, the question as the user, and as the assistant the
steps, each followed by the marker `<extra_0>` (which takes the place of the blank line between
them). The score of a step is the probability of label 1 at its marker.

Reference: Zhang et al. (2025). The lessons of developing process reward models in mathematical
reasoning.
"""

from functools import lru_cache
from typing import Any, Final

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2Config

from llmsmc.errors import InputError
from llmsmc.models.chat import chat_ids, checked_text, neutralized
from llmsmc.models.pretrained import Placement, loading_errors
from llmsmc.models.prm_head import NUM_LABELS, Qwen2ForProcessRewardModel

SYSTEM: Final = "Please reason step by step, and put your final answer within \\boxed{}."
MARKER: Final = "<extra_0>"

_STEPS_REMEMBERED: Final = 2**14


class QwenConvention:
    """Layout and head of Qwen2.5-Math-PRM and of models trained like it.

    Attributes:
        marker_id: the id at which a score is read.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look the marker up in the tokenizer."""
        ids = tokenizer.encode(MARKER, add_special_tokens=False)
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise InputError(
                f"The convention 'qwen' reads scores at {MARKER}. Got a tokenizer in which that is "
                f"{len(ids)} tokens; accepted: tokenizers that have it as one token."
            )
        self.marker_id = int(ids[0])
        self._tokenizer = tokenizer
        self.step_ids = lru_cache(_STEPS_REMEMBERED)(self._step_ids)

    @staticmethod
    def load(source: str, placement: Placement) -> Qwen2ForProcessRewardModel:
        """Load a checkpoint, which must have the two-label head."""
        with loading_errors(source):
            config = Qwen2Config.from_pretrained(source)
        if config.num_labels != NUM_LABELS:
            raise _not_a_reward_model(source, f"{config.num_labels} labels")
        model, info = placement.load(
            Qwen2ForProcessRewardModel,
            source,
            full_precision=("score",),
            config=config,
            output_loading_info=True,
        )
        if info["missing_keys"]:
            missing = ", ".join(sorted(info["missing_keys"])[:3])
            raise _not_a_reward_model(source, f"a checkpoint without {missing}")
        assert isinstance(model, Qwen2ForProcessRewardModel)
        return model

    def prefix_ids(self, question: str) -> tuple[int, ...]:
        """Return the ids of the chat up to where the first step begins."""
        question = checked_text(self._tokenizer, "question", question, markers=(MARKER,))
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        return chat_ids(self._tokenizer, messages)

    def _step_ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of a piece of the solution; markers written out in it are taken apart."""
        text = neutralized(self._tokenizer, text, markers=(MARKER,))
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return log p / (1 - p) of label 1, in single precision, from hidden states at markers.

        From the logits, not from the probabilities: these are 1 exactly for a difference of 7 in
        half precision.
        """
        logits: Tensor = model.score(hidden).float()
        return logits[:, 1] - logits[:, 0]


def _not_a_reward_model(source: str, got: str) -> InputError:
    return InputError(
        f"{source} is not a process reward model of the convention 'qwen'. Got {got}; accepted: "
        f"Qwen2 checkpoints with a head `score.*` of {NUM_LABELS} labels."
    )
