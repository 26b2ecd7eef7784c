"""A token classifier with two labels on a language model: a head, and an adapter below it.

The layout is that of TRL (`llmsmc.models.rewards.conventions.trl`), under which `RewardModel` reads
the result. No logits over the vocabulary are computed: the head reads hidden states at the ends of
steps.

Reference of the adapter: Hu et al. (2022). LoRA: low-rank adaptation of large language models.

Shapes: B solutions, L tokens, R steps that are read, D width of the hidden states.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from llmsmc.core.extras import optional
from llmsmc.errors import InputError
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.pretrained.packing import unpack
from llmsmc.models.rewards.conventions.convention import Layout
from llmsmc.models.rewards.conventions.trl import NUM_LABELS, TrlConvention

HEAD: Final = "score"


class Classifier:
    """A language model's layers with a head of two labels.

    Attributes:
        base: the layers, with the adapter if there is one.
        head: the two logits of a hidden state, in single precision.
        convention: how solutions are laid out.
    """

    def __init__(self, model: LanguageModel, *, rank: int, seed: int) -> None:
        """Put a head, and an adapter of that rank on the upper half of the layers, on a model.

        The layers of the model become those of the classifier. Rank 0 stands for no adapter.

        Raises:
            InputError: the model is quantised, and an adapter could not be merged; or there is no
                token classifier of its architecture.
            MissingExtraError: the package peft is not installed.
        """
        if rank and model.quantization is not None:
            raise InputError(
                "The adapter is merged into the weights, which quantised weights would round. Got "
                f"quantization {model.quantization!r}; accepted: none, or --method probe."
            )
        self._model = model
        unpack(model.model)
        self.convention = TrlConvention(model.tokenizer)
        self._classifier = _without_weights(model)
        self.context_length = model.context_length
        base: Any = model.model.base_model
        base.requires_grad_(False)
        width = model.model.config.get_text_config().hidden_size
        self.head = nn.Linear(width, NUM_LABELS, device=model.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.base, self._adapted = base, None
        if rank:
            self._adapted = _with_lora(base, model.model.config.get_text_config(), rank, seed)
            self.base = self._adapted

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        named = {f"{HEAD}.{name}": each for name, each in self.head.named_parameters()}
        if self._adapted is not None:
            named |= {
                f"adapter.{name}": each
                for name, each in self._adapted.named_parameters()
                if each.requires_grad
            }
        return named

    def layout(self, question: str, steps: Sequence[str]) -> Layout:
        """Return the ids of a solution, and where its steps are read."""
        return self.convention.layout(question, tuple(steps))

    def hidden(self, layouts: Sequence[Layout]) -> Float[Tensor, "R D"]:
        """Return the hidden states at the ends of the steps of all these solutions.

        Padding stands behind what is read, and is never looked at.
        """
        width = max(len(layout.ids) for layout in layouts)
        ids = torch.tensor([[*each.ids, *[0] * (width - len(each.ids))] for each in layouts])
        output = self.base(input_ids=ids.to(self.head.weight.device), use_cache=False)
        rows = [row for row, layout in enumerate(layouts) for _ in layout.reads]
        columns = [place for layout in layouts for place in layout.reads]
        hidden: Tensor = output.last_hidden_state[rows, columns]
        return hidden.float()

    def log_odds(self, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return the log-odds of the second label."""
        logits = self.head(hidden)
        log_odds: Tensor = logits[:, 1] - logits[:, 0]
        return log_odds

    def calibrate(self, temperature: float, shift: float) -> None:
        """Make the log-odds l those of (l + shift) / temperature."""
        with torch.no_grad():
            self.head.bias[1] += shift
            self.head.weight.div_(temperature)
            self.head.bias.div_(temperature)

    def merge(self) -> None:
        """Merge the adapter into the weights."""
        if self._adapted is not None:
            self.base = self._adapted.merge_and_unload()
            self._adapted = None

    def save(self, folder: Path) -> None:
        """Write the merged classifier and its tokenizer, as `RewardModel` reads them."""
        self.merge()
        classifier = self._classifier
        setattr(classifier, classifier.base_model_prefix, self.base)
        classifier.score = self.head
        classifier.config.architectures = [type(classifier).__name__]
        classifier.save_pretrained(folder)
        self._model.tokenizer.save_pretrained(folder)


def load_trained(classifier: Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Give the trained parameters these values."""
    with torch.no_grad():
        for name, parameter in classifier.trainable.items():
            parameter.copy_(tensors[name])


def _without_weights(model: LanguageModel) -> Any:
    """Return a token classifier of the architecture of a model, whose tensors have no storage."""
    config = type(model.model.config).from_dict(model.model.config.to_dict())
    config.num_labels = NUM_LABELS
    config.id2label, config.label2id = {0: "wrong", 1: "right"}, {"wrong": 0, "right": 1}
    try:
        with torch.device("meta"):
            auto: Any = AutoModelForTokenClassification
            classifier = auto.from_config(config)
    except ValueError as error:
        classifier = None
        reason = str(error)
    if classifier is None or not isinstance(getattr(classifier, HEAD, None), nn.Linear):
        architecture = type(model.model).__name__
        got = architecture if classifier is not None else f"{architecture} ({reason[:100]})"
        raise InputError(
            "A head is put on a model of whose architecture transformers has a token classifier "
            f"with a head `{HEAD}`. Got {got}; accepted: Qwen2, Qwen3, Llama, Mistral, Gemma and "
            "others; or --method probe."
        )
    return classifier


def _with_lora(base: Any, config: Any, rank: int, seed: int) -> Any:
    """Return layers with an adapter on the linear maps of their upper half.

    The lower half needs no gradients, which saves a quarter of the operations.
    """
    peft = optional("peft", extra="peft", purpose="An adapter")
    first = int(config.num_hidden_layers) // 2
    linear = [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and _layer_of(name) >= first
    ]
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=linear,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # by peft
        torch.manual_seed(seed)
        return peft.get_peft_model(base, settings)


def _layer_of(name: str) -> int:
    """Return the number of the layer that a module belongs to, -1 if to none."""
    return next((int(part) for part in name.split(".") if part.isdigit()), -1)
