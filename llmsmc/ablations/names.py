"""The plans that come with the library; a plan is a file in `plans/` and nothing else."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

PLANS: Final[dict[str, Traversable]] = {
    each.name.removesuffix(".toml"): each
    for each in sorted((files("llmsmc.ablations") / "plans").iterdir(), key=lambda file: file.name)
    if each.name.endswith(".toml")
}
"""Name -> file."""
