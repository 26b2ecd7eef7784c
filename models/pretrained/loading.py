"""Loading models and tokenizers: the embedded ones by short name, folders, or the hub.

No code of a checkpoint is ever executed (`trust_remote_code` is off) and weights are read from
safetensors and GGUF files only.
"""

import contextlib
import functools
import logging as logs
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging

from llmsmc.errors import InputError, LlmsmcError
from llmsmc.models.caches.attention import layer_kinds, use_grouped_attention
from llmsmc.models.pretrained import dynamic_int8
from llmsmc.models.pretrained.checkpoints import (
    LoadingReport,
    TensorsError,
    listed,
    require_all_loaded,
    require_sane,
    require_stored,
    stored_file,
    stored_tensors,
)
from llmsmc.models.pretrained.gguf_header import read_header
from llmsmc.models.pretrained.gguf_network import config_of, load_network, quantization_of
from llmsmc.models.pretrained.gguf_tokenizer import tokenizer_of
from llmsmc.models.pretrained.memory import memory_need, require_memory
from llmsmc.models.pretrained.names import DTYPES, got_and_accepted, is_gguf
from llmsmc.models.pretrained.names import EMBEDDED as EMBEDDED
from llmsmc.models.pretrained.names import resolve as resolve
from llmsmc.models.pretrained.precision import LARGE, default_dtype
from llmsmc.models.pretrained.quantization import quantization_config, stored_quantization
from llmsmc.models.text import template_pool
from llmsmc.models.text.chat import chat_text
from llmsmc.models.text.template_text import template_text

