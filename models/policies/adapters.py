"""Adapters in the format of PEFT, on top of a language model."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from huggingface_hub import hf_hub_download
from transformers import PreTrainedModel

from llmsmc.core.extras import optional
from llmsmc.errors import InputError
from llmsmc.models.pretrained.checkpoints import (
    FEW,
    StoredTensors,
    bound_of,
    few_parts,
    integers,
    read_headers,
    require_same_tensors,
)
from llmsmc.models.pretrained.loading import loading_errors

WEIGHTS: Final = "adapter_model.safetensors"
CONFIG: Final = "adapter_config.json"

_SMALL: Final = 2**12  # sizes that cost nothing, whatever the file holds
_NETWORK: Final = "an adapter of this model"


def with_adapter(model: PreTrainedModel, adapter: str | Path, *, merge: bool) -> PreTrainedModel:
    """Return the model with an adapter, a folder or a name on the hub.

    Merged, the model is as fast as without; on quantised weights the adapter stays beside them, in
    full precision: merging would round it. It stays beside tied embeddings, too, if it changes one
    side of them.

    Raises:
        InputError: there is no such adapter with safetensors weights, or none for this model.
        TensorsError: tensors of the adapter are missing, unexpected or of other shapes.
        MissingExtraError: the package peft is not installed.
    """
    peft = optional("peft", extra="peft", purpose="An adapter")
    network: Any = model  # of which the types of transformers know too little
    first, last = network.get_input_embeddings(), network.get_output_embeddings()
    tied = last is not None and first.weight is last.weight
    folder = _folder(adapter)
    with loading_errors(str(adapter)):
        config = peft.PeftConfig.from_pretrained(str(folder))
        if config.is_prompt_learning or config.is_adaption_prompt:
            raise InputError(
                "An adapter changes weights. Got one that puts learned embeddings before the "
                f"prompt or its keys ({config.peft_type.value}); accepted: LoRA and its kin."
            )
        stored = read_headers([folder / WEIGHTS])
        _require_sizes(adapter, config, stored)
        num_tensors = len(stored.shapes) + len(model.state_dict())
        with (
            warnings.catch_warnings(),
            _missing_names(adapter, stored),
            few_parts(str(adapter), num_tensors),
        ):
            # What is missing or of another shape is an error here, and told with all the rest.
            warnings.filterwarnings("ignore", "Found missing adapter keys|Some weights of")
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")  # see below
            wrapped: Any = peft.PeftModel.from_pretrained(
                model, str(folder), is_trainable=False, ignore_mismatched_sizes=True
            )
        own = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
        _require_loaded(adapter, wrapped, own, stored)
        # Merged into a weight that two layers share, what one of them has learned acts in both.
        sides = (network.get_input_embeddings(), network.get_output_embeddings())
        adapts = any(isinstance(side, peft.tuners.tuners_utils.BaseTunerLayer) for side in sides)
        merge = merge and not (tied and adapts)
        adapted: Any = wrapped.merge_and_unload() if merge else wrapped.get_base_model()
    adapted.eval().requires_grad_(False)
    assert isinstance(adapted, PreTrainedModel)
    return adapted


def _require_sizes(adapter: str | Path, config: Any, stored: StoredTensors) -> None:
    """Raise `InputError` for ranks and sizes that no tensor has, before tensors are made.

    And for numbers of iterations, which may stand within a text ("pissa_niter_16").
    """
    settings = config.to_dict()
    texts = [text for text in settings.values() if isinstance(text, str)]
    iterations = [
        (text, int(n[1])) for text in texts if (n := re.search(r"_niter_(\d{1,99})", text))
    ]
    for name, value in [*integers(settings), *iterations]:
        few = name == "r" or name.startswith("rank_pattern") or name.endswith("iter")
        limit = max(FEW if few else _SMALL, stored.largest_dimension)
        if value > limit and bound_of(name) is not None:
            raise InputError(
                f"The configuration of {adapter} asks for a larger adapter than its file holds. "
                f"Got {name} = {value} for {len(stored.shapes)} tensors, the largest dimension of "
                f"which is {stored.largest_dimension}; accepted: the configuration that was saved "
                "with the weights."
            )


def _require_loaded(
    adapter: str | Path, wrapped: Any, own: dict[str, Any], stored: StoredTensors
) -> None:
    """Hold the tensors of the adapter, `own`, against those of its file.

    PEFT leaves the first values in what is missing, with which an adapter changes nothing.
    """
    # Beside its own, a file may have the embeddings of the model that it was trained with.
    shapes = {name: tuple(tensor.shape) for name, tensor in (wrapped.state_dict() | own).items()}
    require_same_tensors(
        str(adapter),
        _NETWORK,
        sorted(own.keys() - stored.shapes.keys()),
        sorted(stored.shapes.keys() - shapes.keys()),
        [
            (name, shape, shapes[name])
            for name, shape in sorted(stored.shapes.items())
            if shapes.get(name, shape) != shape
        ],
    )


@contextlib.contextmanager
def _missing_names(adapter: str | Path, stored: StoredTensors) -> Iterator[None]:
    """Name the tensors that PEFT itself looks up in the file of an adapter, and does not find."""
    try:
        yield
    except KeyError as error:
        name = str(error.args[0])
        if not name.startswith("base_model.") or name in stored.shapes:
            raise
        require_same_tensors(str(adapter), _NETWORK, [name], [], [])


def _folder(adapter: str | Path) -> Path:
    """Return where the files are, of which only the configuration and safetensors are fetched."""
    folder = Path(adapter)
    if not folder.is_dir():
        if isinstance(adapter, Path):
            raise _no_adapter(adapter)
        with loading_errors(adapter):
            hf_hub_download(adapter, WEIGHTS)
            folder = Path(hf_hub_download(adapter, CONFIG)).parent
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        raise _no_adapter(adapter)
    return folder


def _no_adapter(adapter: str | Path) -> InputError:
    return InputError(
        f"There is no such adapter. Got {str(adapter)!r}; accepted: a folder, or a name on the "
        f"hub, with {CONFIG} and {WEIGHTS}."
    )
