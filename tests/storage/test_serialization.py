import json
import math
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import Posterior, StateSpaceModel, inference
from llmsmc.core.cost import Cost
from llmsmc.errors import InputError
from llmsmc.storage.serialization import load, save
from tests.toys import early_stopper


class Point(NamedTuple):
    x: Tensor
    y: float


@dataclass(frozen=True)
class Box:
    corner: Point
    label: str | None


def test_everything_comes_back(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    value: dict[str, Any] = {
        "numbers": [1, 2.5, math.inf, -math.inf, True, None],
        "tensors": (shared, shared, torch.tensor([True]), torch.tensor(3.0, dtype=torch.bfloat16)),
        "box": Box(Point(torch.zeros(0), 1e-300), 'ünïcode \x00 "quoted"'),
        "cost": Cost(seconds=1.0),
        "empty": ({}, [], ()),
    }
    save(value, tmp_path / "deep" / "value")
    back = load(tmp_path / "deep" / "value", types=[Point, Box])
    assert back["numbers"] == value["numbers"]
    assert back["cost"] == value["cost"]
    assert back["empty"] == value["empty"]
    for one, other in zip(back["tensors"], value["tensors"], strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert isinstance(back["box"], Box) and isinstance(back["box"].corner, Point)
    assert back["box"].corner.y == 1e-300
    assert back["box"].label == value["box"].label


def test_dictionaries_that_look_like_tags_come_back(tmp_path: Path) -> None:
    value = {"tensor": "0", "nested": {"type": "os:system", "fields": {"dict": {}}}}
    save(value, tmp_path)
    assert load(tmp_path) == value


@pytest.mark.parametrize(
    "value", [{1: 2}, {1, 2}, object(), Cost], ids=lambda value: type(value).__name__
)
def test_what_cannot_be_saved_is_an_error_and_leaves_nothing(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be saved"):
        save(value, tmp_path / "value")
    assert not (tmp_path / "value").exists()


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "tests.storage.test_serialization:Box",
        "llmsmc.storage.serialization:Path",
        "llmsmc.inference.nothing:Nothing",
        "llmsmc.__main__:main",
    ],
)
def test_files_cannot_name_any_type(name: str, tmp_path: Path) -> None:
    save({}, tmp_path)
    document = {"type": name, "fields": {"dict": {}}}
    (tmp_path / "document.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="not known here"):
        load(tmp_path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Nothing saved"):
        load(tmp_path / "nowhere")


def test_ordered_dictionaries_are_dictionaries(tmp_path: Path) -> None:
    save(OrderedDict(a=1), tmp_path)
    assert load(tmp_path) == {"a": 1}


class LocalLevel(StateSpaceModel):
    """A random walk that is observed with noise, with the scale of its steps as a parameter."""

    def __init__(self, scale: Any = 0.5) -> None:
        self.scale = scale

    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Any) -> Any:
        return dist.Normal(previous, self.scale)

    def observation(self, t: int, state: Any) -> Any:
        return dist.Normal(state, 1.0)


PRIOR: dict[str, Any] = {"scale": dist.LogNormal(-1.0, 0.5)}
ON_NUMBERS = [
    inference.BootstrapFilter(4),
    inference.BootstrapFilter(4, record=False),
    inference.IslandFilter(num_islands=2, num_particles=4),
    inference.ParticleCascade(4),
    inference.ParticleGibbs(4, num_sweeps=3),
    inference.ParticleMarginalMetropolisHastings(PRIOR, num_iterations=4, num_warmup=2),
    inference.SMC2(PRIOR, 4, 4, num_moves=1),
]
ON_TEXTS = [
    inference.BootstrapFilter(4),
    inference.CoalescingFilter(4),
    inference.EntropicFilter(4),
    inference.NestedFilter(4),
    inference.RejectionFilter(4),
    inference.PublishedParticleFilter(4),
    inference.ResampleMove(4),
    inference.TemperedSMC(4),
    inference.ParticleGibbs(4, num_sweeps=3),
    inference.ParticleCascade(4),
    inference.BestOfN(4),
    inference.WeightedBestOfN(4),
    inference.BeamSearch(4),
    inference.DiverseVerifierTreeSearch(4),
    inference.SelfConsistency(4),
]


@pytest.mark.parametrize(
    ("algorithm", "on_texts"),
    [*((each, False) for each in ON_NUMBERS), *((each, True) for each in ON_TEXTS)],
    ids=lambda value: type(value).__name__,
)
def test_what_every_algorithm_finds_comes_back(
    algorithm: Any, on_texts: bool, tmp_path: Path
) -> None:
    if on_texts:
        posterior = algorithm.run(early_stopper(3), seed=0)
    else:
        posterior = algorithm.run(LocalLevel(), [0.3, 1.8, -0.4], seed=0)
    posterior.save(tmp_path)
    back = Posterior.load(tmp_path)
    assert repr(back) == repr(posterior) and back._repr_html_() == posterior._repr_html_()
