"""The network of a probe: a few small perceptrons over what is known of a step.

The hidden states are projected, once and for all, onto the directions in which they differ most
over the steps of the training set; the perceptrons are trained apart, and their log-odds averaged.
What is known of a step that ends its solution stands once more in places of its own, which are zero
for all others: what tells that a solution has ended right is not what promises that it will.
How large they are is chosen on validation: a linear one is the better one where a few thousand
steps are learnt, two hidden layers where there are ten times as many.

Shapes: M steps, P perceptrons, I inputs, S numbers without hidden states, rank of a projection.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""

SHAPES: Final[tuple[tuple[int, ...], ...]] = ((), (64,), (256, 256))
"""The widths of the hidden layers of the perceptrons from which one is chosen."""

PERCEPTRONS: Final = 4
_DROPOUT: Final = 0.2
_BATCH: Final = 256
_LEARNING_RATE, _OF_LINES = 1e-3, 3e-3  # with hidden layers, and without: these have far to go
_WEIGHT_DECAY: Final = 1e-2
_PATIENCE: Final = 8  # epochs without a smaller loss on the validation set
_LEAST: Final = 1e-6  # of the largest variance
_SPREAD: Final = 1e-2  # below which an input is not magnified
_PLACE: Final = ("choice", "perceptron", "epoch")  # of a loss
_CLIP: Final = 8.0  # standard deviations, beyond which an input says no more


class Judge(nn.Module):
    """From what is known of a step to its log-odds.

    Attributes:
        widths: of the hidden layers of each perceptron.
        centre: the mean of each input over the steps of the training set.
        spread: its standard deviation.
        used: one for each input that is looked at, zero for the others.
        temperature: by which log-odds are divided.
    """

    centre: Tensor
    spread: Tensor
    used: Tensor
    temperature: Tensor

    def __init__(
        self, num_inputs: int, widths: Sequence[int] = (), perceptrons: int = PERCEPTRONS
    ) -> None:
        """Make a judge that has learnt nothing, with hidden layers of these widths."""
        super().__init__()
        self.widths = tuple(widths)
        self.register_buffer("centre", torch.zeros(num_inputs))
        self.register_buffer("spread", torch.ones(num_inputs))
        self.register_buffer("used", torch.ones(num_inputs))
        self.register_buffer("temperature", torch.ones(()))
        self.members = nn.ModuleList(
            _perceptron(2 * num_inputs + 1, self.widths) for _ in range(perceptrons)
        )

    def forward(
        self, inputs: Float[Tensor, "M I"], is_end: Bool[Tensor, " M"]
    ) -> Float[Tensor, " M"]:
        """Return the log-odds of the steps, some of which end their solutions."""
        told = self.told(inputs, is_end)
        votes = torch.stack([member(told).squeeze(-1) for member in self.members])
        log_odds: Tensor = votes.mean(0) / self.temperature
        return log_odds

    def told(
        self, inputs: Float[Tensor, "M I"], is_end: Bool[Tensor, " M"]
    ) -> Float[Tensor, "M 2*I+1"]:
        """Return what each perceptron is told.

        The inputs, in standard deviations from their mean, and zero where one is not used; whether
        the step ends its solution; and the inputs once more if it does.
        """
        scaled = self.used * ((inputs - self.centre) / self.spread).clamp(-_CLIP, _CLIP)
        ends = is_end[:, None].to(scaled)
        return torch.cat([scaled, ends, ends * scaled], dim=1)


def _perceptron(num_inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Return a perceptron with hidden layers of these widths."""
    sizes = [num_inputs, *widths]
    hidden = [
        [nn.Dropout(_DROPOUT), nn.Linear(before, width), nn.GELU()]
        for before, width in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    last = [nn.Dropout(_DROPOUT), nn.Linear(sizes[-1], 1)]
    return nn.Sequential(*chain.from_iterable([*hidden, last]))


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


def principal_directions(states: Float[Tensor, "M D"], rank: int) -> tuple[Tensor, Tensor]:
    """Return the mean, and the directions in which the states differ most, in units of spread.

    Each component is measured in its own spread first, as a few of them are far larger than all
    others in many language models.
    """
    centre, spread = states.mean(0), states.std(0).double()
    spread = spread.clamp(min=max(float(spread.median()) * 1e-3, 1e-12))
    scaled = (states - centre) / spread
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(states))
    kept = slice(-min(rank, states.shape[1]), None)
    # What hardly varies is left small, as it would only magnify rounding.
    lengths = values[kept].clamp(min=_LEAST * float(values[-1])).sqrt()
    basis = vectors[:, kept] / lengths / spread[:, None]
    return centre, basis.float().flip(-1).contiguous()


