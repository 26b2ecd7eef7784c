"""Unknown parameters of a model, as unconstrained vectors with a prior.

Kernels move the parameters as a vector of real numbers. The transform of its support maps each
parameter to the vector.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float64
from torch import Generator, Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.transforms import Transform

from llmsmc.core.priors import Prior, check_prior
from llmsmc.core.randomness import sample
from llmsmc.core.state_space_model import StateSpaceModel
from llmsmc.errors import InputError


@dataclass(frozen=True)
class Parameters:
    """Parameters with their prior.

    Attributes:
        prior: the distribution of each parameter.
    """

    prior: Prior

    def __post_init__(self) -> None:
        """Check the prior."""
        check_prior(self.prior)

    @cached_property
    def _transforms(self) -> dict[str, Transform]:
        try:
            return {name: biject_to(law.support) for name, law in self.prior.items()}
        except NotImplementedError as error:
            raise InputError(
                "Parameters are moved as real numbers. Got a prior with another support: "
                f"{dict(self.prior)!r}; accepted: continuous laws."
            ) from error

    @cached_property
    def _shapes(self) -> dict[str, torch.Size]:
        return {name: law.batch_shape + law.event_shape for name, law in self.prior.items()}

    def draw(self, count: int, generator: Generator) -> Float64[Tensor, "M D"]:
        """Draw vectors from the prior; consumes `generator`."""
        values = {name: sample(law, (count,), generator) for name, law in self.prior.items()}
        columns = [
            transform.inv(values[name].double()).reshape(count, -1)
            for name, transform in self._transforms.items()
        ]
        return torch.cat(columns, dim=1)

    def values(self, vectors: Float64[Tensor, "M D"]) -> dict[str, Tensor]:
        """Return the parameters of M vectors, each `[M, ...]`."""
        found, start = {}, 0
        for name, transform in self._transforms.items():
            size = self._size(name)
            columns = vectors[:, start : start + size]
            found[name] = transform(columns.reshape(len(vectors), *self._free_shape(name)))
            start += size
        return found

    def set_in(self, model: StateSpaceModel, vector: Float64[Tensor, " D"]) -> StateSpaceModel:
        """Return the model with the parameters of a vector."""
        values = self.values(vector[None])
        return model.with_parameters({name: value[0] for name, value in values.items()})

    def log_density(self, vectors: Float64[Tensor, "M D"]) -> Float64[Tensor, " M"]:
        """Return the log of the prior density of the vectors."""
        total, start = torch.zeros(len(vectors), dtype=torch.float64), 0
        for name, transform in self._transforms.items():
            size = self._size(name)
            free = vectors[:, start : start + size].reshape(len(vectors), *self._free_shape(name))
            value = transform(free)
            density = self.prior[name].log_prob(value).double() + _volume(
                transform, free, value, self.prior[name]
            )
            total = total + density.reshape(len(vectors), -1).sum(1)
            start += size
        return total

    def _free_shape(self, name: str) -> torch.Size:
        shape: torch.Size = self._transforms[name].inverse_shape(self._shapes[name])
        return shape

    def _size(self, name: str) -> int:
        return self._free_shape(name).numel()


def _volume(transform: Transform, free: Tensor, value: Tensor, law: Distribution) -> Tensor:
    """Return the log-determinant of the transform, in the shape of the law's log-density."""
    change: Tensor = transform.log_abs_det_jacobian(free, value)
    extra = change.dim() - (value.dim() - len(law.event_shape))
    return change.sum(tuple(range(-extra, 0))) if extra > 0 else change
