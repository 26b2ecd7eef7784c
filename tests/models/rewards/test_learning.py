"""A judge looks at what helps, is as large as it need be, and tells ends from ways."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from llmsmc.models.rewards.probe import learning
from llmsmc.models.rewards.probe.learning import Choice, Steps, choices, chosen, trained_judge


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
    assert {each.choice for each in history} == set(choices(2))
    is_end = inputs[:, 0] > 1
    moved = inputs.clone()
    moved[:, 1 - best] += 5
    assert torch.equal(judge(moved, is_end), judge(inputs, is_end))


def test_a_judge_is_as_large_as_there_is_something_to_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((3000, 20), generator=generator)
    noise = torch.randn(3000, generator=generator)
    straight = (inputs[:, :5].sum(1) + 3 * noise > 0).float()
    crossed = (inputs[:, 0] * inputs[:, 1] > 0).float()  # no line tells them apart
    widths = []
    for labels in (straight, crossed):
        train, validation = steps(inputs[:2000], labels[:2000]), steps(inputs[2000:], labels[2000:])
        judge, history = trained_judge(train, validation, [torch.ones(20)], epochs=20, seed=0)
        widths.append(judge.widths)
        least = min(each.loss for each in history if each.choice.widths == judge.widths)
        log_odds = judge(validation.inputs, validation.is_end).detach()
        loss = binary_cross_entropy_with_logits(log_odds, validation.labels)
        assert float(loss) < least + 0.02
        # The others are trained for the choice that was taken alone.
        others = {each.choice for each in history if each.number}
        assert [each.widths for each in others] == ([judge.widths] if judge.widths else [])
    assert widths == [(), (256, 256)]


def test_a_line_is_the_minimum_of_its_loss() -> None:
    """Any other line is worse, by the gradient and by its neighbours."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn((300, 4), generator=generator)
    labels = (inputs[:, 0] + torch.randn(300, generator=generator) > 0).float()
    train = steps(inputs, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "PENALTIES", (0.01,))
        patch.setattr(learning, "WIDTHS", ())
        judge, _ = trained_judge(train, train, [torch.ones(4)], epochs=1, seed=0)
    (member,) = judge.members
    line = list(member.children())[-1]
    assert isinstance(line, torch.nn.Linear)
    told = judge.told(inputs, train.is_end)

    def loss(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        log_odds = told @ weight.squeeze(0) + bias
        return binary_cross_entropy_with_logits(log_odds, labels) + 0.01 * weight.square().sum()

    gradients = torch.autograd.grad(loss(line.weight, line.bias), [line.weight, line.bias])
    for gradient in gradients:
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-4, rtol=0)


def test_the_smallest_judge_that_is_not_clearly_worse_is_taken() -> None:
    tried = [Choice(0, penalty=0.1), Choice(1, penalty=0.1), Choice(0, (8,)), Choice(0, (8, 8))]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((4, 400), generator=generator)
    centred = noise - noise.mean(1, keepdim=True)

    def losses(*means: float) -> list[torch.Tensor]:
        return [mean + 0.1 * row for mean, row in zip(means, centred, strict=True)]

    assert chosen(tried, losses(0.504, 0.502, 0.5, 0.499)) == 1  # a line, the better one
    assert chosen(tried, losses(0.54, 0.56, 0.501, 0.5)) == 2
    assert chosen(tried, losses(0.54, 0.56, 0.58, 0.5)) == 3
    assert chosen(tried, [torch.ones(5)] * 4) == 0


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
