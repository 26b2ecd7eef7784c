"""Checks of a checkpoint: its tensors beside its configuration and beside the loaded network.

A configuration is numbers that somebody wrote. Before any of them is looped over or allocated, they
are held against bounds that no network reaches, and then against the headers of the safetensors
files, which tell the shape of each tensor without reading it. Whatever else is looped over makes
parts of the network, and these are counted while it is made: a network has about as many parts as
there are tensors in its files.

What has been loaded is held against the network: each of its tensors is in the files, with the
shape that it has there. A tensor of the files that the network lacks is an error as well, unless it
is known to lie beside the stack that is run (`_BESIDE`): otherwise the files are of another
architecture, and what is computed is not the model that was saved.
"""

import contextlib
import copy
import inspect
import json
import logging
import math
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from llmsmc.errors import InputError

_NAMES: Final = 3  # that an error lists

_POSITIONS: Final = re.compile("position|seq|ctx|window")
_LAYERS: Final = re.compile("(?<!window_)layers?$|depth$|blocks$")
_COUNTS: Final = re.compile("heads?$|experts?$|labels$|classes$|groups$")
_VOCABULARIES: Final = re.compile("vocab|embeddings|buckets|hash")
_NO_SIZES: Final = re.compile(
    "length|context|chunk|theta|base|token|pixels|param|seed|_key|sampl|time|step|epoch|rate$|clip"
    "|alpha|^tinit$|^tfinal$|^deltaT$"
)

# Configurations are made by loops over some of their numbers. These bounds are far above those of
# any network, and low enough for such a loop to take no time.
_MAX_LAYERS: Final = 2**10
_MAX_COUNT: Final = 2**16
_MAX_SIZE: Final = 2**22
_MAX_ENTRIES: Final = 2**14  # of a list
_MAX_VOCABULARY: Final = 2**24
_MAX_POSITIONS: Final = 2**31

# What costs nothing, whatever the files hold: layers, heads and the like; other numbers.
FEW: Final = 64
_FEW_OTHERS: Final = 2**16
_SMALL: Final = 2**24  # elements that may be needed beyond those of the files
_FEW_PARTS: Final = 2**12  # modules, parameters and buffers, which are made in less than a second
_PARTS: Final = 8  # of a network for each tensor of its files, of which there are 2 to 4

_BESIDE: Final = re.compile(
    r"(^|\.)("
    # buffers that are computed
    r"rotary_emb\.\w+|(attn|attention)\.(bias|masked_bias|causal_mask)|position_ids|"
    # the prediction of further tokens
    r"mtp(_\w+)?\..+|nextn_\w+\..+|"
    # other modalities
    r"(vision|audio|speech|image)_(tower|model|encoder|projector|projection)\..+|visual\..+|"
    r"(multi_modal|mm|img)_(projector|projection)\..+|embed_(vision|audio)\..+|"
    r"(talker|token2wav|code2wav)\..+"
    r")$"
)
_SCALES: Final = re.compile(r"(_scales?(_inv)?|_zero_point|qzeros|g_idx|absmax|quant_map|SCB)$")


@dataclass(frozen=True)
class StoredTensors:
    """The headers of the files of a checkpoint.

    Attributes:
        shapes: of the tensors, by name.
        num_bytes: of all of them together.
    """

    shapes: Mapping[str, tuple[int, ...]]
    num_bytes: int

    @property
    def num_elements(self) -> int:
        """The number of stored numbers in all tensors."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def largest_dimension(self) -> int:
        """The largest dimension of any tensor."""
        return max((max(shape, default=1) for shape in self.shapes.values()), default=0)


def read_headers(files: Iterable[str | Path]) -> StoredTensors:
    """Return the headers of safetensors files.

    Raises:
        InputError: a file is something else.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    num_bytes = 0
    for file in map(Path, files):
        if file.suffix != ".safetensors":
            raise InputError(
                f"Weights are read from safetensors files only. Got {file.name!r}; accepted: "
                "files *.safetensors."
            )
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (not a dict)
                shapes[name] = tuple(opened.get_slice(name).get_shape())
        num_bytes += file.stat().st_size
    return StoredTensors(shapes, num_bytes)


