r"""How the process Q-value models (PQM) read a solution.

A prompt with the question, and the steps as lines "Step i: ... [PRM]", encoded as one text. What is
read at the marker `[PRM]` is a value, any real number, and no probability. The link is that of its
definition as the logit of success, $Q = \sigma^{-1}(P(\text{the answer will be right}))$: the score
is $r = \sigma(Q)$. It is trained by ranking, so that its order means more than its size; calibrate
it where the size counts.

Reference: Li, Li (2025). Process reward model with Q-value rankings. arXiv 2410.11287.
"""

from typing import Any, ClassVar, Final

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llmsmc.models.pretrained.loading import Placement
from llmsmc.models.rewards.conventions.convention import Layout, numbered_layout, single_id
from llmsmc.models.rewards.conventions.value_head import load_with_value_head
from llmsmc.models.text.chat import checked_text

MARKER: Final = "[PRM]"
PROMPT: Final = (
    "Below is an instruction that describes a task.\n"
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response: Let's think step by step\n"
)


class PqmConvention:
    """Layout, head and link of PQM; steps that are not numbered yet are numbered."""

    head: ClassVar[str] = "v_head"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look the marker up in the tokenizer."""
        single_id(tokenizer, "pqm", MARKER)
        self._tokenizer = tokenizer

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return whether the tokenizer has the marker."""
        return MARKER in tokenizer.get_vocab()

    @classmethod
    def load(cls, source: str, placement: Placement) -> Any:
        """Load a checkpoint, which must have a value head."""
        return load_with_value_head(source, placement, "pqm")

    def layout(self, question: str, steps: tuple[str, ...]) -> Layout:
        """Return the text of the prompt and the numbered steps, read at the markers."""
        question = checked_text(self._tokenizer, "question", question, markers=(MARKER,))
        prompt = PROMPT.replace("{question}", question)
        return numbered_layout(self._tokenizer, prompt, steps, MARKER, special_tokens=False)

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return the Q-values, which are the logits of success."""
        values: Tensor = model.v_head(hidden).float()
        return values[:, 0]
