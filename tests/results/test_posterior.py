import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmsmc import DegenerateWeightsError, InputError, Posterior
from llmsmc.core.cost import Cost
from llmsmc.core.history import StepRecord
from llmsmc.core.weights import as_log_weights, log_evidence
from llmsmc.results.estimates import answer_labels
from llmsmc.storage.serialization import save


def record(step: int, ancestors: list[int]) -> StepRecord:
    indices = torch.tensor(ancestors)
    return StepRecord(step, 3.0, 0.0, indices, step > 0, 0, None, 0.5)


def posterior(
    particles: Any, weights: list[float], recorded: tuple[Any, ...] | None = None
) -> Posterior:
    log_weights = as_log_weights([math.log(w) if w else -math.inf for w in weights])
    count = len(weights)
    return Posterior(
        algorithm="Test",
        guarantee="heuristic",
        seed=0,
        particles=particles,
        log_weights=log_weights,
        log_evidence=log_evidence(log_weights),
        history=(record(0, list(range(count))), record(1, [0, 0, 2][:count])),
        cost=Cost(seconds=1.0),
        truncated=torch.zeros(count, dtype=torch.bool),
        recorded=recorded,
    )


class Texts:
    def __init__(self, answers: list[str | None]) -> None:
        self._answers = answers

    def __getitem__(self, index: Any) -> Any:
        return self._answers[index]

    def answers(self) -> list[str | None]:
        return self._answers


STATES = torch.tensor([[1.0, 2.0], [3.0, 4.0], [math.nan, math.inf]])
WEIGHTS = [0.1, 0.3, 0.0]
EXAMPLE = posterior(STATES, WEIGHTS)


def test_means_do_not_see_the_dead() -> None:
    assert EXAMPLE.mean(lambda x: x).tolist() == pytest.approx([2.5, 3.5])
    assert float(EXAMPLE.mean(lambda x: x[:, 0] > 2)) == pytest.approx(0.75)
    assert float(EXAMPLE.mean(lambda x: [1, 2.0, 3])) == pytest.approx(1.75)
    assert float(EXAMPLE.mean(lambda x: np.array([1, 2, 3]))) == pytest.approx(1.75)
    assert EXAMPLE.log_evidence == pytest.approx(math.log(0.4))


def test_a_mean_needs_numbers() -> None:
    with pytest.raises(InputError, match="marginal"):
        EXAMPLE.mean(lambda x: ["a", "b", "c"])


def test_marginals_are_sorted_and_merge_equal_values() -> None:
    law = posterior(torch.tensor([4, 7, 4]), [0.3, 0.5, 0.3]).marginal(lambda x: x)
    assert list(law) == [4, 7]
    assert list(law.values()) == pytest.approx([6 / 11, 5 / 11])
    rows = EXAMPLE.marginal(lambda x: x)
    assert list(rows) == [(3.0, 4.0), (1.0, 2.0)]
    assert EXAMPLE.marginal(lambda x: ["a", None, "dead"]) == {
        None: pytest.approx(0.75),
        "a": pytest.approx(0.25),
    }


def test_the_standard_error_of_numbers_and_of_other_values() -> None:
    # Particles 0 and 1 are brothers: at step 0 there are two families, one of them dead, so that
    # dividing by step 1 says more.
    deviation = 0.25 * 0.75
    expected = math.sqrt(2) * deviation
    assert EXAMPLE.standard_error(lambda x: x[:, 0] > 2) == pytest.approx(expected)
    assert EXAMPLE.standard_error(lambda x: ["a", "b", "c"]) == {
        "b": pytest.approx(expected),
        "a": pytest.approx(expected),
    }
    errors = EXAMPLE.standard_error(lambda x: x)
    assert errors.tolist() == pytest.approx([2 * expected, 2 * expected])


def test_answers() -> None:
    texts = posterior(Texts(["12", None, "12"]), [0.2, 0.5, 0.3])
    assert texts.answers() == {"12": pytest.approx(0.5), "no answer": pytest.approx(0.5)}
    assert set(texts.standard_error(answer_labels)) == {"12", "no answer"}
    with pytest.raises(InputError, match="Only models of text have answers"):
        EXAMPLE.answers()


def test_the_best_particle() -> None:
    assert torch.equal(EXAMPLE.best(), STATES[1])
    assert posterior(Texts(["a", "b", "c"]), WEIGHTS).best() == "b"
    assert posterior({"x": STATES}, WEIGHTS).best()["x"].tolist() == [3.0, 4.0]


def test_trajectories_follow_the_ancestors() -> None:
    steps = (torch.tensor([10.0, 11.0, 12.0]), torch.tensor([20.0, 21.0, 22.0]))
    paths = posterior(steps[1], [1.0, 1.0, 1.0], steps).trajectories()
    assert paths.tolist() == [[10.0, 20.0], [10.0, 21.0], [12.0, 22.0]]
    trees = tuple({"x": step, "pair": (step, step[:, None])} for step in steps)
    tree = posterior(trees[1], [1.0, 1.0, 1.0], trees).trajectories()
    assert torch.equal(tree["x"], paths) and tree["pair"][1].shape == (3, 2, 1)
    with pytest.raises(InputError, match="record=True"):
        EXAMPLE.trajectories()


def test_samples_come_from_the_living() -> None:
    draws = EXAMPLE.sample(2000, seed=0)
    share = float((draws[:, 0] == 3.0).double().mean())
    assert abs(share - 0.75) < 5.2 * math.sqrt(0.75 * 0.25 / 2000)
    assert torch.equal(draws, EXAMPLE.sample(2000, seed=0))
    assert not torch.equal(draws, EXAMPLE.sample(2000, seed=1))


def test_a_dead_posterior_has_no_mean() -> None:
    dead = posterior(STATES, [0.0, 0.0, 0.0])
    assert dead.log_evidence == -math.inf and dead.effective_sample_size == 0.0
    with pytest.raises(DegenerateWeightsError):
        dead.mean(lambda x: x)


def test_saving_and_loading(tmp_path: Path) -> None:
    original = posterior({"x": STATES}, WEIGHTS, ({"x": STATES}, {"x": STATES + 1}))
    original.metadata["model"] = "none"
    original.save(tmp_path / "run")
    back = Posterior.load(tmp_path / "run")
    assert repr(back) == repr(original)
    assert back.metadata == {"model": "none"} and back.cost == original.cost
    assert torch.equal(back.log_weights, original.log_weights)
    torch.testing.assert_close(back.particles["x"], STATES, equal_nan=True, rtol=0, atol=0)
    assert back.mean(lambda x: x["x"]).tolist() == original.mean(lambda x: x["x"]).tolist()
    assert back.history[1].ancestors.tolist() == [0, 0, 2]
    recorded: Tensor = back.trajectories()["x"]
    assert recorded.shape == (3, 2, 2)


def test_loading_something_else_is_an_error(tmp_path: Path) -> None:
    save({"not": "a posterior"}, tmp_path)
    with pytest.raises(InputError, match="accepted: a Posterior"):
        Posterior.load(tmp_path)