_LOGGER: Final = logs.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """The device and the precision of a model.

    Attributes:
        device: the device; by default the first CUDA device if there is one, else the CPU.
        dtype: the precision; by default that of `llmsmc.models.pretrained.precision` on the CPU,
            and elsewhere that of the checkpoint.
        quantization: None, "int8", "int8-dynamic", "nf4" or "fp4".
        double_quantization: whether the scales of 4-bit weights are quantised too.
        device_map: how the layers are spread over several devices: "auto", "balanced",
            "sequential", or a dict from modules to devices; in place of `device`.
    """

    device: torch.device | str | None = None
    dtype: torch.dtype | str | None = None
    quantization: str | None = None
    double_quantization: bool = False
    device_map: str | dict[str, Any] | None = None

    def load(
        self, cls: Any, source: str, full_precision: Sequence[str] | None = None, **settings: Any
    ) -> Any:
        """Return `cls.from_pretrained(source, ...)` in evaluation mode.

        Modules named in `full_precision` are not quantised by bitsandbytes; `round_layers` is for
        what it does not quantise. A checkpoint that is quantised already is loaded as it is. All
        tensors of the model are in the checkpoint, and the other way round (see
        `llmsmc.models.pretrained.checkpoints`).

        Raises:
            TensorsError: tensors are missing, unexpected or of other shapes.
            InputError: it cannot be loaded, here or at all.
        """
        if self.device is not None and self.device_map is not None:
            raise InputError(
                f"A model lies on one device or is spread over several. Got device={self.device!r} "
                f"beside device_map={self.device_map!r}; accepted: one of them."
            )
        device = self._device()
        revision = settings.get("revision")
        if "config" not in settings:
            settings |= {"config": load_config(source, revision)}
        dtype = self._dtype(device, settings["config"])
        # Computing in 4 bit needs to know a precision before the checkpoint has been read.
        compute_dtype = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
        if self.is_dynamic:
            dynamic_int8.require_dynamic_int8(device, dtype, is_spread=self.device_map is not None)
        quantized = quantization_config(
            self.quantization, compute_dtype, full_precision, double=self.double_quantization
        )
        if quantized is not None:
            settings |= {"quantization_config": quantized}
        make = getattr(cls, "from_config", cls)
        with loading_errors(source), _progress_of_downloads_only(source):
            stored = None
            if not is_gguf(source):
                _require_no_adapter(source, revision)
                stored = stored_quantization(source, self.quantized, revision)
            here = device.type == "cpu" and self.device_map is None and stored is None
            if self.device_map is not None:
                settings |= {"device_map": self.device_map}
            elif quantized is not None or stored is not None:
                settings |= {"device_map": {"": device}}
            if is_gguf(source):
                header, config = read_header(source), settings.pop("config")
                settings.pop("revision", None)
                if here:
                    self._say_and_require(source, config, compute_dtype, revision)
                model, info = load_network(header, config, make, compute_dtype, **settings)
            else:
                require_stored(source, settings["config"], make, **at_revision(revision))
                if here:
                    self._say_and_require(source, settings["config"], compute_dtype, revision)
                with _names_of_tensors(source):
                    # Fused attention where the model has it, and else the plain one.
                    model, info = cls.from_pretrained(
                        source,
                        dtype=dtype,
                        trust_remote_code=False,
                        use_safetensors=True,
                        ignore_mismatched_sizes=True,  # reported with the others
                        output_loading_info=True,
                        **settings,
                    )
            require_all_loaded(source, model, info, quantized=stored is not None)
        model.eval().requires_grad_(False)
        if "device_map" not in settings:
            model.to(device)
        use_grouped_attention(model)
        return model

    def _say_and_require(
        self, source: str, config: Any, dtype: torch.dtype, revision: str | None
    ) -> None:
        """Log what the model will take, and raise `InputError` if that is more than there is."""
        if is_gguf(source):
            header = read_header(source)
            held = sum(math.prod(tensor.shape) for tensor in header.tensors.values())
            kind = f" from {quantization_of(header)}"
        else:
            named = getattr(config, "transformers_weights", None)
            stored, kind = stored_tensors(source, named, **at_revision(revision)), ""
            if stored is None:
                return  # without files, loading fails anyway
            held = stored.num_elements
        need = memory_need(held, config, dtype, self.quantized)
        again = "" if self.quantized is None else f", quantised to {self.quantized}"
        _LOGGER.log(
            logs.INFO if is_gguf(source) or held >= LARGE else logs.DEBUG,
            "%s: %.3g weights in %s%s%s; %s",
            source,
            held,
            str(dtype).removeprefix("torch."),
            kind,
            again,
            need,
        )
        require_memory(source, need)

    def warm_up(self, forward: Callable[[], object], stored: str | None = None) -> None:
        """Run a quantised model once: some layers repack their weights at the first call.

        Args:
            forward: runs it.
            stored: how its checkpoint says that it is quantised, if it does.

        Raises:
            InputError: the kernels for the quantised weights cannot run this model here.
        """
        quantization = self.quantized or stored
        if quantization is None:
            return
        try:
            forward()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise InputError(
                f"This model cannot run with quantization={quantization!r} on this device: "
                f"{error}. Accepted: another quantization, another device, or None; for a "
                "checkpoint that says so itself, weights that are quantised so."
            ) from error

    def round_layers(self, network: nn.Module) -> None:
        """Quantise the layers of a loaded network, in the kind that is not made while loading."""
        if self.is_dynamic:
            dynamic_int8.round_layers(network)

    @property
    def is_dynamic(self) -> bool:
        """Whether the layers are quantised once everything is loaded, and an adapter merged."""
        return self.quantization == dynamic_int8.NAME

    @property
    def quantized(self) -> str | None:
        """The quantization, None if there is none."""
        return None if self.quantization == "none" else self.quantization

    def _device(self) -> torch.device:
        if self.device is None:
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise InputError(
                f"device names where a model runs. Got {self.device!r}; accepted: 'cpu', 'cuda', "
                "'cuda:1' and what else torch.device takes."
            ) from error
        if not _is_there(device):
            count = torch.cuda.device_count()
            cuda = {0: "", 1: ", 'cuda'"}.get(count, f", 'cuda:0' to 'cuda:{count - 1}'")
            raise InputError(
                f"This machine, or this torch ({torch.__version__}), has no such device. Got "
                f"{self.device!r}; accepted here: 'cpu'{cuda}."
            )
        return device

    def _dtype(self, device: torch.device, config: Any) -> torch.dtype | str:
        if self.dtype is None and device.type != "cpu":
            return "auto"
        if self.dtype is None:
            default: torch.dtype = getattr(torch, default_dtype(config))
            return default
        dtype = getattr(torch, self.dtype) if self.dtype in DTYPES else self.dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise InputError(
                f"dtype is a floating-point precision. Got {self.dtype!r}; accepted: "
                f"{', '.join(DTYPES)}."
            )
        return dtype


