r"""Training of a token classifier on labelled steps, resumable at any update to the same result.

The loss of a step with label y and log-odds l is the cross-entropy with soft labels, in which both
classes weigh the same:

$$-w_1 \, y \log \sigma(l) - w_0 \, (1 - y) \log \sigma(-l), \qquad
w_1 = \tfrac{1}{2 s}, \; w_0 = \tfrac{1}{2 (1 - s)},$$

s the mean label of the training set. What the weights add to the log-odds, $-\log (s / (1 - s))$,
is taken away again at the end, and a temperature is fitted on the validation set. After each epoch
the log-loss on the validation set is computed; the best epoch is kept.

Solutions of about the same length stand in a batch, so that there is hardly any padding. The
batches are a function of the seed and the number of the epoch. Where no layer is trained, hidden
states are read once and kept.

Shapes: R steps that are read, D width of the hidden states.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import softplus

from llmsmc.core.checks import require_count
from llmsmc.core.counted import counted
from llmsmc.errors import InputError
from llmsmc.models.rewards.conventions.convention import Layout
from llmsmc.storage.strict_files import unwritable
from llmsmc.training.classifier import Classifier, load_trained
from llmsmc.training.judging import best_temperature, log_loss

CHECKPOINT: Final = "checkpoint.safetensors"
_CACHED: Final = "hidden-{}.safetensors"


@dataclass(frozen=True)
class Fit:
    """How a classifier is trained.

    Attributes:
        rank: of the adapter on the upper half of the layers; 0 for none.
        epochs: how often each step is seen at most.
        learning_rate: of the adapter, the peak.
        head_rate: of the head, likewise.
        batch_tokens: the number of tokens of a batch, padding included.
        accumulate: the number of batches of an update.
        patience: after so many epochs without a better log-loss the training ends.
        weight_decay: of matrices.
        seed: of the first weights and the order of the batches.
        checkpoint_every: updates between checkpoints.
    """

    rank: int = 16
    epochs: int = 4
    learning_rate: float = 2e-4
    head_rate: float = 1e-3
    batch_tokens: int = 1024
    accumulate: int = 2
    patience: int = 1
    weight_decay: float = 0.01
    seed: int = 0
    checkpoint_every: int = 20

    @classmethod
    def of(cls, rank: int, seed: int, **given: Any) -> "Fit":
        """Return the usual settings; a head alone, which costs little, is trained for longer."""
        usual = {} if rank else {"epochs": 60, "patience": 6, "head_rate": 3e-3}
        return cls(rank=rank, seed=seed, **usual | given)

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_count("rank", self.rank, minimum=0)
        for name in ("epochs", "batch_tokens", "accumulate", "patience", "checkpoint_every"):
            require_count(name, getattr(self, name))
        for name in ("learning_rate", "head_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is a positive number. Got {getattr(self, name)!r}.")


@dataclass(frozen=True, eq=False)
class TextSolution:
    """A solution whose steps have labels.

    Attributes:
        question: what it answers.
        steps: the texts of its steps.
        labels: one for each, in [0, 1]; NaN where it is not used.
        split: "train", "validation" or "test".
    """

    question: str
    steps: tuple[str, ...]
    labels: tuple[float, ...]
    split: str


@dataclass(frozen=True)
class FitProgress:
    """How far a training is: batches that were read, and the last log-loss on validation."""

    done: int
    total: int
    loss: float | None
    validation_loss: float | None
    tokens: int


@dataclass(frozen=True, eq=False)
class _Batch:
    """Solutions that are read together.

    Attributes:
        number: its number among those of its split.
        layouts: of the solutions, without steps behind the last that has a label.
        labels: of the steps, [R]; NaN where one is not used.
    """

    number: int
    layouts: tuple[Layout, ...]
    labels: Tensor

    @property
    def tokens(self) -> int:
        return len(self.layouts) * max(len(each.ids) for each in self.layouts)


def fitted(
    classifier: Classifier, solutions: Sequence[TextSolution], fit: Fit, work: Path
) -> Iterator[FitProgress]:
    """Train a classifier in place, yielding how far it is; at the end it is merged and calibrated.

    Solutions that do not fit into the context are left out.

    Args:
        classifier: the classifier, as it was made.
        solutions: the solutions; those of the split "test" are not looked at.
        fit: how it is trained.
        work: a folder of its own, from whose checkpoint a training goes on.

    Raises:
        InputError: nothing can be learnt from the labels, or nothing can be written.
    """
    work.mkdir(parents=True, exist_ok=True)
    train = _batches(classifier, solutions, "train", fit.batch_tokens)
    held_out = _batches(classifier, solutions, "validation", fit.batch_tokens)
    share = _mean_label(train, "train")
    _mean_label(held_out, "validation")
    weights = 0.5 / (1 - share), 0.5 / share
    shift = math.log(share / (1 - share))
    reader = _Reader(classifier, work / "hidden" if not fit.rank else None)
    optimizer = _optimizer(classifier, fit)
    state = _State.resumed(work / CHECKPOINT, classifier, optimizer)
    num_updates = fit.epochs * math.ceil(len(train) / fit.accumulate)
    total, tokens = fit.epochs * (len(train) + len(held_out)), 0

    def progress(loss: float | None = None) -> FitProgress:
        latest = state.losses[-1] if state.losses else None
        done = state.epoch * (len(train) + len(held_out)) + state.batch
        return FitProgress(done, total, loss, latest, tokens)

    yield progress()
    while state.epoch < fit.epochs and not state.has_settled(fit.patience):
        order = list(range(len(train)))
        Random(f"{fit.seed}/{state.epoch}").shuffle(order)
        while state.batch < len(order):
            chosen = [train[n] for n in order[state.batch : state.batch + fit.accumulate]]
            _set_rates(optimizer, fit, state.update / max(1, num_updates))
            loss = _update(reader, optimizer, chosen, weights)
            state.update, state.batch = state.update + 1, state.batch + len(chosen)
            tokens += sum(each.tokens for each in chosen)
            if state.update % fit.checkpoint_every == 0:
                state.save(work / CHECKPOINT, classifier, optimizer)
            yield progress(loss)
        log_odds, labels = _read(reader, held_out)
        state.losses.append(float(log_loss((log_odds + shift).numpy(), labels.numpy()) or 0.0))
        tokens += sum(each.tokens for each in held_out)
        state.end_epoch(classifier)
        state.save(work / CHECKPOINT, classifier, optimizer)
        yield progress()
    load_trained(classifier, state.best)
    classifier.merge()
    log_odds, labels = _read(_Reader(classifier, reader.folder), held_out)
    temperature = best_temperature((log_odds + shift).double().numpy(), labels.double().numpy())
    classifier.calibrate(temperature, shift)


def _batches(
    classifier: Classifier, solutions: Sequence[TextSolution], split: str, batch_tokens: int
) -> list[_Batch]:
    """Return the solutions of a split in batches of about the same length."""
    laid = list[tuple[Layout, tuple[float, ...]]]()
    for each in solutions:
        used = max((n + 1 for n, label in enumerate(each.labels) if label == label), default=0)
        if each.split != split or not used:
            continue
        layout = classifier.layout(each.question, each.steps[:used])
        if len(layout.ids) <= classifier.context_length:
            laid.append((layout, each.labels[:used]))
    laid.sort(key=lambda pair: len(pair[0].ids))  # stable
    batches = list[_Batch]()
    while laid:
        size = 1  # of sorted layouts the last of a batch is its longest
        while size < len(laid) and (size + 1) * len(laid[size][0].ids) <= batch_tokens:
            size += 1
        layouts, labels = zip(*laid[:size], strict=True)
        flat = torch.tensor([label for each in labels for label in each], dtype=torch.float32)
        batches.append(_Batch(len(batches), layouts, flat))
        laid = laid[size:]
    return batches


def _mean_label(batches: Sequence[_Batch], split: str) -> float:
    """Return the mean label of a split.

    Raises:
        InputError: there is no label, or all of them are of one class.
    """
    labels = torch.cat([torch.zeros(0), *(each.labels for each in batches)])
    labels = labels[~labels.isnan()]
    share = float(labels.mean()) if len(labels) else 0.0
    if not 0 < share < 1:
        got = counted(len(labels), "label") + (f", all of them {share:g}" if len(labels) else "")
        raise InputError(
            f"A reward is trained on right steps and wrong ones. Got {got} in the split {split!r}; "
            "accepted: labels of both kinds (more questions, or easier or harder ones)."
        )
    return share


class _Reader:
    """The hidden states of batches; kept in a folder where no layer is trained."""

    def __init__(self, classifier: Classifier, folder: Path | None) -> None:
        self.classifier, self.folder = classifier, folder
        self._known = dict[tuple[int, ...], Tensor]()

    def hidden(self, batch: _Batch) -> Tensor:
        if self.folder is None:
            return self.classifier.hidden(batch.layouts)
        ids = tuple(hash(layout.ids) for layout in batch.layouts)
        if ids not in self._known:
            self._known[ids] = self._kept(batch)
        return self._known[ids]

    def _kept(self, batch: _Batch) -> Tensor:
        assert self.folder is not None
        digest = _digest(batch)
        path = self.folder / _CACHED.format(digest)
        if path.exists():
            with safe_open(path, "pt") as file:
                kept: Tensor = file.get_tensor("hidden")
            return kept.to(self.classifier.head.weight.device)
        with torch.no_grad():
            hidden = self.classifier.hidden(batch.layouts)
        self.folder.mkdir(parents=True, exist_ok=True)
        _save({"hidden": hidden.cpu()}, path)
        return hidden


def _digest(batch: _Batch) -> str:
    text = json.dumps([layout.ids for layout in batch.layouts])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read(reader: _Reader, batches: Sequence[_Batch]) -> tuple[Tensor, Tensor]:
    """Return the log-odds and the labels of all labelled steps of batches."""
    log_odds, labels = list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for batch in batches:
            used = ~batch.labels.isnan()
            found = reader.classifier.log_odds(reader.hidden(batch)).cpu()
            log_odds.append(found[used])
            labels.append(batch.labels[used])
    return torch.cat(log_odds), torch.cat(labels)


def _update(
    reader: _Reader, optimizer: Any, batches: Sequence[_Batch], weights: tuple[float, float]
) -> float:
    """Take one step down the gradient of the mean loss of these batches; return the loss."""
    classifier = reader.classifier
    count = sum(int((~each.labels.isnan()).sum()) for each in batches)
    optimizer.zero_grad()
    total = 0.0
    for batch in batches:
        used = ~batch.labels.isnan()
        log_odds = classifier.log_odds(reader.hidden(batch)[used.to(classifier.head.weight.device)])
        labels = batch.labels[used].to(log_odds.device)
        losses = weights[1] * labels * softplus(-log_odds)
        losses = losses + weights[0] * (1 - labels) * softplus(log_odds)
        loss = losses.sum() / max(1, count)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(classifier.trainable.values(), 1.0)
    optimizer.step()
    return total


def _optimizer(classifier: Classifier, fit: Fit) -> torch.optim.AdamW:
    named = classifier.trainable
    head = [each for name, each in named.items() if name.startswith("score.")]
    adapter = [each for name, each in named.items() if not name.startswith("score.")]
    groups = [{"params": head, "lr": fit.head_rate, "rate": fit.head_rate}]
    if adapter:
        groups.append({"params": adapter, "lr": fit.learning_rate, "rate": fit.learning_rate})
    return torch.optim.AdamW(groups, weight_decay=fit.weight_decay)


def _set_rates(optimizer: torch.optim.AdamW, fit: Fit, done: float) -> None:
    """Let the rates rise for a twentieth of the updates, and fall as a cosine from there."""
    share = min(1.0, (done + 1e-3) / 0.05)
    share *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * share


@dataclass
class _State:
    """Where a training is.

    Attributes:
        epoch: the number of epochs that are done.
        batch: the number of batches of the next one that are done.
        update: the number of updates that are done.
        losses: the log-loss on validation after each epoch.
        best: the trained parameters of the best epoch.
    """

    epoch: int
    batch: int
    update: int
    losses: list[float]
    best: dict[str, Tensor]

    def has_settled(self, patience: int) -> bool:
        """Return whether the last epochs have brought nothing."""
        if not self.losses:
            return False
        return len(self.losses) - 1 - self.losses.index(min(self.losses)) >= patience

    def end_epoch(self, classifier: Classifier) -> None:
        """Begin the next epoch; keep the parameters of this one if it is the best."""
        self.epoch, self.batch = self.epoch + 1, 0
        if self.losses[-1] == min(self.losses):
            self.best = _values(classifier)

    def save(self, path: Path, classifier: Classifier, optimizer: torch.optim.AdamW) -> None:
        """Write a checkpoint."""
        tensors = {f"now/{name}": value for name, value in _values(classifier).items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for name, parameter in classifier.trainable.items():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = value.detach().cpu().clone()
        place = {
            "epoch": self.epoch,
            "batch": self.batch,
            "update": self.update,
            "losses": self.losses,
        }
        _save(tensors, path, place)

    @classmethod
    def resumed(cls, path: Path, classifier: Classifier, optimizer: torch.optim.AdamW) -> "_State":
        """Return the state in a checkpoint, if there is one, with all parameters as they were."""
        if not path.exists():
            return cls(0, 0, 0, [], _values(classifier))
        with safe_open(path, "pt") as file:
            place = json.loads(file.metadata()["place"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        load_trained(classifier, _behind("now/", tensors))
        for name, parameter in classifier.trainable.items():
            own = {
                key.split("/")[1]: value.to(parameter.device if value.dim() else "cpu")
                for key, value in tensors.items()
                if key.startswith("optimizer/") and key.split("/", 2)[2] == name
            }
            if own:
                optimizer.state[parameter] = own
        best = _behind("best/", tensors)
        return cls(place["epoch"], place["batch"], place["update"], place["losses"], best)


def _values(classifier: Classifier) -> dict[str, Tensor]:
    return {name: each.detach().cpu().clone() for name, each in classifier.trainable.items()}


def _behind(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    named = tensors.items()
    return {name.removeprefix(prefix): each for name, each in named if name.startswith(prefix)}


def _save(tensors: dict[str, Tensor], path: Path, place: Any = None) -> None:
    """Write tensors; a reader sees the old file or the new one, never half of each."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, partial, metadata={"place": json.dumps(place)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink()
        raise unwritable(path, error) from error
