"""Reading the files of a training; damaged files are refused by name."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from llmsmc.errors import InputError
from llmsmc.storage.strict_files import loads, read_bytes
from llmsmc.storage.typed import mismatch


def read_lines(path: Path, kind: Any) -> list[Any]:
    """Return the values in the lines of a file; an unfinished last line is left out.

    Args:
        path: the file.
        kind: the annotation of the value in a line.

    Raises:
        InputError: a line holds something else.
    """
    whole, _, _ = _read(path).rpartition(b"\n")
    found = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            value = loads(line)
            wrong = mismatch(value, kind, "it")
        except ValueError as error:
            wrong = str(error)
        if wrong is not None:
            raise damaged(path, f"line {number}: {wrong}")
        found.append(value)
    return found


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a checkpoint.

    Raises:
        InputError: it is no file of safetensors.
    """
    _read(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except Exception as error:  # the library names no errors that it raises
        raise damaged(path, str(error)) from error


def copy_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put the tensors of a checkpoint into all parameters of a model.

    Raises:
        InputError: one is missing, or has another shape.
    """
    parameters = {f"model.{name}": parameter for name, parameter in model.named_parameters()}
    for name, parameter in parameters.items():
        if name not in tensors or tensors[name].shape != parameter.shape:
            raise damaged(path, f"{name} is missing, or not {list(parameter.shape)}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, reason: str) -> InputError:
    """Return the error that names a damaged file."""
    return InputError(
        f"A training reads what it wrote. Got {str(path)!r}, {reason.rstrip('.')}; accepted: the "
        "file as it was written, or another folder."
    )
