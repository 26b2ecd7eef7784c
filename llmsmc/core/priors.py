"""Parameters of a model: attributes with a prior distribution.

A prior is a dictionary of distributions, `{"scale": dist.Gamma(2, 2), ...}`; its keys are names of
attributes of the model.
"""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor
from torch.distributions import Distribution

from llmsmc.errors import InputError

Prior = Mapping[str, Distribution]
"""The law of each parameter, by name; they are independent."""

Owner = TypeVar("Owner")


def check_prior(prior: Any) -> None:
    """Raise `InputError` unless the prior names laws."""
    if not prior or not all(isinstance(law, Distribution) for law in prior.values()):
        raise InputError(
            f"A prior names laws. Got {dict(prior)!r}; accepted: a dictionary of at least "
            "one distribution, by the names of attributes of the model."
        )


def with_attributes(owner: Owner, values: Mapping[str, Tensor]) -> Owner:
    """Return a copy of a model, or of a program, with other values of some attributes.

    Raises:
        InputError: the model has no attribute of one of the names.
    """
    changed = copy.copy(owner)
    for name, value in values.items():
        if not hasattr(owner, name):
            raise InputError(
                f"A parameter is an attribute of the model. Got {name!r} for a "
                f"{type(owner).__name__}, which has none of that name."
            )
        object.__setattr__(changed, name, value)
    return changed