def _is_there(device: torch.device) -> bool:
    """Return whether tensors can be on a device."""
    if device.type == "cuda":  # which need not be started for this
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    try:
        torch.empty(0, device=device)
    except Exception:  # each kind of device has its own errors
        return False
    return True


def chosen_dtype(
    name_or_path: str | Path, device: str | None = None, revision: str | None = None
) -> str | None:
    """Return the precision that is chosen for a model on a processor, None for single precision.

    Precisions on other devices are those of the checkpoints, and not chosen: None. None as well
    for a model that is not there.
    """
    with contextlib.suppress(LlmsmcError):
        if Placement(device)._device().type != "cpu":
            return None
        dtype = _default_of(resolve(name_or_path), revision)
        return None if dtype == "float32" else dtype
    return None


@functools.lru_cache(64)
def _default_of(source: str, revision: str | None) -> str:
    return default_dtype(load_config(source, revision))


def stored_precision(name_or_path: str | Path) -> str | None:
    """Return the precision of the weights in a GGUF file, such as "Q4_K_M"; None for others."""
    return quantization_of(read_header(name_or_path)) if is_gguf(name_or_path) else None


def load_config(source: str, revision: str | None = None, cls: Any = AutoConfig) -> Any:
    """Return the configuration of a checkpoint as one of the class `cls`.

    Raises:
        InputError: there is none, or it has sizes that no network has.
    """
    with loading_errors(source):
        if is_gguf(source):
            return config_of(read_header(source))
        _settings_of(source, revision)
        return cls.from_pretrained(source, trust_remote_code=False, **at_revision(revision))


def _settings_of(source: str, revision: str | None) -> dict[str, Any]:
    """Return the contents of config.json, if a configuration can be made of it."""
    settings, _ = PreTrainedConfig.get_config_dict(source, **at_revision(revision))
    require_sane(source, settings)
    return dict(settings)


def _require_no_adapter(source: str, revision: str | None) -> None:
    """Raise `InputError` for a model that would be loaded with an adapter that nobody asked for."""
    if stored_file(source, "adapter_config.json", **at_revision(revision)):
        raise InputError(
            f"A model is loaded without an adapter unless one is named. Got {source} with a file "
            "adapter_config.json beside config.json; accepted: the adapter in a folder of its own, "
            "named as adapter=."
        )


@contextlib.contextmanager
def _names_of_tensors(source: str) -> Iterator[None]:
    """Name the tensors over which loading fails, as transformers itself only logs them."""
    with LoadingReport() as report:
        try:
            yield
        except Exception as error:
            if not report.names:
                raise
            got = f"not all of what {listed(report.names)} is made of"
            raise TensorsError(source, "its network", got, report.names) from error


_MAX_REASON: Final = 2000  # characters of what other libraries say of an error
GENERIC_TOKENIZERS: Final = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes that follow tokenizer.json alone."""


def load_tokenizer(
    source: str, revision: str | None = None, chat_template: str | Path | None = None
) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a checkpoint, with its chat template or the one that is given.

    Raises:
        InputError: there is no chat template, or the given one renders no question.
    """
    tokenizer = load_plain_tokenizer(source, revision)
    if chat_template is not None:
        tokenizer.chat_template = template_text(chat_template)
    require_chat_template(tokenizer, source)
    if chat_template is not None or is_gguf(source):
        _begin_as_texts_do(tokenizer)
    template_pool.POOL.start()  # while weights are read
    if chat_template is not None:
        chat_text(tokenizer, [{"role": "user", "content": "1 + 1"}])
    return tokenizer


