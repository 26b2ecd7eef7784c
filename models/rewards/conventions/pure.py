r"""How PURE-PRM reads a solution.

The layout of a token classifier: the question, then each step and a line break. The value of a step
is $v = p_1 - p_0$ in [-1, 1], for the probabilities of the two labels at the line break; it is no
probability. The link is $r = (v + 1) / 2$, which is $p_1$: right steps have $v > 0$, $r > 1/2$.

Reference: Cheng et al. (2025). Stop summation: min-form credit assignment is all process reward
model needs for reasoning. arXiv 2504.15275.
"""

from transformers import PreTrainedTokenizerBase

from llmsmc.models.rewards.conventions.trl import TrlConvention


class PureConvention(TrlConvention):
    """Layout, head and link of PURE-PRM: log (1 + v) / (1 - v) is log p_1 / p_0."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look the separator up in the tokenizer."""
        super().__init__(tokenizer, separator="\n")

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return that such a checkpoint looks like any token classifier, which scores it alike."""
        return False
