"""A language model of transformers as the transition of a state-space model.

Shapes: B rows, L generated tokens, V vocabulary.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmsmc.models.caches.attention import Attention
from llmsmc.models.caches.row_cache import Beginning, RowCache
from llmsmc.models.policies.adapters import with_adapter
from llmsmc.models.policies.local_language_model import LocalLanguageModel
from llmsmc.models.policies.step_by_step import require_step_by_step
from llmsmc.models.pretrained.loading import (
    Placement,
    at_revision,
    context_length,
    load_config,
    load_tokenizer,
    require_embedded,
    resolve,
    stored_precision,
)
from llmsmc.models.pretrained.memory import give_back
from llmsmc.models.pretrained.packing import pack
from llmsmc.models.pretrained.quantization import quantization_method
from llmsmc.models.pretrained.tolerance import cached_tolerance


class LanguageModel(LocalLanguageModel):
    """A causal language model of transformers, with its tokenizer.

    Attributes:
        model: the transformers model, in evaluation mode.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "",
        quantization: str | None = None,
        stored: str | None = None,
    ) -> None:
        """Take a model that is loaded already; `from_pretrained` is the usual way.

        Raises:
            InputError: the tokenizer has ids for which the model has no embedding.
        """
        self.model, name = model, name or type(model).__name__
        require_embedded(tokenizer, model, name)
        super().__init__(
            model.config,
            tokenizer,
            name=name,
            device=model.device,
            ends=[getattr(model, "generation_config", None)],
            weights=model,
            quantization=quantization,
            stored=stored,
        )
        self._attention = Attention(model.config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        quantization: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        *,
        double_quantization: bool = False,
        device_map: str | dict[str, Any] | None = None,
        adapter: str | Path | None = None,
        revision: str | None = None,
        chat_template: str | Path | None = None,
    ) -> "LanguageModel":
        """Load a model by its embedded name, its folder, its GGUF file, or its name on the hub.

        Args:
            name_or_path: "minimath-policy", "minimath-policy-small", a folder in the Hugging
                Face layout with safetensors weights, a GGUF file, or a name on the hub.
            quantization: None (or "none"), "int8", "nf4" or "fp4", by bitsandbytes, or
                "int8-dynamic", on processors that multiply in 8 bits. A checkpoint that is
                quantised (GPTQ, AWQ, torchao, ...) is loaded as it is, with None.
            device: by default the CUDA device if there is one, else the CPU.
            dtype: by default single precision on the CPU, bfloat16 for a large model where the
                processor computes in it, and elsewhere the precision of the checkpoint.
            double_quantization: whether the scales of "nf4" and "fp4" are quantised as well.
            device_map: "auto", or a dict from modules to devices, to spread the layers over
                several devices; in place of `device`.
            adapter: a PEFT adapter of the model, a folder or a name on the hub, with safetensors
                weights; merged into the weights unless these are quantised.
            revision: branch, tag or commit of a model on the hub.
            chat_template: a chat template in place of that of the tokenizer, which a base model
                lacks: a text in the language Jinja, or a file with it.

        Raises:
            InputError: there is no such model, it cannot be used as it is, or it does not fit into
                the memory that is available.
        """
        source = resolve(name_or_path)
        placement = Placement(device, dtype, quantization, double_quantization, device_map)
        tokenizer = load_tokenizer(source, revision, chat_template)
        config = load_config(source, revision)
        context_length(config)  # refused before gigabytes of weights are read
        model = placement.load(AutoModelForCausalLM, source, config=config, **at_revision(revision))
        stored = quantization_method(getattr(config, "quantization_config", None))
        quantized = placement.quantized or stored
        if adapter is not None:
            model = with_adapter(model, adapter, merge=quantized is None or placement.is_dynamic)
        placement.round_layers(model)
        pack(model)
        loaded = cls(
            model,
            tokenizer,
            name=str(name_or_path),
            quantization=quantized,
            stored=stored_precision(source),
        )
        placement.warm_up(lambda: loaded.log_probs([], [0, 0]), stored)
        loaded._require_step_by_step()
        give_back()
        return loaded

    def __repr__(self) -> str:
        """Show what the model is."""
        stored = "" if self.stored is None else f", stored={self.stored!r}"
        return f"LanguageModel({self.name!r}, quantization={self.quantization!r}{stored})"

    @property
    def precision(self) -> str:
        """The precision of the computation, and that of the weights where it is another one."""
        computed = str(self.model.dtype).removeprefix("torch.")
        read = "" if self.stored is None else f", read from {self.stored}"
        again = "again " if read and self.quantization else ""
        quantized = (
            "" if self.quantization is None else f", {again}quantised to {self.quantization}"
        )
        return f"{computed}{read}{quantized}"

    @property
    def weight_bytes(self) -> int:
        """The memory of the weights."""
        return sum(each.nbytes for each in self.model.parameters())

    def log_probs(
        self, prompt_ids: Iterable[int], token_ids: Iterable[int]
    ) -> Float64[Tensor, " L"]:
        """Return log p of each id given what stands before it: one plain, uncached forward pass.

        With an empty prompt the first id has nothing before it and only conditions the others.
        """
        prompt, tokens = list(prompt_ids), list(token_ids)
        start = max(len(prompt), 1)
        ids = torch.tensor([prompt + tokens], device=self.device)
        if ids.shape[1] <= start:
            return torch.zeros(0, dtype=torch.float64)
        with torch.no_grad():
            logits = self.model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1]
        chosen = logits.float().log_softmax(-1).gather(-1, ids[0, start:, None])
        log_probs: Tensor = chosen.squeeze(-1).double().cpu()
        return log_probs

    def _require_step_by_step(self) -> None:
        def whole(ids: Tensor) -> Tensor:
            batch = ids[None]
            output = self.model(batch, attention_mask=torch.ones_like(batch), use_cache=False)
            logits: Tensor = output.logits[0, -1]
            return logits

        require_step_by_step(
            self.name,
            self.new_rows,
            lambda *fed: self.forward(*fed)[0],
            whole,
            self.vocab_size,
            self.device,
            cached_tolerance(self.model.dtype, self.quantization),
        )

    def _prefix(self, ids: tuple[int, ...]) -> RowCache:
        """Return a row of these ids, which its copies share where the layers can attend to it."""
        row = super()._prefix(ids)
        assert isinstance(row, RowCache)
        if not self._attention.shares_beginnings:
            return row
        shared = row.as_beginning()
        return shared if self._attends_to(shared) else row

    def _attends_to(self, shared: RowCache) -> bool:
        """Return whether all layers are told of the beginning of a row, and can attend to it.

        Layers that hand on nothing but what they know would attend to what stands behind it alone.
        """
        assert shared.beginning is not None
        noted = _Noted(shared.beginning.buffers)
        row = shared.select(torch.zeros(1, dtype=torch.long))
        row.beginning = Beginning(shared.beginning.length, noted)
        try:
            self.forward(row, torch.zeros((1, 1), dtype=torch.long, device=self.device))
        except NotImplementedError:
            return False
        return noted.read == noted.keys()

    def new_rows(self, num_rows: int) -> RowCache:
        """Return so many empty rows of keys and values."""
        return RowCache(num_rows, device=self.device)

    def forward(
        self,
        cache: RowCache,
        input_ids: Int[Tensor, "B q"],
        counts: Int[Tensor, " B"] | None = None,
        num_logits: int = 1,
        *,
        reads: bool = False,
    ) -> tuple[Float[Tensor, "B k V"], list[Float[Tensor, "B k D"]]]:
        """Return the logits behind the last k = `num_logits` of q new tokens of each row.

        With `reads` the hidden states in these places are returned, too: the embeddings, and those
        behind each layer; the last of them are behind the final norm. Of the new tokens the first
        `counts` of each row are kept, by default all. Rows of the cache behind the first B do not
        take part.
        """
        num_rows, num_new = input_ids.shape
        slots = cache.prepare(num_new, torch.arange(num_rows, device=input_ids.device))
        kept = max(num_logits, 1)  # 0 stands for all of them
        output = self.model(
            input_ids=input_ids,
            # Positions of padding may lie beyond the context; what is computed there is not used.
            position_ids=slots.position_ids.clamp(max=self.context_length - 1),
            attention_mask=self._attention.masks(slots),
            past_key_values=cache,
            use_cache=True,
            # Of positions by number the states are copied into one matrix. A slice of them would be
            # no contiguous tensor, for which torch copies the weights of the head for each row.
            logits_to_keep=kept if kept == num_new else list(range(-kept, 0)),
            output_hidden_states=reads,
            **({} if cache.beginning is None else {"beginning": cache.beginning}),
        )
        cache.commit(input_ids.new_full((num_rows,), num_new) if counts is None else counts)
        behind = slice(num_new - num_logits, None)
        states = [each[:, behind] for each in output.hidden_states] if reads else []
        return output.logits[:, :0] if num_logits == 0 else output.logits, states


class _Noted(dict[int, Tensor]):
    """Tensors, and which of them have been read."""

    def __init__(self, tensors: Mapping[int, Tensor]) -> None:
        super().__init__(tensors)
        self.read = set[int]()

    def __getitem__(self, name: int) -> Tensor:
        self.read.add(name)
        return super().__getitem__(name)
