r"""How PURE-PRM reads a solution.

The layout of a token classifier: the question, then each step and a line break. The value of a step
is $v = p_1 - p_0$ in [-1, 1], for the probabilities of the two labels at the line break; it is no
probability. The link is $r = (v + 1) / 2$, which is $p_1$: right steps have $v > 0$, $r > 1/2$.

Reference: Cheng et al. (2025). Stop summation: min-form credit assignment is all process reward
model needs for reasoning. arXiv 2504.15275.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llmsmc.models.pretrained.loading import Placement
from llmsmc.models.rewards.conventions.convention import PiecewiseConvention
from llmsmc.models.rewards.conventions.trl import TrlConvention


class PureConvention(PiecewiseConvention):
    """Layout, head and link of PURE-PRM."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look the separator up in the tokenizer."""
        self._classifier = TrlConvention(tokenizer, separator="\n")
        super().__init__(self._classifier.prefix_ids, self._classifier.piece_ids)

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return that such a checkpoint looks like any token classifier, which scores it alike."""
        return False

    @classmethod
    def load(cls, source: str, placement: Placement) -> Any:
        """Load a checkpoint, which must have two labels."""
        return TrlConvention.load(source, placement)

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return log (1 + v) / (1 - v), which is log p_1 / p_0."""
        return self._classifier.log_odds(model, hidden)
