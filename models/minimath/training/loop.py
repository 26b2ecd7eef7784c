"""The training loop: AdamW with warm-up and cosine decay, resumable at any update.

Batches are a function of the update number alone, so that a resumed training sees exactly
what an uninterrupted one would have seen.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        num_updates: optimizer updates in all.
        learning_rate: the peak, after `num_warmup` updates of linear rise.
        floor: the share of the peak at which the cosine ends.
        num_warmup: updates of warm-up.
        weight_decay: of AdamW, on matrices only.
        betas: of AdamW.
        clip: largest norm of the gradient.
    """

    num_updates: int
    learning_rate: float = 2e-3
    floor: float = 0.02
    num_warmup: int = 200
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0

    def rate(self, update: int) -> float:
        """The learning rate of an update, counted from 0."""
        if update < self.num_warmup:
            return self.learning_rate * (update + 1) / self.num_warmup
        done = (update - self.num_warmup) / max(1, self.num_updates - self.num_warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.learning_rate * (self.floor + (1 - self.floor) * cosine)


@runtime_checkable
class Objective(Protocol):
    """The loss of one update, and figures worth recording beside it."""

    def __call__(self, update: int) -> tuple[Tensor, dict[str, float]]:
        """Return both for the update of that number."""
        ...


@dataclass(frozen=True)
class Progress:
    """What the loop reports now and then: means since the last report."""

    update: int
    num_updates: int
    loss: float
    figures: dict[str, float]
    learning_rate: float
    seconds: float


def train(
    model: nn.Module,
    objective: Objective,
    schedule: Schedule,
    folder: Path,
    *,
    report_every: int = 50,
    checkpoint_every: int = 500,
) -> Iterator[Progress]:
    """Train `model` in place, yielding a `Progress` every `report_every` updates.

    The loss curve goes to ``folder/losses.jsonl`` and checkpoints to ``folder/checkpoint``;
    where a checkpoint lies there, training goes on from it.

    Raises:
        ValueError: the checkpoint in `folder` was made under another schedule.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": others},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=schedule.learning_rate,
        betas=schedule.betas,
        weight_decay=0.0,
        fused=True,
    )
    start, seconds_before = _resume(model, optimizer, schedule, folder / "checkpoint")
    _forget_reports_after(start, folder / "losses.jsonl")
    began = time.perf_counter()
    losses: list[float] = []
    sums: dict[str, float] = {}
    model.train()
    for update in range(start, schedule.num_updates):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(update)
        loss, figures = objective(update)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value
        done = update + 1
        if done % checkpoint_every == 0 or done == schedule.num_updates:
            seconds = seconds_before + time.perf_counter() - began
            _save(model, optimizer, schedule, folder / "checkpoint", done, seconds)
        if done % report_every == 0 or done == schedule.num_updates:
            seconds = seconds_before + time.perf_counter() - began
            means = {name: value / len(losses) for name, value in sums.items()}
            progress = Progress(
                done, schedule.num_updates, sum(losses) / len(losses), means,
                schedule.rate(update), seconds,
            )  # fmt: skip
            with (folder / "losses.jsonl").open("a") as file:
                file.write(json.dumps(asdict(progress)) + "\n")
            losses, sums = [], {}
            yield progress
    model.eval()


def _save(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    folder: Path,
    update: int,
    seconds: float,
) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, never half of each."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": p.detach().clone() for name, p in model.named_parameters()}
    names = {id(p): name for name, p in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key in ("exp_avg", "exp_avg_sq"):
            tensors[f"{key}.{names[id(parameter)]}"] = state[key].clone()
    record = {"update": str(update), "seconds": str(seconds), "schedule": repr(schedule)}
    save_file(tensors, folder / "new.safetensors", metadata=record)
    (folder / "new.safetensors").replace(folder / "state.safetensors")


def _resume(
    model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, folder: Path
) -> tuple[int, float]:
    """Load the checkpoint, if there is one; the update to go on with, and the seconds spent."""
    path = folder / "state.safetensors"
    if not path.exists():
        return 0, 0.0
    record = _metadata(path)
    if record["schedule"] != repr(schedule):
        raise ValueError(
            f"The checkpoint in {folder} belongs to another training. "
            f"Got {schedule!r}; accepted: {record['schedule']}, or an empty folder."
        )
    tensors = load_file(path)
    update = int(record["update"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            if f"exp_avg.{name}" in tensors:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(update)),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(parameter.device),
                }
    return update, float(record["seconds"])


def _forget_reports_after(update: int, path: Path) -> None:
    """Drop what was reported after the checkpoint: it will be reported again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["update"] <= update]
        path.write_text("".join(f"{line}\n" for line in kept))


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())
