"""Populations of particles, whatever they are made of.

A population of N particles is a tensor `[N, ...]`; a tuple, list, named tuple, dict or dataclass
of populations; or an object of the model's own with these methods:

* `__len__()`: the number of particles,
* `__getitem__(indices)`: the population of the particles with these indices, repeats allowed;
  with a single integer, that particle,
* `select(mask, other)`: this population where `mask`, and `other` elsewhere;
* `concatenate(others)`: this population and others behind it, for algorithms that join some.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from llmsmc.errors import InputError


def num_particles(particles: Any) -> int:
    """Return N, the number of particles of the population."""
    if isinstance(particles, Tensor):
        return particles.shape[0] if particles.dim() else _not_a_population(particles)
    if is_tree(particles):
        sizes = {num_particles(child) for child in _children(particles)}
        return sizes.pop() if len(sizes) == 1 else _not_a_population(particles)
    if hasattr(particles, "__len__"):
        return len(particles)
    return _not_a_population(particles)


def take(particles: Any, indices: Int64[Tensor, " M"]) -> Any:
    """Return the population of the particles at `indices`; the original stays as it is."""
    return map_populations(lambda population: population[indices], particles)


def element(particles: Any, index: int) -> Any:
    """Return a single particle."""
    return map_populations(lambda population: population[index], particles)


def where(mask: Bool[Tensor, " N"], new: Any, old: Any) -> Any:
    """Return the particles of `new` where `mask`, and those of `old` elsewhere."""

    def choose(new: Any, old: Any) -> Any:
        if not isinstance(new, Tensor):
            return new.select(mask, old)
        if new.shape != old.shape:
            raise InputError(
                "Particles that have finished are kept beside those that go on, so both need one "
                f"shape. Got {tuple(old.shape)} before and {tuple(new.shape)} after the step."
            )
        column = mask.to(new.device).reshape(-1, *[1] * (new.dim() - 1))
        return torch.where(column, new, old)

    return map_populations(choose, new, old)


def concatenate(populations: Sequence[Any]) -> Any:
    """Return the particles of all populations, in order."""

    def join(first: Any, *others: Any) -> Any:
        if isinstance(first, Tensor):
            return torch.cat([first, *others])
        return first.concatenate(others)

    return map_populations(join, *populations)


def is_tree(particles: Any) -> bool:
    """Return whether the population is a container of populations."""
    if isinstance(particles, tuple | list | dict):
        return True
    return is_dataclass(particles) and not hasattr(particles, "__getitem__")


def map_populations(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply `function` to the corresponding tensors (or model's own objects) of the trees."""
    first = trees[0]
    if not is_tree(first):
        return function(*trees)
    rows = zip(*(_children(tree) for tree in trees), strict=True)
    values = [map_populations(function, *row) for row in rows]
    if isinstance(first, dict):
        return dict(zip(first, values, strict=True))
    if hasattr(first, "_fields"):
        return type(first)(*values)
    if isinstance(first, tuple | list):
        return type(first)(values)
    return replace(first, **dict(zip((f.name for f in fields(first)), values, strict=True)))


def named_populations(particles: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors (or model's own objects) of the tree by name; a lone one is called `x`.

    Keys and fields are joined by dots; what is in tuples and lists has its index in brackets.
    """
    if not is_tree(particles):
        yield name or "x", particles
        return
    for key, child in zip(_names(particles), _children(particles), strict=True):
        if isinstance(key, int):
            yield from named_populations(child, f"{name or 'x'}[{key}]")
        else:
            yield from named_populations(child, f"{name}.{key}" if name else key)


def _children(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return list(tree.values())
    if isinstance(tree, tuple | list):
        return list(tree)
    return [getattr(tree, field.name) for field in fields(tree)]


def _names(tree: Any) -> list[str | int]:
    """Return what the children of a tree are called, or their numbers."""
    if isinstance(tree, dict):
        return [str(key) for key in tree]
    if isinstance(tree, tuple | list):
        return list(getattr(tree, "_fields", range(len(tree))))
    return [field.name for field in fields(tree)]


def _not_a_population(particles: Any) -> int:
    raise InputError(
        f"A population holds N particles. Got a {type(particles).__name__} without a common "
        "number of them; accepted: tensors [N, ...], containers of them, objects with `len`."
    )
