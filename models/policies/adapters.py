"""Adapters in the format of PEFT, on top of a language model."""

from pathlib import Path
from typing import Any, Final

from huggingface_hub import hf_hub_download
from transformers import PreTrainedModel

from llmsmc.errors import InputError
from llmsmc.extras import optional
from llmsmc.models.networks.pretrained import loading_errors

WEIGHTS: Final = "adapter_model.safetensors"
CONFIG: Final = "adapter_config.json"


def with_adapter(model: PreTrainedModel, adapter: str | Path, *, merge: bool) -> PreTrainedModel:
    """Return the model with an adapter, a folder or a name on the hub.

    Merged, the model is as fast as without; on quantised weights the adapter stays beside them, in
    full precision: merging would round it.

    Raises:
        InputError: there is no such adapter with safetensors weights, or none for this model.
        MissingExtraError: the package peft is not installed.
    """
    peft = optional("peft", extra="peft", purpose="An adapter")
    folder = _folder(adapter)
    with loading_errors(str(adapter)):
        config = peft.PeftConfig.from_pretrained(str(folder))
        if config.is_prompt_learning:
            raise InputError(
                "An adapter changes weights. Got one that puts learned embeddings before the "
                f"prompt ({config.peft_type.value}); accepted: LoRA and its kin."
            )
        wrapped: Any = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=False)
        adapted: Any = wrapped.merge_and_unload() if merge else wrapped.get_base_model()
    adapted.eval().requires_grad_(False)
    assert isinstance(adapted, PreTrainedModel)
    return adapted


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
