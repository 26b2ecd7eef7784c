"""Networks that read a value at every token: a stack with a single linear output.

The architecture of Skywork-o1-Open-PRM, and of language models trained with the value head of TRL,
under its own weight names (`model.*`, `v_head.summary.*`), so that such checkpoints load without
the code that they carry. The head drops nothing out: that is for training.
"""

from typing import Any

from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaModel,
    LlamaPreTrainedModel,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2Model,
    Qwen2PreTrainedModel,
)
from transformers.modeling_outputs import TokenClassifierOutput

from llmsmc.errors import InputError
from llmsmc.models.pretrained.loading import Placement, load_config, loading_errors
from llmsmc.models.rewards.conventions.convention import load_with_head


class ValueHead(nn.Module):
    """The linear map from a hidden state to a value."""

    def __init__(self, hidden_size: int) -> None:
        """Make a head with random weights."""
        super().__init__()
        self.summary = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the value of each hidden state, in a last dimension of size 1."""
        value: Tensor = self.summary(hidden)
        return value


class Qwen2ForPrmModel(Qwen2PreTrainedModel):  # type: ignore[no-untyped-call]
    """Qwen2 with a value head."""

    config: Qwen2Config
    _keys_to_ignore_on_load_unexpected = [r"lm_head"]

    def __init__(self, config: Qwen2Config) -> None:
        """Build the model with random weights."""
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.v_head = ValueHead(config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_ids: Tensor | None = None, **settings: Any) -> TokenClassifierOutput:
        """Return the value at every position."""
        hidden = self.model(input_ids=input_ids, **settings).last_hidden_state
        return TokenClassifierOutput(logits=self.v_head(hidden))


class LlamaForPrmModel(LlamaPreTrainedModel):  # type: ignore[no-untyped-call]
    """Llama with a value head."""

    config: LlamaConfig
    _keys_to_ignore_on_load_unexpected = [r"lm_head"]

    def __init__(self, config: LlamaConfig) -> None:
        """Build the model with random weights."""
        super().__init__(config)
        self.model = LlamaModel(config)
        self.v_head = ValueHead(config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_ids: Tensor | None = None, **settings: Any) -> TokenClassifierOutput:
        """Return the value at every position."""
        hidden = self.model(input_ids=input_ids, **settings).last_hidden_state
        return TokenClassifierOutput(logits=self.v_head(hidden))


_BY_MODEL_TYPE: dict[str, tuple[Any, Any]] = {
    "qwen2": (Qwen2Config, Qwen2ForPrmModel),
    "llama": (LlamaConfig, LlamaForPrmModel),
}


def load_with_value_head(source: str, placement: Placement, convention: str) -> Any:
    """Load a checkpoint, which must have a value head, without the code that it carries.

    Raises:
        InputError: it has none, or its stack is none of those above.
    """
    with loading_errors(source):
        settings, _ = PreTrainedConfig.get_config_dict(source)
    model_type = settings.get("model_type")
    if model_type not in _BY_MODEL_TYPE:
        raise InputError(
            f"There is no network with a value head for this stack. Got {model_type!r} in "
            f"{source}; accepted: {', '.join(_BY_MODEL_TYPE)}."
        )
    config_class, cls = _BY_MODEL_TYPE[model_type]
    config = load_config(source, cls=config_class)
    return load_with_head(
        cls, source, placement, convention=convention, head="v_head", config=config
    )
