"""A process reward model: a Qwen2 stack whose head reads two labels at every token.

The architecture of Qwen2.5-Math-PRM under its own class name and weight names (`model.*`,
`score.0.*`, `score.2.*`), so that its checkpoints load without the code that they carry, and what
is trained here is saved in the same layout.
"""

from typing import Any

from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model, Qwen2PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

NUM_LABELS = 2  # 0: the step is wrong, 1: it is right


class Qwen2ForProcessRewardModel(Qwen2PreTrainedModel):  # type: ignore[no-untyped-call]
    """Qwen2 with the head Linear(h, h), ReLU, Linear(h, 2) on every hidden state."""

    config: Qwen2Config

    def __init__(self, config: Qwen2Config) -> None:
        """Build the model with random weights."""
        super().__init__(config)
        self.num_labels = NUM_LABELS
        self.model = Qwen2Model(config)
        self.score = nn.Sequential(
            nn.Linear(config.hidden_size, config.hidden_size),
            nn.ReLU(),
            nn.Linear(config.hidden_size, NUM_LABELS),
        )
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_ids: Tensor | None = None, **settings: Any) -> TokenClassifierOutput:
        """Return the logits of the two labels at every position; the loss is the trainer's."""
        hidden = self.model(input_ids=input_ids, **settings).last_hidden_state
        return TokenClassifierOutput(logits=self.score(hidden))
