"""Imports of optional packages, at their first use."""

import importlib
from types import ModuleType

from llmsmc.errors import MissingExtraError


def optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a module of a package that comes with an extra.

    Args:
        module: the name of the module.
        extra: the extra of this library that installs the package.
        purpose: the feature that needs the package, as the subject of a sentence.

    Raises:
        MissingExtraError: the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f"{purpose} needs the package {package}. Got an installation without it; accepted: one "
            f"made by `pip install 'llmsmc[{extra}]'`."
        ) from error
