from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from llmsmc.core.particles import (
    components,
    element,
    named_populations,
    num_particles,
    take,
    where,
)
from llmsmc.errors import InputError


class Pair(NamedTuple):
    position: Tensor
    speed: Tensor


@dataclass(frozen=True)
class Body:
    position: Tensor
    parts: dict[str, Tensor]


class Words:
    """A population of the model's own kind."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int):
            return self.words[index]
        return Words([self.words[i] for i in index.tolist()])

    def select(self, mask: Tensor, other: "Words") -> "Words":
        pairs = zip(mask.tolist(), self.words, other.words, strict=True)
        return Words([new if keep else old for keep, new, old in pairs])


def tensor() -> Tensor:
    return torch.arange(3)


def matrix() -> Tensor:
    return torch.arange(6).reshape(3, 2)


def as_lists(tree: Any) -> Any:
    """A population as plain lists that can be compared."""
    match tree:
        case Tensor():
            return tree.tolist()
        case Words():
            return tree.words
        case Body():
            return [as_lists(tree.position), as_lists(tree.parts)]
        case dict():
            return {key: as_lists(value) for key, value in tree.items()}
        case tuple() | list():
            return [as_lists(value) for value in tree]
    return tree


POPULATIONS = [
    tensor(),
    matrix(),
    (tensor(), matrix()),
    [tensor()],
    Pair(tensor(), matrix()),
    {"position": tensor(), "words": Words(["a", "b", "c"])},
    Body(tensor(), {"inner": matrix()}),
    Words(["a", "b", "c"]),
]


@pytest.mark.parametrize("population", POPULATIONS, ids=lambda p: type(p).__name__)
def test_gathering(population: Any) -> None:
    before = as_lists(population)
    assert num_particles(population) == 3
    taken = take(population, torch.tensor([2, 2, 0, 1]))
    assert type(taken) is type(population)
    assert num_particles(taken) == 4
    assert as_lists(take(taken, torch.tensor([2, 3, 0]))) == before
    assert as_lists(element(taken, 2)) == as_lists(element(population, 0))
    assert as_lists(population) == before


@pytest.mark.parametrize("population", POPULATIONS, ids=lambda p: type(p).__name__)
def test_choosing(population: Any) -> None:
    reversed_ = take(population, torch.tensor([2, 1, 0]))
    chosen = where(torch.tensor([True, False, False]), reversed_, population)
    assert type(chosen) is type(population)
    assert as_lists(chosen) == as_lists(take(population, torch.tensor([2, 1, 2])))


def test_what_is_no_population_is_an_error() -> None:
    for wrong in (torch.tensor(1.0), 3.0, (torch.zeros(2), torch.zeros(3))):
        with pytest.raises(InputError, match="A population holds N particles"):
            num_particles(wrong)


def test_finished_and_growing_particles_need_one_shape() -> None:
    with pytest.raises(InputError, match=r"Got \(2, 1\) before and \(2, 2\)"):
        where(torch.tensor([True, False]), torch.zeros(2, 2), torch.zeros(2, 1))


def test_populations_have_names() -> None:
    tree = {
        "body": Body(tensor(), {"a": matrix()}),
        "pair": Pair(tensor(), tensor()),
        3: (Words([]),),
    }
    names = ["body.position", "body.parts.a", "pair.position", "pair.speed", "x.3.0"]
    assert [name for name, _ in named_populations(tree)] == names
    assert [name for name, _ in named_populations((tensor(), [tensor()]))] == ["x.0", "x.1.0"]
    assert [name for name, _ in named_populations(tensor())] == ["x"]


def test_parts_correspond_by_name() -> None:
    old = {"position": tensor(), "speed": tensor() + 10}
    new = {"speed": tensor() + 30, "position": tensor() + 20}
    kept = where(torch.tensor([True, False, True]), new, old)
    assert as_lists(kept) == {"speed": [30, 11, 32], "position": [20, 1, 22]}


@pytest.mark.parametrize("other", [{"position": tensor()}, (tensor(), tensor()), tensor()])
def test_trees_of_other_parts_are_named(other: Any) -> None:
    tree = {"position": tensor(), "speed": tensor()}
    with pytest.raises(InputError, match="correspond part by part"):
        where(torch.ones(3, dtype=torch.bool), tree, other)


def test_components_have_names() -> None:
    tree = Body(tensor(), {"inner": matrix()}), Pair(tensor(), matrix())
    names = [name for name, _ in components(tree)]
    assert names == ["0.position", "0.parts.inner", "1.position", "1.speed"]
    assert [name for name, _ in components(tensor())] == [""]