def trained_judge(
    train: Steps,
    validation: Steps,
    uses: Sequence[Float[Tensor, " I"]],
    *,
    epochs: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> tuple[Judge, list[dict[str, float]]]:
    """Train a judge; return it, and its losses on the validation set.

    Many inputs and large perceptrons ask for many steps. So one perceptron is trained for each
    choice of inputs and each of `SHAPES`, and the others of the judge for the choice with the
    smallest loss on the validation set alone.

    Classes weigh the same in the loss that is trained; what this adds to the log-odds is taken away
    again. Each perceptron is the one of its epoch with the smallest loss, and their mean is
    calibrated on the validation set by one temperature.

    Args:
        train: the steps that are learnt.
        validation: steps of other questions.
        uses: choices of inputs: one for each input that is looked at, zero for the others.
        epochs: how often each step is seen at most.
        seed: of the first weights, the order and the dropout.
        progress: told about each epoch.
    """
    history = list[dict[str, float]]()
    judges = [_untrained(train.inputs, *choice) for choice in product(uses, SHAPES)]
    total = (len(judges) + PERCEPTRONS - 1) * epochs

    def trained(choice: int, number: int, done: int) -> float:
        judge = judges[choice]
        learnt = judge.told(train.inputs, train.is_end), train.labels
        held_out = judge.told(validation.inputs, validation.is_end), validation.labels
        member, losses = judge.members[number], list[float]()
        assert isinstance(member, nn.Sequential)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * PERCEPTRONS + number)
            for epoch, loss in enumerate(_epochs(member, learnt, held_out, epochs)):
                place = zip(_PLACE, map(float, (choice, number, epoch)), strict=True)
                history.append(dict(place) | {"validation_loss": loss})
                losses.append(loss)
                progress(done * epochs + epoch + 1, total)
        return min(losses)

    least = [trained(choice, 0, choice) for choice in range(len(judges))]
    best = least.index(min(least))
    for number in range(1, PERCEPTRONS):
        _ = trained(best, number, len(judges) + number - 1)
    judge = judges[best].eval()
    with torch.no_grad():
        log_odds = judge(validation.inputs, validation.is_end)
        judge.temperature.fill_(_best_temperature(log_odds, validation.labels))
    return judge, history


def _untrained(
    inputs: Float[Tensor, "M I"], used: Float[Tensor, " I"], widths: Sequence[int]
) -> Judge:
    """Return a judge that knows nothing but how its inputs spread."""
    judge = Judge(inputs.shape[1], widths)
    judge.centre.copy_(inputs.mean(0))
    judge.spread.copy_(inputs.std(0).clamp(min=_SPREAD))
    judge.used.copy_(used)
    return judge


def _epochs(
    member: nn.Sequential,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
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
    is_line = sum(isinstance(layer, nn.Linear) for layer in member) == 1
    rate = _OF_LINES if is_line else _LEARNING_RATE
    optimizer = torch.optim.AdamW(member.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
    best, least, waited = copy.deepcopy(member.state_dict()), math.inf, 0
    for _ in range(epochs):
        member.train()
        for rows in torch.split(torch.randperm(len(labels)), _BATCH):
            log_odds, told = member(inputs[rows]).squeeze(-1), labels[rows]
            losses = binary_cross_entropy_with_logits(log_odds, told, reduction="none")
            loss = (losses * (lightest + (heaviest - lightest) * told)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        member.eval()
        with torch.no_grad():
            log_odds = member(validation[0]).squeeze(-1) + shift
        found = float(binary_cross_entropy_with_logits(log_odds, validation[1]))
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


def _best_temperature(log_odds: Float[Tensor, " M"], labels: Float[Tensor, " M"]) -> float:
    """Return the temperature, of a fine grid, with the smallest log-loss."""
    grid = torch.logspace(-1, 1, 401, base=4.0)
    scaled = log_odds / grid[:, None]
    losses = binary_cross_entropy_with_logits(
        scaled, labels.expand_as(scaled), reduction="none"
    ).mean(1)
    return float(grid[losses.argmin()])
