import os
from collections.abc import Iterator
from pathlib import Path

import torch
from hypothesis import settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parent.parent


def modules_with_shapes() -> Iterator[str]:
    """Yield the modules whose annotations name the shapes of arrays."""
    for folder, _, files in os.walk(ROOT / "llmsmc", followlinks=True):
        for path in (Path(folder, file) for file in files if file.endswith(".py")):
            if "\nfrom jaxtyping import" in path.read_text():
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


# Calls of these modules are checked while the tests run, which mypy cannot do. Checking all others
# as well would slow the suite down, to find what mypy finds.
install_import_hook(list(modules_with_shapes()), "beartype.beartype")
torch.set_num_threads(1)
settings.register_profile("llmsmc", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("llmsmc")
