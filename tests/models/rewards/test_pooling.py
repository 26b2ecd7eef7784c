"""What is pooled of each step is what a loop over its tokens finds; a judge uses what helps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from llmsmc.models.rewards.probe.judge import PERCEPTRONS, SHAPES, Steps, trained_judge
from llmsmc.models.rewards.probe.pooling import NUM_SURPRISES, POOLS, pooled


@given(st.data())
def test_states_are_those_that_a_loop_finds(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1))
    behind = data.draw(st.integers(0, 3))
    length = max(map(sum, sizes)) + behind
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    features = torch.randn((len(sizes), length, NUM_SURPRISES + 3), generator=generator)
    # Few values, so that several tokens of a step are the least probable one.
    log_probs = -torch.randint(0, 4, (len(sizes), length), generator=generator).double()
    most = max(map(len, sizes))
    counted = torch.tensor([[n < len(row) for n in range(most)] for row in sizes])
    bounds = torch.zeros((len(sizes), most + 1), dtype=torch.long)
    for row, of_row in enumerate(sizes):
        bounds[row, 1 : len(of_row) + 1] = torch.tensor(of_row).cumsum(0)
    _, states = pooled(features, log_probs, bounds, counted)
    for row, of_row in enumerate(sizes):
        hidden, start = features[row, :, NUM_SURPRISES:], 0
        for step, size in enumerate(of_row):
            end = start + size
            least = min(range(start, end), key=lambda place: float(log_probs[row, place]))  # noqa: B023
            expected = [
                hidden[start:end].mean(0),
                hidden[end - 1],
                hidden[:end].mean(0),
                hidden[least],
                hidden[min(least + 1, end - 1)],
            ]
            torch.testing.assert_close(states[row, step], torch.stack(expected))
            start = end
    assert states.shape[2] == len(POOLS)


def steps(inputs: torch.Tensor, labels: torch.Tensor) -> Steps:
    return Steps(inputs, torch.zeros(len(labels), dtype=torch.bool), labels)


@pytest.mark.parametrize("best", [0, 1])
def test_a_judge_looks_at_the_inputs_with_which_it_is_right(best: int) -> None:
    generator = torch.Generator().manual_seed(best)
    inputs = torch.randn((400, 2), generator=generator)
    labels = (inputs[:, best] > 0).float()
    train, validation = steps(inputs[:300], labels[:300]), steps(inputs[300:], labels[300:])
    uses = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    judge, history = trained_judge(train, validation, uses, epochs=4, seed=0)
    assert judge.used.tolist() == uses[best].tolist()
    assert {entry["choice"] for entry in history} == {float(n) for n in range(2 * len(SHAPES))}
    is_end = inputs[:, 0] > 1
    moved = inputs.clone()
    moved[:, 1 - best] += 5
    assert torch.equal(judge(moved, is_end), judge(inputs, is_end))


def test_perceptrons_are_as_large_as_is_best_on_validation() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((3000, 20), generator=generator)
    noise = torch.randn(3000, generator=generator)
    straight = (inputs[:, :5].sum(1) + 3 * noise > 0).float()
    crossed = (inputs[:, 0] * inputs[:, 1] > 0).float()  # no line tells them apart
    chosen = []
    for labels in (straight, crossed):
        train = steps(inputs[:2000], labels[:2000])
        validation = steps(inputs[2000:], labels[2000:])
        judge, history = trained_judge(train, validation, [torch.ones(20)], epochs=20, seed=0)
        chosen.append(judge.widths)
        firsts = [entry for entry in history if entry["perceptron"] == 0]
        best = min(firsts, key=lambda entry: entry["validation_loss"])
        assert SHAPES.index(judge.widths) == best["choice"]
        log_odds = judge(validation.inputs, validation.is_end).detach()
        loss = binary_cross_entropy_with_logits(log_odds, validation.labels)
        assert float(loss) < best["validation_loss"] + 0.02
        # The others are trained for the choice that was taken alone.
        others = {entry["choice"] for entry in history if entry["perceptron"]}
        assert others == {best["choice"]}
        assert {entry["perceptron"] for entry in history} == set(range(PERCEPTRONS))
    assert chosen[1] == (256, 256)


def test_what_tells_that_a_solution_ends_right_may_be_another_thing_than_on_its_way() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((1200, 3), generator=generator)
    is_end = torch.rand(1200, generator=generator) < 0.25
    labels = torch.where(is_end, inputs[:, 0] < 0, inputs[:, 0] > 0).float()
    train = Steps(inputs[:900], is_end[:900], labels[:900])
    validation = Steps(inputs[900:], is_end[900:], labels[900:])
    judge, _ = trained_judge(train, validation, [torch.ones(3)], epochs=40, seed=0)
    said = judge(validation.inputs, validation.is_end) > 0
    assert float((said == validation.labels.bool()).float().mean()) > 0.95
    blind = judge(validation.inputs, torch.zeros(300, dtype=torch.bool)) > 0
    assert float((blind == validation.labels.bool())[validation.is_end].float().mean()) < 0.1
