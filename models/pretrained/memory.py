r"""The memory that a model takes on a processor, told from the headers of its files.

$$\text{weights} = b\,|W|, \qquad \text{cache of a token} = 2 K H D b$$

with b bytes of a number in the precision of the computation, |W| stored weights, K layers, H heads
of keys and values, and D their width. A model that is quantised while it is loaded stands in
memory twice then: as it was read, and as it will be. Tied output embeddings are a copy of the
input embeddings where they are packed (`llmsmc.models.pretrained.packing`), and one in 8 bits with
rows that are rounded as they come (`llmsmc.models.pretrained.dynamic_int8`). There the layers are
rounded one after the other, and at most what was read and one layer are held.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]
import torch

from llmsmc.errors import InputError
from llmsmc.models.pretrained import dynamic_int8
from llmsmc.models.pretrained.precision import computes_in_bfloat16

_BYTES_PER_WEIGHT: Final = {"int8": 1.0, dynamic_int8.NAME: 1.0, "nf4": 0.5625, "fp4": 0.5625}
_UNLIMITED: Final = 2**60  # what control groups of version 1 say where there is no limit


@dataclass(frozen=True)
class MemoryNeed:
    """The memory that a model takes, in bytes.

    Attributes:
        weights: the loaded weights.
        peak: the most while they are loaded.
        cache_per_token: what each token of each particle adds to the cache.
    """

    weights: int
    peak: int
    cache_per_token: int

    def __str__(self) -> str:
        """Say it in words."""
        return (
            f"{size_in_words(self.weights)} of weights, {size_in_words(self.peak)} while they are "
            "loaded, "
            f"{size_in_words(1000 * self.cache_per_token)} of cache for 1,000 tokens of a particle"
        )


def memory_need(
    num_weights: int, config: Any, dtype: torch.dtype, quantization: str | None = None
) -> MemoryNeed:
    """Return the memory of a model.

    Args:
        num_weights: how many numbers its files hold.
        config: its configuration.
        dtype: the precision of the computation.
        quantization: how its weights are quantised while they are loaded, if they are.
    """
    sizes, width = config.get_text_config(), dtype.itemsize

    def size(name: str) -> int:
        return int(getattr(sizes, name, None) or 0)

    plain = loaded = num_weights * width
    peak = plain
    embeddings = size("vocab_size") * size("hidden_size")
    tied = getattr(config, "tie_word_embeddings", False)
    if quantization is not None:
        kept = min(num_weights, embeddings if tied else 2 * embeddings)
        loaded = kept * width + int((num_weights - kept) * _BYTES_PER_WEIGHT[quantization])
        peak = plain + loaded
    if quantization == dynamic_int8.NAME:
        copy = embeddings if tied else 0
        loaded += copy
        peak = max(plain + 2 * size("hidden_size") * size("intermediate_size"), loaded + copy)
    elif tied and dtype is torch.bfloat16 and computes_in_bfloat16():
        loaded, peak = loaded + embeddings * width, peak + embeddings * width
    heads = size("num_attention_heads")
    head_size = size("head_dim") or size("hidden_size") // max(heads, 1)
    pairs = size("num_key_value_heads") or heads
    cached = 2 * size("num_hidden_layers") * pairs * head_size * width
    return MemoryNeed(loaded, peak, cached)


def require_memory(source: str, need: MemoryNeed) -> None:
    """Raise `InputError` if a model does not fit into the memory that is available."""
    available = available_memory()
    if need.peak > available:
        raise InputError(
            f"{source} does not fit into memory. Got a model that takes {need}, and "
            f"{size_in_words(available)} that are available; accepted: a model that fits, such as "
            "one with fewer weights or in a coarser precision (dtype 'bfloat16')."
        )


def available_memory() -> int:
    """Return how many bytes this process may still take.

    It is what the system has available, or what control groups leave, whichever is less.
    """
    return min([int(psutil.virtual_memory().available), *_left_by_groups()])


def _left_by_groups(root: Path = Path("/")) -> Iterator[int]:
    """Yield what each control group of this process, of version 1 or 2, leaves of its limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, limit, used, cached = mounted, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            folder, limit = mounted / "memory", "memory.limit_in_bytes"
            used, cached = "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts) + 1):
            group = folder.joinpath(*parts[:depth])
            with contextlib.suppress(OSError, ValueError):  # no limit, or none of our business
                most = int((group / limit).read_text())
                if most < _UNLIMITED:
                    taken = int((group / used).read_text()) - _entry(group / "memory.stat", cached)
                    yield max(most - taken, 0)


def _entry(file: Path, name: str) -> int:
    """Return an entry of a file of lines with a name and a number; 0 without it."""
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def give_back() -> None:
    """Give memory that was freed back to the system, where the C library can.

    What is read and converted while a model is loaded is freed in pieces, which the library keeps
    for later: with a model of half a billion weights more than half a gigabyte.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # it is one of glibc's own
        ctypes.CDLL(None).malloc_trim(0)


def size_in_words(num_bytes: float) -> str:
    """Return a size in memory, in the unit that suits it."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
