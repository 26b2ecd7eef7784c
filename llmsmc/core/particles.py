"""Populations of particles: tensors, trees of tensors, or objects of a model.

A population of N particles is a tensor `[N, ...]`; a tuple, list, named tuple, dict or dataclass
of populations; or an object of the model's own with these methods:

* `__len__()`: the number of particles,
* `__getitem__(indices)`: the population of the particles with these indices, repeats allowed;
  with a single integer, that particle,
* `select(mask, other)`: the particles of this population where `mask` is true, else of `other`;
* `concatenate(others)`: this population followed by others, for algorithms that join populations.
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
        sizes = {num_particles(child) for child in children(particles).values()}
        return sizes.pop() if len(sizes) == 1 else _not_a_population(particles)
    if hasattr(particles, "__len__") and not isinstance(particles, str):
        return len(particles)
    return _not_a_population(particles)


def take(particles: Any, indices: Int64[Tensor, " M"]) -> Any:
    """Return the population of the particles at `indices`; the original stays as it is."""
    if is_tree(particles):
        return map_populations(lambda population: take(population, indices), particles)
    if not isinstance(particles, Tensor) or particles.device != indices.device:
        return particles[indices]
    # A gather of single numbers is several times as fast as a gather of rows.
    if particles.numel() == particles.shape[0] and particles.is_contiguous():
        return particles.view(-1).index_select(0, indices).view(-1, *particles.shape[1:])
    return particles.index_select(0, indices)


def element(particles: Any, index: int) -> Any:
    """Return a single particle."""
    return map_populations(lambda population: population[index], particles)


def where(mask: Bool[Tensor, " N"], new: Any, old: Any) -> Any:
    """Return the particles of `new` where `mask` is true, and the particles of `old` elsewhere."""

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
    if isinstance(particles, Tensor):  # the usual one
        return False
    if isinstance(particles, tuple | list | dict):
        return True
    return is_dataclass(particles) and not hasattr(particles, "__getitem__")


def map_populations(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply `function` to the corresponding tensors (or model's own objects) of the trees."""
    first = trees[0]
    if not is_tree(first):
        return function(*trees)
    values = {name: map_populations(function, *row) for name, row in _rows(trees)}
    if isinstance(first, dict):
        return values
    if hasattr(first, "_fields"):
        return type(first)(**values)
    if isinstance(first, tuple | list):
        return type(first)(values.values())
    return replace(first, **values)


def components(*trees: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield the corresponding tensors (or model's own objects) of the trees, each with its name.

    >>> [name for name, _ in components({"level": 0, "pair": (1, 2)})]
    ['level', 'pair.0', 'pair.1']
    """
    if not is_tree(trees[0]):
        yield "", list(trees)
        return
    for name, row in _rows(trees):
        for rest, values in components(*row):
            yield f"{name}.{rest}" if rest else str(name), values


def named_populations(particles: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors (or model's own objects) of the tree with names that can stand alone.

    A lone tensor is called `x`; so is a tuple or list of tensors.
    """
    for name, (values,) in components(particles):
        yield name if name and not name[0].isdigit() else f"x.{name}" if name else "x", values


def _rows(trees: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """Return the corresponding children of the trees, each with its name in the first.

    Raises:
        InputError: the trees have different children.
    """
    named = [children(tree) for tree in trees]
    for other in named:
        if other.keys() != named[0].keys():
            raise InputError(
                f"Trees of particles correspond part by part. Got {list(other)}; accepted: "
                f"{list(named[0])}."
            )
    return [(name, [children[name] for children in named]) for name in named[0]]


def children(tree: Any) -> dict[Any, Any]:
    """Return the parts of a tree by their names: keys, names of fields, or places."""
    if isinstance(tree, dict):
        return tree
    if hasattr(tree, "_fields"):
        return dict(tree._asdict())
    if isinstance(tree, tuple | list):
        return dict(enumerate(tree))
    if is_tree(tree):
        return {field.name: getattr(tree, field.name) for field in fields(tree)}
    return {type(tree).__name__: tree}


def _not_a_population(particles: Any) -> int:
    raise InputError(
        f"A population holds N particles. Got a {type(particles).__name__} without a common "
        "number of them; accepted: tensors [N, ...], containers of them, objects with `len`."
    )