def stored_file(source: str, name: str, **revision: Any) -> str | None:
    """Return the path of a file of a checkpoint, None if it has none of that name."""
    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False, **revision)
    return None if found is None else str(found)


def stored_tensors(source: str, named: str | None, **revision: Any) -> StoredTensors | None:
    """Return the headers of the files of a checkpoint; None where there are no such files.

    Args:
        source: a folder, or a name on the hub, from which the files are fetched then.
        named: the file that its configuration names, if any.
        revision: the branch, tag or commit, if it is a name.
    """
    for name in [named] if named else [SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME]:
        found = stored_file(source, name, **revision)
        if found is None:
            continue
        if not name.endswith(".index.json"):
            return read_headers([found])
        index = json.loads(Path(found).read_text(encoding="utf-8"))
        for shard in {str(file) for file in index["weight_map"].values()}:
            if Path(shard).suffix != ".safetensors" or Path(shard).name != shard:
                raise InputError(
                    f"Weights are read from safetensors files beside {name} only. Got {shard!r}; "
                    "accepted: names *.safetensors."
                )
        shards, _ = get_checkpoint_shard_files(source, found, **revision)  # type: ignore[no-untyped-call]
        return read_headers(shards)
    return None


def require_sane(source: str, config: Mapping[str, Any]) -> None:
    """Raise `InputError` for numbers of a configuration that no network has."""
    for name, value in _entries(config):
        if isinstance(value, list) and len(value) > _MAX_ENTRIES:
            raise InputError(
                f"The configuration of {source} is of no network that can be run. Got {name} with "
                f"{len(value):,} entries; accepted: lists of {_MAX_ENTRIES:,} at most."
            )
    for name, value in integers(config):
        bound = bound_of(name)
        if bound is not None and value > bound:
            raise InputError(
                f"The configuration of {source} is of no network that can be run. Got "
                f"{name} = {_shown(value)}; accepted: {bound} at most."
            )


def require_stored(
    source: str, config: PreTrainedConfig, make: Callable[[Any], nn.Module], **revision: Any
) -> None:
    """Raise `InputError` where a network is larger than the files of its checkpoint.

    Args:
        source: where the checkpoint came from.
        config: its configuration.
        make: makes the network of a configuration; it is made on the device "meta", on which
            nothing is allocated.
        revision: the branch, tag or commit, if it is a name.
    """
    stored = stored_tensors(source, getattr(config, "transformers_weights", None), **revision)
    if stored is None:
        return  # without files, loading fails anyway
    _require_counts(source, config, stored)
    with torch.device("meta"), few_parts(source, len(stored.shapes)):
        network = make(copy.deepcopy(config))
    needed = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    held, sizes = stored.num_elements, config.to_dict()
    if sizes.get("quantization_config"):
        held = 8 * stored.num_bytes  # no number takes less than a bit
    if needed > 2 * held + _SMALL:
        raise InputError(
            f"The configuration of {source} asks for a larger network than its files hold. Got "
            f"{needed:,} numbers to be filled ({_largest(sizes)}) from {held:,} that are stored; "
            "accepted: the configuration that was saved with the weights."
        )


