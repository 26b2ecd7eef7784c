"""Where the files of real models are, for tests that are marked `real_model`."""

from pathlib import Path

import pytest

from benchmarks.real_models import MODELS, VARIABLE, folder_of_models

QWEN = MODELS["qwen2.5-coder-0.5b-instruct"].file
SMOLLM = MODELS["smollm2-135m-instruct"].file


def real_model(name: str) -> Path:
    """Return the file of a real model; skip the test where there is none."""
    path = folder_of_models() / name
    if not path.is_file():
        pytest.skip(f"there is no {path}: make real fetches it, and {VARIABLE} names its folder")
    return path
