"""How a judge learns: which inputs it looks at, and how large it is, is chosen on validation.

A line is the better judge where a few thousand steps are learnt, and hidden layers where there are
ten times as many. So lines of several penalties and perceptrons of several sizes are tried, on
several choices of inputs. The judge is of the smallest size that is not worse than the best one by
more than a standard error of the difference of their losses on the validation set, and of this size
the best one. Of perceptrons, several are trained then, whose log-odds are averaged.

Reference for the rule of one standard error: Hastie, Tibshirani, Friedman (2009). The elements of
statistical learning. Second edition, section 7.10.

Shapes: M steps, V steps for validation, I inputs, T numbers that a perceptron is told.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from llmsmc.core.randomness import seeded_globally
from llmsmc.models.rewards.probe.judge import PERCEPTRONS, Judge

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""

PENALTIES: Final = (0.003, 0.01, 0.03)
"""Of lines, times the sum of their squared weights."""

WIDTHS: Final = ((64,), (256, 256))
"""Of the hidden layers of perceptrons."""

_ITERATIONS: Final = 100  # of a line
_BATCH: Final = 256
_LEARNING_RATE: Final = 1e-3
_WEIGHT_DECAY: Final = 1e-2
_PATIENCE: Final = 8  # epochs without a smaller loss on the validation set
_SPREAD: Final = 1e-2  # below which an input is not magnified


@dataclass(frozen=True, eq=False)
class Steps:
    """What is known of steps, and their labels.

    Attributes:
        inputs: what is known of each step.
        is_end: which of them end their solutions.
        labels: how probable it is that it is right, or that its solution ends right.
    """

    inputs: Float[Tensor, "M I"]
    is_end: Bool[Tensor, " M"]
    labels: Float[Tensor, " M"]


@dataclass(frozen=True)
class Choice:
    """What a judge can be like.

    Attributes:
        inputs: the number of the choice of inputs.
        widths: of the hidden layers; none for a line.
        penalty: of a line; zero for perceptrons, which stop early.
    """

    inputs: int
    widths: tuple[int, ...] = ()
    penalty: float = 0.0


@dataclass(frozen=True)
class Loss:
    """The log-loss of a perceptron or a line on the validation set.

    Attributes:
        choice: of the judge.
        number: of the perceptron in the judge.
        epoch: after which it is.
        loss: in nats a step.
    """

    choice: Choice
    number: int
    epoch: int
    loss: float


def choices(num_uses: int) -> list[Choice]:
    """Return the judges that are tried, the smallest first."""
    lines = [Choice(use, penalty=each) for each, use in product(PENALTIES, range(num_uses))]
    return lines + [Choice(use, widths) for widths, use in product(WIDTHS, range(num_uses))]


def trained_judge(
    train: Steps,
    validation: Steps,
    uses: Sequence[Float[Tensor, " I"]],
    *,
    epochs: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> tuple[Judge, list[Loss]]:
    """Train a judge; return it, and the losses on the validation set on the way.

    Classes weigh the same in the loss of perceptrons; what this adds to the log-odds is taken away
    again. Each perceptron is the one of its epoch with the smallest loss on the validation set, and
    the judge is calibrated there by one temperature.

    Args:
        train: the steps that are learnt.
        validation: steps of other questions.
        uses: choices of inputs: one for each input that is looked at, zero for the others.
        epochs: how often each step is seen at most.
        seed: of the first weights, the order and the dropout.
        progress: told about each epoch.
    """
    tried, history = choices(len(uses)), list[Loss]()
    total = (sum(bool(choice.widths) for choice in tried) + PERCEPTRONS - 1) * epochs + len(tried)

    def learn(judge: Judge, choice: Choice, number: int) -> None:
        learnt = judge.told(train.inputs, train.is_end), train.labels
        held_out = judge.told(validation.inputs, validation.is_end), validation.labels
        member = judge.members[number]
        assert isinstance(member, nn.Sequential)
        with seeded_globally(seed * PERCEPTRONS + number):
            steps = (
                _epochs(member, learnt, held_out, epochs)
                if choice.widths
                else _line(member, learnt, held_out, choice.penalty)
            )
            for epoch, loss in enumerate(steps):
                history.append(Loss(choice, number, epoch, loss))
                progress(len(history), max(total, len(history)))

    judges, losses = list[Judge](), list[Tensor]()
    for choice in tried:
        judge = _untrained(train.inputs, uses[choice.inputs], choice.widths)
        learn(judge, choice, 0)
        judges.append(judge)
        member = judge.members[0].eval()
        with torch.no_grad():
            log_odds = member(judge.told(validation.inputs, validation.is_end)).squeeze(-1)
            losses.append(_log_losses(log_odds, validation.labels))
    best = chosen(tried, losses)
    judge = judges[best].eval()
    for number in range(1, len(judge.members)):
        learn(judge, tried[best], number)
    judge.eval()
    with torch.no_grad():
        log_odds = judge(validation.inputs, validation.is_end)
        judge.temperature.fill_(_best_temperature(log_odds, validation.labels))
    return judge, history


def chosen(tried: Sequence[Choice], losses: Sequence[Float[Tensor, " M"]]) -> int:
    """Return the place of the choice that is taken, by the rule of one standard error.

    Args:
        tried: the choices, the smallest first.
        losses: of each of them the log-loss of each step of the validation set.
    """
    means = [float(each.mean()) for each in losses]
    best = losses[means.index(min(means))]
    for choice, each in zip(tried, losses, strict=True):
        excess = (each - best).double()
        if float(excess.mean()) <= float(excess.std(correction=0)) / math.sqrt(len(excess)):
            of_this_size = [n for n, other in enumerate(tried) if other.widths == choice.widths]
            return min(of_this_size, key=means.__getitem__)
    raise AssertionError("the best choice is not worse than itself")


def _untrained(
    inputs: Float[Tensor, "M I"], used: Float[Tensor, " I"], widths: Sequence[int]
) -> Judge:
    """Return a judge that knows nothing but how its inputs spread."""
    judge = Judge(inputs.shape[1], widths, PERCEPTRONS if widths else 1)
    judge.centre.copy_(inputs.mean(0))
    judge.spread.copy_(inputs.std(0).clamp(min=_SPREAD))
    judge.used.copy_(used)
    return judge


def _line(
    member: nn.Sequential,
    train: tuple[Float[Tensor, "M T"], Float[Tensor, " M"]],
    validation: tuple[Float[Tensor, "V T"], Float[Tensor, " V"]],
    penalty: float,
) -> Iterator[float]:
    """Fit a line, whose loss has one minimum; yield its loss on the validation set."""
    (inputs, labels), line = train, member[-1]
    assert isinstance(line, nn.Linear)
    nn.init.zeros_(line.weight)
    nn.init.zeros_(line.bias)
    optimizer = torch.optim.LBFGS(
        line.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = _log_losses(line(inputs).squeeze(-1), labels).mean()
        found = found + penalty * line.weight.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    _ = optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        yield float(_log_losses(line(validation[0]).squeeze(-1), validation[1]).mean())


def _epochs(
    member: nn.Sequential,
    train: tuple[Float[Tensor, "M T"], Float[Tensor, " M"]],
    validation: tuple[Float[Tensor, "V T"], Float[Tensor, " V"]],
    epochs: int,
) -> Iterator[float]:
    """Train a perceptron; yield its loss on the validation set after each epoch.

    Both sets are what it is told of steps, and their labels.
    """
    inputs, labels = train
    for layer in member:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    share = float(labels.mean())
    lightest, heaviest = 0.5 / (1 - share), 0.5 / share
    shift = math.log(share / (1 - share))
    optimizer = torch.optim.AdamW(
        member.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
    )
    best, least, waited = copy.deepcopy(member.state_dict()), math.inf, 0
    for _ in range(epochs):
        member.train()
        for rows in torch.split(torch.randperm(len(labels)), _BATCH):
            log_odds, told = member(inputs[rows]).squeeze(-1), labels[rows]
            losses = _log_losses(log_odds, told)
            loss = (losses * (lightest + (heaviest - lightest) * told)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        member.eval()
        with torch.no_grad():
            log_odds = member(validation[0]).squeeze(-1) + shift
        found = float(_log_losses(log_odds, validation[1]).mean())
        yield found
        waited += 1
        if found < least:
            best, least, waited = copy.deepcopy(member.state_dict()), found, 0
        if waited >= _PATIENCE:
            break
    member.load_state_dict(best)
    last = member[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.add_(shift)


def _log_losses(log_odds: Float[Tensor, " M"], labels: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    return binary_cross_entropy_with_logits(log_odds, labels, reduction="none")


def _best_temperature(log_odds: Float[Tensor, " M"], labels: Float[Tensor, " M"]) -> float:
    """Return the temperature, of a fine grid, with the smallest log-loss."""
    grid = torch.logspace(-1, 1, 401, base=4.0)
    scaled = log_odds / grid[:, None]
    losses = binary_cross_entropy_with_logits(
        scaled, labels.expand_as(scaled), reduction="none"
    ).mean(1)
    return float(grid[losses.argmin()])