@contextlib.contextmanager
def few_parts(source: str, num_tensors: int) -> Iterator[None]:
    """Raise `InputError` as soon as more parts are made than a network of so many tensors has.

    Counted are the modules, parameters and buffers that this thread puts into modules.
    """
    bound, thread, made = _FEW_PARTS + _PARTS * num_tensors, threading.get_ident(), 0

    def count(*_: object) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > bound:
            raise InputError(
                f"The configuration of {source} asks for a larger network than its files hold. Got "
                f"more than {bound:,} modules and parameters for {num_tensors:,} tensors; "
                "accepted: the configuration that was saved with the weights."
            )

    hooks = [
        torch.nn.modules.module.register_module_module_registration_hook(count),
        torch.nn.modules.module.register_module_parameter_registration_hook(count),
        torch.nn.modules.module.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _require_counts(source: str, config: PreTrainedConfig, stored: StoredTensors) -> None:
    """Raise `InputError` for numbers of a configuration that are larger than the files can hold.

    There are no more layers than tensors, and nothing has a larger size than the largest dimension.
    Entries that are no settings of the architecture, such as notes on the training, are ignored.
    """
    known = inspect.signature(type(config)).parameters
    num_tensors, dimension = len(stored.shapes), stored.largest_dimension
    for name, value in integers({k: v for k, v in config.to_dict().items() if k in known}):
        last = _last(name)
        bound = bound_of(last)
        if bound == _MAX_LAYERS:
            limit = max(FEW, num_tensors)
        else:
            limit = max(FEW if bound == _MAX_COUNT else _FEW_OTHERS, num_tensors, dimension)
        if bound not in (None, _MAX_POSITIONS) and value > limit:
            raise InputError(
                f"The configuration of {source} asks for a larger network than its files hold. "
                f"Got {name} = {value} for {num_tensors} tensors, the largest dimension of "
                f"which is {dimension}; accepted: the configuration that was saved "
                "with the weights."
            )


class TensorsError(InputError):
    """The tensors of a checkpoint are not the tensors of the network.

    Attributes:
        got: the differences, in words.
        lacking: the names of the tensors that the network needs and does not get.
    """

    def __init__(self, source: str, network: str, got: str, lacking: Collection[str]) -> None:
        """Create the error."""
        super().__init__(
            f"The tensors of {source} are not those of {network}. Got {got}; accepted: all that "
            "the network has, under the names and in the shapes in which it was saved."
        )
        self.got, self.lacking = got, tuple(lacking)


def require_all_loaded(
    source: str, model: Any, info: Mapping[str, Any], *, quantized: bool = False
) -> None:
    """Compare the loaded tensors with the network.

    Args:
        source: where the checkpoint came from.
        model: the network.
        info: the report of transformers on the loading: `missing_keys`, `unexpected_keys` and
            `mismatched_keys` (names with the shapes stored and needed).
        quantized: whether the checkpoint is quantised, so that scales may stand beside weights.

    Raises:
        TensorsError: a tensor is missing, has another shape, or belongs to something else.
    """
    missing = sorted(info["missing_keys"])
    mismatched = sorted(info["mismatched_keys"], key=str)
    unexpected = sorted(
        name for name in info["unexpected_keys"] if not _lies_beside(name, model, quantized)
    )
    require_same_tensors(source, type(model).__name__, missing, unexpected, mismatched)


def require_same_tensors(
    source: str,
    network: str,
    missing: Collection[str],
    unexpected: Collection[str],
    mismatched: Collection[tuple[str, Iterable[int], Iterable[int]]],
) -> None:
    """Raise `TensorsError` if anything is missing, unexpected or has another shape."""
    got, prefix = list[str](), _prefix(missing, unexpected)
    if prefix:
        found, needed = listed(unexpected), listed(missing)
        got.append(f"names that begin with {prefix!r} ({found}) in place of {needed}")
    if missing and not prefix:
        got.append(f"no {listed(missing)}")
    if mismatched:
        pairs = [f"{name} of shape {[*a]} in place of {[*b]}" for name, a, b in mismatched]
        got.append(listed(pairs))
    if unexpected and not prefix:
        got.append(f"{listed(unexpected)}, which it does not have")
    if got:
        lacking = [*missing, *(name for name, _, _ in mismatched)]
        raise TensorsError(source, network, "; ".join(got), lacking)


class LoadingReport(logging.Filter):
    """Keeps the table that transformers logs of tensors off the screen, and the names in it.

    Where loading itself fails over a missing tensor, this is the only place that names it.
    """

    _LOGGER: Final = logging.getLogger("transformers.modeling_utils")
    _ROW: Final = re.compile(r"^(\S.*?) +\| \S*?(MISSING|CONVERSION|MISMATCH)", re.MULTILINE)

    def __init__(self) -> None:
        """Make a filter for the records of this thread."""
        super().__init__()
        self._thread, self._text = threading.get_ident(), ""
        self._level = self._shown = logging.NOTSET

    def __enter__(self) -> "LoadingReport":
        """Begin to listen, even where the level hides the records.

        The level is left alone where warnings are shown: a level of its own makes transformers warn
        of layers that are not sharded, of which there are none to be.
        """
        self._level, self._shown = self._LOGGER.level, self._LOGGER.getEffectiveLevel()
        if self._shown > logging.WARNING:
            self._LOGGER.setLevel(logging.WARNING)
        self._LOGGER.addFilter(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop listening."""
        self._LOGGER.removeFilter(self)
        self._LOGGER.setLevel(self._level)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is anything else, and would be shown without this."""
        message = record.getMessage()
        if record.thread != self._thread or "LOAD REPORT" not in message:
            return record.levelno >= self._shown
        self._text = message
        return False

    @property
    def names(self) -> list[str]:
        """The tensors that are missing, or could not be made from the files."""
        return list(dict.fromkeys(name for name, _ in self._ROW.findall(self._text)))


def _lies_beside(name: str, model: Any, quantized: bool) -> bool:
    """Return whether a tensor is known to be of no use to the network."""
    if _BESIDE.search(name) or (quantized and _SCALES.search(name)):
        return True
    layer = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    if layer is not None:  # behind the last one: the prediction of further tokens, if there is any
        config = model.config.get_text_config()
        further = int(layer[1]) - int(getattr(config, "num_hidden_layers", 0))
        return 0 <= further < int(getattr(config, "num_nextn_predict_layers", None) or 0)
    if name.startswith("lm_head."):
        return not hasattr(model, "lm_head")  # the stack is read by another head
    # The critic that TRL keeps beside a policy; alone, it makes the checkpoint a reward model.
    return name.startswith("v_head.") and type(model).__name__ in (model.config.architectures or ())


def _prefix(missing: Collection[str], unexpected: Collection[str]) -> str:
    """Return the prefix of the names of all stored tensors, if that is the only difference."""
    for name in missing:
        found = [other[: -len(name)] for other in unexpected if other.endswith(f".{name}")]
        if found and all(other.startswith(found[0]) for other in unexpected):
            return found[0]
    return ""


def listed(names: Collection[str]) -> str:
    """Return a few of the names, and how many there are."""
    shown = ", ".join(list(names)[:_NAMES])
    return shown if len(names) <= _NAMES else f"{shown} and {len(names) - _NAMES} more"


def integers(config: Any) -> Iterator[tuple[str, int]]:
    """Yield the integers of a configuration with their names, at any depth."""
    for name, value in _entries(config):
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if is_integer or (isinstance(value, float) and value.is_integer()):
            yield name, int(value)


def _entries(config: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the lists and the values of a configuration with their names, at any depth."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _entries(value, f"{name}.{key}" if name else str(key))
        return
    yield name, config
    if isinstance(config, list | tuple):
        for value in config:
            yield from _entries(value, name)


def bound_of(name: str) -> int | None:
    """Return the bound of a number of a configuration; None where it is no size."""
    last = _last(name)
    if _LAYERS.search(last):
        return _MAX_LAYERS
    if _COUNTS.search(last):
        return _MAX_COUNT
    if _POSITIONS.search(last):
        return _MAX_POSITIONS
    if _NO_SIZES.search(last) or last.endswith("_id"):
        return None
    return _MAX_VOCABULARY if _VOCABULARIES.search(last) else _MAX_SIZE


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _largest(config: Mapping[str, Any]) -> str:
    """Return the largest sizes of a configuration, with their names."""
    sizes = [(value, name) for name, value in integers(config) if bound_of(name) is not None]
    return ", ".join(f"{name} = {value}" for value, name in sorted(sizes, reverse=True)[:_NAMES])


def _shown(value: int) -> str:
    return str(value) if value < 10**20 else "a number of more than 20 digits"
