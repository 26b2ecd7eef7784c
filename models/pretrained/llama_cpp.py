"""A GGUF file in llama.cpp, in this process: its weights as they are in the file, and a memory.

The memory has cells, each with the keys and values of one position of a text. A text has a slot;
texts that begin alike share the cells of what they have in common, and copying a text copies no
numbers.

Only the low-level functions of the bindings are used: what is drawn, and what stands where, is
decided elsewhere.

Shapes: L tokens, K of them behind which logits are wanted, V vocabulary.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from llmsmc.core.extras import optional
from llmsmc.errors import InputError

_TOKENS_AT_ONCE: Final = 2048  # of one call
_TOKENS_SIDE_BY_SIDE: Final = 512  # within a call
_LOGITS_AT_ONCE: Final = 256  # of one call: their memory is reserved
_IS_FULL: Final = 1  # what llama_decode returns where no cells are left

_keep = list[Any]()  # functions that the library calls, for as long as the process lives


def is_installed() -> bool:
    """Return whether the bindings of llama.cpp are installed."""
    try:
        _bindings()
    except Exception:  # whatever keeps them from being used
        return False
    return True


def _bindings() -> Any:
    library = optional("llama_cpp", extra="llama-cpp", purpose="Computing in llama.cpp")
    if not _keep:
        silence = library.llama_log_callback(lambda level, text, data: None)
        library.llama_log_set(silence, ctypes.c_void_p(0))
        library.llama_backend_init()
        _keep.append(silence)
    return library


class LlamaCpp:
    """A file, loaded, with the memory of what has been computed.

    Attributes:
        num_slots: how many texts the memory has places for.
        tokens_at_once: how many tokens are computed in one call.
        logits_at_once: behind how many of them logits are told.
        num_cells: how many positions of all texts together, shared ones counted once.
        vocab_size: V.
        weight_bytes: the memory of the weights.
    """

    tokens_at_once: int = _TOKENS_AT_ONCE
    logits_at_once: int = _LOGITS_AT_ONCE

    def __init__(self, path: Path, *, num_cells: int, num_threads: int) -> None:
        """Load a file.

        Args:
            path: the file, which has been found to be readable.
            num_cells: of the memory.
            num_threads: that compute.

        Raises:
            InputError: llama.cpp does not load it, or there is no memory for so many cells.
            MissingExtraError: the bindings are not installed.
        """
        self._library = library = _bindings()
        self._model = self._context = None
        settings = library.llama_model_default_params()
        settings.n_gpu_layers = 0
        self._model = library.llama_model_load_from_file(str(path).encode(), settings)
        if not self._model:
            raise InputError(
                f"llama.cpp does not load this file. Got {path}; accepted: a GGUF file of an "
                "architecture that the installed version knows, or --engine transformers."
            )
        self.num_slots = int(library.llama_max_parallel_sequences())
        settings = library.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max, settings.kv_unified = num_cells, self.num_slots, True
        settings.n_batch, settings.n_ubatch = _TOKENS_AT_ONCE, _TOKENS_SIDE_BY_SIDE
        if hasattr(settings, "n_outputs_max"):
            settings.n_outputs_max = _LOGITS_AT_ONCE
        settings.n_threads = settings.n_threads_batch = num_threads
        settings.no_perf, settings.swa_full = True, True
        self._context = library.llama_init_from_model(self._model, settings)
        if not self._context:
            raise InputError(
                f"llama.cpp has no memory for so many positions. Got {num_cells} for {path}; "
                "accepted: fewer of them."
            )
        self.num_cells = int(library.llama_n_ctx(self._context))
        self._memory = library.llama_get_memory(self._context)
        vocabulary = library.llama_model_get_vocab(self._model)
        self.vocab_size = int(library.llama_vocab_n_tokens(vocabulary))
        self.weight_bytes = int(library.llama_model_size(self._model))
        self._slots = np.zeros(_TOKENS_AT_ONCE, np.int32)
        places = self._slots.ctypes.data + self._slots.itemsize * np.arange(_TOKENS_AT_ONCE)
        self._addresses = places.astype(np.uintp)
        self._ones = np.ones(_TOKENS_AT_ONCE, np.int32)

    def __del__(self) -> None:
        """Give the memory back."""
        if self._context:
            self._library.llama_free(self._context)
        if self._model:
            self._library.llama_model_free(self._model)

    def decode(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        slots: Sequence[int],
        is_wanted: Sequence[bool],
    ) -> Float[Tensor, "K V"] | None:
        """Compute tokens, and keep them; None, with nothing kept, if the cells do not suffice.

        Args:
            ids: the tokens, of which those of one text stand in order; at most `tokens_at_once`.
            positions: of each token in its text, which the memory holds up to there.
            slots: of the text of each token.
            is_wanted: whether logits are wanted behind it.

        Returns:
            The logits behind the tokens for which they are wanted, in order. They are overwritten
            by the next call.

        Raises:
            RuntimeError: llama.cpp reports another failure.
        """
        library, count = self._library, len(ids)
        tokens, places = np.asarray(ids, np.int32), np.asarray(positions, np.int32)
        wanted = np.asarray(is_wanted, np.int8)
        self._slots[:count] = slots
        batch = library.llama_batch(
            count,
            _pointer(tokens, library.llama_token),
            None,
            _pointer(places, library.llama_pos),
            _pointer(self._ones, ctypes.c_int32),
            _pointer(self._addresses, ctypes.POINTER(library.llama_seq_id)),
            _pointer(wanted, ctypes.c_int8),
        )
        status = library.llama_decode(self._context, batch)
        if status == _IS_FULL:
            return None
        if status != 0:
            raise RuntimeError(f"llama_decode returns {status}.")
        num_wanted = int(wanted.sum())
        if not num_wanted:
            return torch.zeros((0, self.vocab_size))
        logits = library.llama_get_logits(self._context)
        return torch.from_numpy(np.ctypeslib.as_array(logits, (num_wanted, self.vocab_size)))

    def copy(self, source: int, target: int, length: int) -> None:
        """Let the text of an empty slot begin as another one does; no numbers are copied."""
        self._library.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def forget(self, slot: int) -> None:
        """Forget the text of a slot."""
        self._library.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def clear(self) -> None:
        """Forget all texts, and their numbers, which may be no numbers."""
        self._library.llama_memory_clear(self._memory, True)


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
