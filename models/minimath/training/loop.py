"""The training loop: Muon and AdamW with warm-up and cosine decay, resumable at any update.

The matrices of the hidden layers are trained by Muon, all else (embeddings, heads, norms, biases)
by AdamW: small networks learn to copy and to look up in far fewer updates than with AdamW alone.

Reference: Jordan et al. (2024). Muon: an optimizer for hidden layers in neural networks.

Batches are a function of the update number alone, so that a resumed training sees exactly
the batches of an uninterrupted one.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict, runtime_checkable

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmsmc.models.minimath.training.files import copy_weights, damaged, read_lines, read_tensors


@dataclass(frozen=True)
class Schedule:
    """The length and the rates of a training.

    Attributes:
        num_updates: optimizer updates in all.
        learning_rate: of Muon, the peak, after `num_warmup` updates of linear rise.
        adam_rate: of AdamW, likewise.
        floor: the share of the peaks at which the cosine ends.
        num_warmup: updates of warm-up.
        weight_decay: of both, on matrices only.
        momentum: of Muon.
        betas: of AdamW.
        clip: largest norm of the gradient.
        ground_share: learning-rate multiplier of the pretrained ("ground") layers.
    """

    num_updates: int
    learning_rate: float = 2e-2
    adam_rate: float = 2e-3
    floor: float = 0.02
    num_warmup: int = 200
    weight_decay: float = 0.05
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    ground_share: float = 1.0

    def share(self, update: int) -> float:
        """Return the share of the peak rates at an update, counted from 0."""
        if update < self.num_warmup:
            return (update + 1) / self.num_warmup
        done = (update - self.num_warmup) / max(1, self.num_updates - self.num_warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.floor + (1 - self.floor) * cosine


@runtime_checkable
class Objective(Protocol):
    """The loss of one update, and figures worth recording beside it."""

    def __call__(self, update: int) -> tuple[Tensor, dict[str, float]]:
        """Return both for the update of that number."""
        ...


@dataclass(frozen=True)
class Progress:
    """A report of the loop: means since the last report."""

    update: int
    num_updates: int
    loss: float
    figures: dict[str, float]
    learning_rate: float
    seconds: float


class Reported(TypedDict):
    """The part of a line of the loss curve that a resumed training reads."""

    update: int


def train(
    model: nn.Module,
    objective: Objective,
    schedule: Schedule,
    folder: Path,
    *,
    num_ground_layers: int = 0,
    careful_layers: Sequence[int] = (),
    report_every: int = 50,
    checkpoint_every: int = 500,
) -> Iterator[Progress]:
    """Train `model` in place, yielding a `Progress` every `report_every` updates.

    The first `num_ground_layers` layers are the ground; the `careful_layers`, whose weights were
    set by hand, are left to AdamW, since Muon takes steps of full length in every direction.
    Parameters that require no gradient stay unchanged. The loss curve goes to
    ``folder/losses.jsonl`` and checkpoints to ``folder/checkpoint``; where a checkpoint lies there,
    training goes on from it.

    Raises:
        ValueError: the checkpoint in `folder` was made under another schedule.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizers = _optimizers(model, schedule, num_ground_layers, careful_layers)
    start, seconds_before = _resume(model, optimizers, schedule, folder / "checkpoint")
    _forget_reports_after(start, folder / "losses.jsonl")
    began = time.perf_counter()
    losses: list[float] = []
    sums: dict[str, float] = {}
    model.train()
    for update in range(start, schedule.num_updates):
        share = schedule.share(update)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
        loss, figures = objective(update)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value
        done = update + 1
        if done % checkpoint_every == 0 or done == schedule.num_updates:
            seconds = seconds_before + time.perf_counter() - began
            _save(model, optimizers, schedule, folder / "checkpoint", done, seconds)
        if done % report_every == 0 or done == schedule.num_updates:
            seconds = seconds_before + time.perf_counter() - began
            means = {name: value / len(losses) for name, value in sums.items()}
            progress = Progress(
                done, schedule.num_updates, sum(losses) / len(losses), means,
                share * schedule.learning_rate, seconds,
            )  # fmt: skip
            with (folder / "losses.jsonl").open("a") as file:
                file.write(json.dumps(asdict(progress)) + "\n")
            losses, sums = [], {}
            yield progress
    model.eval()


STATE = ("momentum_buffer", "exp_avg", "exp_avg_sq")
"""The state that the optimizers keep of a parameter, besides the number of updates."""

OUTER = ("embed_tokens", "lm_head", "score", "surprise", "probe")
"""Parts of the networks that do not belong to the hidden layers."""


def _optimizers(
    model: nn.Module, schedule: Schedule, num_ground_layers: int, careful_layers: Sequence[int]
) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon for the matrices of the hidden layers, and AdamW for the rest."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    careful = tuple(f"model.layers.{layer}." for layer in careful_layers)
    grounds = tuple(f"model.layers.{layer}." for layer in range(num_ground_layers))
    hidden, ground, outer, vectors = (list[nn.Parameter]() for _ in range(4))
    for name, parameter in trained:
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif any(part in name.split(".") for part in OUTER) or name.startswith(careful):
            outer.append(parameter)
        else:
            (ground if name.startswith(grounds) else hidden).append(parameter)
    layers: list[dict[str, Any]] = [{"params": hidden}]
    if ground:
        slow = schedule.ground_share * schedule.learning_rate
        layers.append({"params": ground, "lr": slow})
    muon = torch.optim.Muon(
        layers,
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        momentum=schedule.momentum,
    )
    groups: list[dict[str, Any]] = [
        {"params": outer, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=schedule.adam_rate, betas=schedule.betas, fused=True)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return muon, adam


def _save(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    schedule: Schedule,
    folder: Path,
    update: int,
    seconds: float,
) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, never half of each."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": p.detach().clone() for name, p in model.named_parameters()}
    names = {id(p): name for name, p in model.named_parameters()}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key in state.keys() & set(STATE):
                tensors[f"{key}.{names[id(parameter)]}"] = state[key].clone()
    record = {"update": str(update), "seconds": str(seconds), "schedule": repr(schedule)}
    save_file(tensors, folder / "new.safetensors", metadata=record)
    (folder / "new.safetensors").replace(folder / "state.safetensors")


def _resume(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], schedule: Schedule, folder: Path
) -> tuple[int, float]:
    """Load the checkpoint, if there is one; the update to go on with, and the seconds spent."""
    path = folder / "state.safetensors"
    if not path.exists():
        return 0, 0.0
    tensors, record = read_tensors(path)
    if record.get("schedule") != repr(schedule):
        raise ValueError(
            f"The checkpoint in {folder} belongs to another training. "
            f"Got {schedule!r}; accepted: {record.get('schedule')}, or an empty folder."
        )
    try:
        update, seconds = int(record["update"]), float(record["seconds"])
    except (KeyError, ValueError) as error:
        raise damaged(path, "which does not say of which update it is") from error
    names = {id(p): name for name, p in model.named_parameters()}
    copy_weights(model, tensors, path)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names[id(parameter)]
                optimizer.state[parameter] = {
                    key: tensors[f"{key}.{name}"].to(parameter.device)
                    for key in STATE
                    if f"{key}.{name}" in tensors
                } | ({"step": torch.tensor(float(update))} if "betas" in group else {})
    return update, seconds


def _forget_reports_after(update: int, path: Path) -> None:
    """Drop the reports after the checkpoint, which will be made again."""
    if path.exists():
        kept = [report for report in read_lines(path, Reported) if report["update"] <= update]
        path.write_text("".join(f"{json.dumps(report)}\n" for report in kept))