def _begin_as_texts_do(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the template write the token with which each text begins, unless it does so itself."""
    begin, template = tokenizer.bos_token, tokenizer.chat_template
    if begin is None or not isinstance(template, str):
        return
    begins = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    if begins and "bos_token" not in template and str(begin) not in template:
        tokenizer.chat_template = "{{ bos_token }}" + template


def load_plain_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a checkpoint."""
    with loading_errors(source):
        if is_gguf(source):
            return tokenizer_of(read_header(source))
        with contextlib.suppress(OSError):  # a tokenizer may stand alone
            _settings_of(source, revision)  # of which transformers makes a configuration
        # `AutoTokenizer` prefers the class of the architecture, which splits texts in its own way,
        # even where the checkpoint says that tokenizer.json is all there is to its tokenizer.
        declared = get_tokenizer_config(source, revision=revision).get("tokenizer_class")
        loader = PreTrainedTokenizerFast if declared in GENERIC_TOKENIZERS else AutoTokenizer
        tokenizer: PreTrainedTokenizerBase = loader.from_pretrained(
            source, trust_remote_code=False, **at_revision(revision)
        )
    return tokenizer


def at_revision(revision: str | None) -> dict[str, Any]:
    """Return the argument of `from_pretrained` for a branch, tag or commit of the hub."""
    return {} if revision is None else {"revision": revision}


def require_chat_template(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Raise `InputError` if the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise InputError(
            f"The tokenizer of {source} has no chat template, so how a question is put to the "
            "model is not known. Got a base model, or files without theirs; accepted: an "
            "instruction-tuned model (chat_template in tokenizer_config.json, chat_template.jinja, "
            "tokenizer.chat_template of a GGUF file), or, for a policy, a template of yours "
            "(--chat-template FILE, chat_template=)."
        )


def require_embedded(tokenizer: PreTrainedTokenizerBase, model: Any, name: str) -> None:
    """Raise `InputError` if the tokenizer has an id for which the model has no embedding."""
    embeddings = model.get_input_embeddings()
    num_rows = getattr(embeddings, "num_embeddings", len(embeddings.weight))
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if largest >= num_rows:
        raise InputError(
            f"The tokenizer of {name} is of another model, or has tokens that the model was never "
            f"given. Got the id {largest} of the token {token!r} for {num_rows} embeddings; "
            f"accepted: ids up to {num_rows - 1}."
        )


@contextlib.contextmanager
def loading_errors(source: str) -> Iterator[None]:
    """Turn the many ways in which loading fails into an `InputError` that names the source."""
    try:
        yield
    except LlmsmcError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if len(reason) > _MAX_REASON:  # both ends, one of which says what to do
            half = _MAX_REASON // 2
            reason = f"{reason[:half]} ... {reason[-half:]}"
        reason = reason.rstrip(".")
        message = f"This model cannot be loaded: {reason}. {got_and_accepted(source)}"
        raise InputError(message) from error


@contextlib.contextmanager
def _progress_of_downloads_only(source: str) -> Iterator[None]:
    """Show no progress bar while files are read: bars are for slow downloads."""
    if not (Path(source).exists() and logging.is_progress_bar_enabled()):
        yield
        return
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def context_length(config: Any) -> int:
    """Return the number of positions for which a model is built.

    Rotations of the kind "longrope" change for the whole text when it grows beyond the length of
    the first training, and with them all keys; such a model is used up to there.

    Raises:
        InputError: the model has layers whose state is not a list of keys and values.
    """
    layer_kinds(config)
    text_config = config.get_text_config()
    lengths = [getattr(text_config, "max_position_embeddings", None) or 2**31]
    rotations = getattr(text_config, "rope_parameters", None) or {}
    for rotation in (rotations, *(v for v in rotations.values() if isinstance(v, dict))):
        if rotation.get("rope_type") == "longrope":
            stated = rotation.get("original_max_position_embeddings")
            lengths.append(stated or text_config.original_max_position_embeddings)
    return int(min(lengths))
