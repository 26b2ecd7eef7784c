"""A GGUF file in llama.cpp as the transition of a state-space model.

The engine computes logits from the weights as they are in the file, and nothing else: tokens are
drawn here, from the softmax at the temperature asked for. What is computed of texts that begin
alike is shared in the memory of the engine (`llmsmc.models.caches.sequences`).

Shapes: B rows, q new tokens, V vocabulary.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmsmc.core.checks import require_count
from llmsmc.errors import InputError
from llmsmc.models.caches.sequences import TextMemory, TextRows
from llmsmc.models.policies.local_language_model import LocalLanguageModel
from llmsmc.models.policies.step_by_step import require_step_by_step
from llmsmc.models.pretrained.llama_cpp import LlamaCpp
from llmsmc.models.pretrained.loading import (
    context_length,
    load_config,
    load_tokenizer,
    stored_precision,
)
from llmsmc.models.pretrained.memory import available_memory, memory_need
from llmsmc.models.pretrained.names import is_gguf
from llmsmc.models.pretrained.tolerance import COARSEST

_CELLS: Final = 2**15  # those of 64 texts of 512 tokens
_SHARE: Final = 4  # of the memory that is available, at most the fourth part


class LlamaCppModel(LocalLanguageModel):
    """A causal language model that llama.cpp computes, with its tokenizer.

    Attributes:
        engine: the file, loaded.
        memory: which texts it remembers.
    """

    def __init__(
        self,
        engine: LlamaCpp,
        config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        stored: str | None,
        memory: TextMemory | None = None,
    ) -> None:
        """Take an engine that is loaded already; `from_pretrained` is the usual way.

        Raises:
            InputError: the file has more or fewer ids than its tokenizer.
        """
        self.engine, self.config = engine, config
        self.memory = TextMemory(engine) if memory is None else memory
        super().__init__(config, tokenizer, name=name, device=torch.device("cpu"), stored=stored)
        if engine.vocab_size != self.vocab_size:
            raise InputError(
                f"The tokenizer of {name} is of another model. Got {self.vocab_size} ids for "
                f"{engine.vocab_size} of llama.cpp; accepted: as many."
            )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        chat_template: str | Path | None = None,
        num_cells: int | None = None,
    ) -> "LlamaCppModel":
        """Load a GGUF file.

        Args:
            path: the file.
            chat_template: a chat template in place of that of the file, which a base model lacks:
                a text in the language Jinja, or a file with it.
            num_cells: how many positions are remembered, those that texts share counted once; by
                default 32,768, or what fits into a quarter of the memory that is available. Texts
                that do not fit are computed again when they are needed.

        Raises:
            InputError: there is no such file, or it cannot be used as it is.
            MissingExtraError: the bindings of llama.cpp are not installed.
        """
        source = str(path)
        if not is_gguf(source):
            raise InputError(
                f"llama.cpp computes GGUF files. Got {source!r}; accepted: the path of such a file."
            )
        tokenizer = load_tokenizer(source, None, chat_template)
        config = load_config(source)
        context_length(config)  # refused before gigabytes of weights are read
        if num_cells is None:
            cell = memory_need(0, config, torch.float16).cache_per_token
            num_cells = max(1, min(_CELLS, available_memory() // _SHARE // cell))
        require_count("num_cells", num_cells)
        engine = LlamaCpp(Path(source), num_cells=num_cells, num_threads=torch.get_num_threads())
        loaded = cls(engine, config, tokenizer, name=source, stored=stored_precision(source))
        loaded._require_step_by_step()
        return loaded

    def __repr__(self) -> str:
        """Show what the model is."""
        return f"LlamaCppModel({self.name!r}, stored={self.stored!r})"

    @property
    def precision(self) -> str:
        """What computes, and the precision of the weights in the file."""
        return f"llama.cpp, weights in {self.stored}"

    @property
    def weight_bytes(self) -> int:
        """The memory of the weights."""
        return self.engine.weight_bytes

    def new_rows(self, num_rows: int) -> TextRows:
        """Return so many empty rows in the memory of the engine."""
        return self.memory.new_rows(num_rows)

    def forward(
        self,
        cache: TextRows,
        input_ids: Int[Tensor, "B q"],
        counts: Int[Tensor, " B"] | None = None,
        num_logits: int = 1,
        *,
        reads: bool = False,
    ) -> tuple[Float[Tensor, "B k V"], list[Float[Tensor, "B k D"]]]:
        """Return the logits behind the last k = `num_logits` of q new tokens of each row.

        Of the new tokens the first `counts` of each row are computed and kept, by default all.

        Raises:
            InputError: hidden states are to be read, which the engine does not tell; or a single
                row is more than its memory holds.
        """
        if reads:
            raise InputError(
                "llama.cpp does not tell the hidden states of a policy. Got a probe, which reads "
                "them; accepted: --engine transformers, or another reward."
            )
        if counts is None:
            counts = input_ids.new_full((len(input_ids),), input_ids.shape[1])
        return cache.extend(input_ids, counts, num_logits), []

    def log_probs(
        self, prompt_ids: Iterable[int], token_ids: Iterable[int]
    ) -> Float64[Tensor, " L"]:
        """Return log p of each id given what stands before it, all of them in one pass.

        With an empty prompt the first id has nothing before it and only conditions the others.
        """
        prompt, tokens = list(prompt_ids), list(token_ids)
        start = max(len(prompt), 1)
        ids = torch.tensor([prompt + tokens])
        num_scored = ids.shape[1] - start
        if num_scored <= 0:
            return torch.zeros(0, dtype=torch.float64)
        logits, _ = self.forward(self.new_rows(1), ids[:, :-1], num_logits=num_scored)
        chosen = logits[0].log_softmax(-1).gather(-1, ids[0, start:, None])
        log_probs: Tensor = chosen.squeeze(-1).double()
        return log_probs

    def _require_step_by_step(self) -> None:
        require_step_by_step(
            self.name,
            self.new_rows,
            lambda *fed: self.forward(*fed)[0],
            lambda ids: self.forward(self.new_rows(1), ids[None])[0][0, -1],
            self.vocab_size,
            self.device,
            COARSEST,
        )
