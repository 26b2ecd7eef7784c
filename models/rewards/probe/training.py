"""The training of a probe: the policy reads solutions, and a judge learns from what is pooled.

Hidden states are pooled over steps before they are stored: the mean of projected states is the
projected mean. So shards hold three vectors a step and layer, whichever directions are chosen.

Shapes: N solutions, L tokens, K steps, M steps of all solutions, D width of the hidden states.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmsmc.core.counted import agreeing, counted
from llmsmc.errors import InputError
from llmsmc.models.caches.row_cache import CacheRows, padded_rows
from llmsmc.models.policies.decoding.requests import ScoreRequest
from llmsmc.models.policies.decoding.token_scoring import score
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.rewards.probe.fingerprint import fingerprints
from llmsmc.models.rewards.probe.judge import Steps, principal_directions, trained_judge
from llmsmc.models.rewards.probe.pooling import pooled
from llmsmc.models.rewards.probe.probe import Probe, ProbeNetwork
from llmsmc.models.rewards.probe.readouts import ProjectedReadout, RawReadout

RANK: Final = 32
EPOCHS: Final = 60
TRAIN, VALIDATION = "train", "validation"

_SHARD: Final = 64  # solutions of a shard
_TOKENS: Final = 2**12  # of solutions that are read side by side
_LAYERS: Final = 4

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done and what there is to do."""


@dataclass(frozen=True)
class LabelledSolution:
    """A solution with labels of its steps.

    Attributes:
        question: the question.
        prompt_ids: the tokens of the prompt.
        token_ids: the tokens of the solution.
        step_ends: the number of tokens up to the end of each step.
        labels: of each step how probable it is that it is right, or that the solution ends right;
            NaN where it is not used.
        split: "train", "validation" or "test"; all solutions of a question are in one of them.
        key: what the solution is called, as no other is.
    """

    question: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    step_ends: tuple[int, ...]
    labels: tuple[float, ...]
    split: str
    key: str


def default_layers(policy: LanguageModel) -> tuple[int, ...]:
    """Return four layers from the first quarter to the last."""
    depth = policy.model.config.get_text_config().num_hidden_layers
    return tuple(sorted({math.ceil(depth * part / _LAYERS) for part in range(1, _LAYERS + 1)}))


def train_probe(
    policy: LanguageModel,
    solutions: Sequence[LabelledSolution],
    folder: Path,
    *,
    work: Path,
    layers: Sequence[int] | None = None,
    rank: int = RANK,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> Probe:
    """Train a probe of the policy, and write it into a folder.

    Args:
        policy: the policy, which reads the solutions.
        solutions: solutions with labels; those of the split "test" are not used.
        folder: where the probe is written.
        work: a folder for what has been read; a shard that lies there is not read again.
        layers: the numbers of the layers whose hidden states are read, 0 for the embeddings; by
            default four from the first quarter to the last.
        rank: how many numbers are kept of the hidden states of a layer.
        epochs: how often each step is seen at most.
        seed: of the training.
        progress: told about what is done.

    Raises:
        InputError: there are no steps to learn from or to stop by, or labels of one class only.
    """
    chosen = default_layers(policy) if layers is None else _checked(policy, layers)
    used = [each for each in solutions if each.split in (TRAIN, VALIDATION) and each.step_ends]
    _require_both_classes(used)
    known, states, labels, splits = list[Tensor](), list[Tensor](), list[float](), list[bool]()
    for solution, (numbers, vectors) in zip(
        used, read_solutions(policy, used, chosen, work, progress), strict=True
    ):
        kept = torch.tensor([not math.isnan(label) for label in solution.labels])
        known.append(numbers[kept])
        states.append(vectors[kept])
        labels += [label for label in solution.labels if not math.isnan(label)]
        splits += [solution.split == TRAIN] * int(kept.sum())
    told, is_train = torch.tensor(labels), torch.tensor(splits)
    readout, inputs = _projected(chosen, torch.cat(known), torch.cat(states), is_train, rank)
    train = Steps(inputs[is_train], told[is_train])
    validation = Steps(inputs[~is_train], told[~is_train])
    judge, history = trained_judge(
        train,
        validation,
        epochs=epochs,
        seed=seed,
        progress=lambda done, total: progress("training", done, total),
    )
    moved = ProjectedReadout(
        chosen, readout.centres.to(policy.device), readout.bases.to(policy.device)
    )
    probe = Probe(policy, ProbeNetwork(moved, judge), name=str(folder))
    probe.save(folder, num_steps=len(train.labels), seed=seed, history=history)
    return probe


def read_solutions(
    policy: LanguageModel,
    solutions: Sequence[LabelledSolution],
    layers: Sequence[int],
    work: Path,
    progress: Progress = lambda stage, done, total: None,
) -> Iterator[tuple[Float[Tensor, "K S"], Float[Tensor, "K 3 W"]]]:
    """Yield what the policy says of the steps of each solution; see `pooled`.

    What has been read is kept in shards; a shard that was read for the same solutions, layers and
    policy is taken as it is.
    """
    width = policy.model.config.get_text_config().hidden_size
    readout = RawReadout(tuple(layers), width)
    weights = json.dumps(fingerprints(policy.model), sort_keys=True)
    work.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(solutions), _SHARD):
        part = solutions[start : start + _SHARD]
        told = [(each.prompt_ids, each.token_ids, each.step_ends) for each in part]
        text = json.dumps([told, list(layers), weights, str(policy.model.dtype)])
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = work / f"{start:06d}.safetensors"
        found = _shard(path, digest)
        if found is None:
            found = _read(policy, part, readout)
            scratch = path.with_suffix(".partial")
            save_file(found, scratch, {"solutions": digest})
            scratch.replace(path)
        counts = [len(each.step_ends) for each in part]
        progress("reading", start + len(part), len(solutions))
        numbers, vectors = (torch.split(found[name], counts) for name in ("known", "states"))
        yield from zip(numbers, vectors, strict=True)


def _shard(path: Path, digest: str) -> dict[str, Tensor] | None:
    """Return what is in a shard; None if it is missing, broken or of something else."""
    try:
        with safe_open(path, framework="pt") as opened:
            if (opened.metadata() or {}).get("solutions") != digest:
                return None
            return {name: opened.get_tensor(name) for name in ("known", "states")}
    except (OSError, SafetensorError):
        return None


def _read(
    policy: LanguageModel, solutions: Sequence[LabelledSolution], readout: RawReadout
) -> dict[str, Tensor]:
    """Let the policy read solutions; those of one prompt that stand side by side share it."""
    known, states = list[Tensor](), list[Tensor]()
    for _, group in groupby(solutions, lambda each: each.prompt_ids):
        alike = list(group)
        longest = max(len(each.token_ids) for each in alike)
        size = max(1, _TOKENS // longest)
        for start in range(0, len(alike), size):
            numbers, vectors = _read_alike(policy, alike[start : start + size], readout)
            known.append(numbers)
            states.append(vectors)
    return {"known": torch.cat(known), "states": torch.cat(states)}


def _read_alike(
    policy: LanguageModel, solutions: Sequence[LabelledSolution], readout: RawReadout
) -> tuple[Tensor, Tensor]:
    """Return what is known of the steps of solutions of one prompt."""
    ids, counts = padded_rows([each.token_ids for each in solutions])
    nothing = torch.zeros_like(counts)
    request = ScoreRequest(
        solutions[0].prompt_ids,
        ids,
        counts,
        nothing,
        CacheRows.none(len(counts)),
        readout=readout,
    )
    (answer,) = score(policy, [request])
    if isinstance(answer, Exception):
        raise answer
    scores = answer[0]
    assert scores.features is not None
    bounds, lengths = padded_rows([(0, *each.step_ends) for each in solutions])
    counted = torch.arange(bounds.shape[1] - 1) < lengths[:, None] - 1
    numbers, vectors = pooled(scores.features, scores.log_probs, bounds, counted)
    return numbers[counted], vectors[counted]


def _projected(
    layers: tuple[int, ...],
    known: Float[Tensor, "M S"],
    states: Float[Tensor, "M 3 W"],
    is_train: Tensor,
    rank: int,
) -> tuple[ProjectedReadout, Float[Tensor, "M I"]]:
    """Choose directions by the steps of the training set; return the inputs of the judge."""
    centres, bases = list[Tensor](), list[Tensor]()
    for vectors in states.chunk(len(layers), dim=2):
        told = vectors[is_train, :2].flatten(0, 1)
        centre, basis = principal_directions(told, rank)
        centres.append(centre)
        bases.append(basis)
    readout = ProjectedReadout(layers, torch.stack(centres), torch.stack(bases))
    return readout, _inputs(known, states, readout)


def _inputs(
    known: Float[Tensor, "M S"], states: Float[Tensor, "M 3 W"], readout: ProjectedReadout
) -> Float[Tensor, "M I"]:
    """Return the inputs of the judge, of what was pooled before it was projected."""
    layers = zip(
        states.chunk(len(readout.layers), dim=2),
        readout.centres.cpu(),
        readout.bases.cpu(),
        strict=True,
    )
    projected = torch.cat([(vectors - centre) @ basis for vectors, centre, basis in layers], dim=2)
    return torch.cat([known, projected.flatten(1)], dim=1)


def _checked(policy: LanguageModel, layers: Sequence[int]) -> tuple[int, ...]:
    depth = policy.model.config.get_text_config().num_hidden_layers
    if not layers or any(type(each) is not int or not 0 <= each <= depth for each in layers):
        raise InputError(
            f"layers are numbers of layers of the policy. Got {list(layers)}; accepted: numbers "
            f"from 0 (the embeddings) to {depth}."
        )
    return tuple(layers)


def _require_both_classes(solutions: Sequence[LabelledSolution]) -> None:
    """Raise `InputError` unless both splits have steps, and the training set both classes."""
    for split in (TRAIN, VALIDATION):
        labels = [
            label
            for each in solutions
            if each.split == split
            for label in each.labels
            if not math.isnan(label)
        ]
        if not labels:
            raise InputError(
                f"A probe learns from labelled steps. Got none of the split {split!r}; accepted: "
                "solutions of more questions."
            )
        if split == TRAIN and not 0 < sum(labels) < len(labels):
            which = "right" if sum(labels) else "wrong"
            raise InputError(
                "A reward learns to tell right steps from wrong ones. Got "
                f"{counted(len(labels), 'step')} that {agreeing(len(labels), 'is', 'are all')} "
                f"{which}; accepted: labels of both kinds, as from easier or harder questions."
            )


def judged(probe: Probe, solutions: Sequence[LabelledSolution], work: Path) -> list[list[float]]:
    """Return the log-odds of each step of solutions, from what the policy reads of them."""
    readout, rows = probe.readout, list[list[float]]()
    for known, states in read_solutions(probe.policy, solutions, readout.layers, work):
        with torch.no_grad():
            log_odds = probe.network.judge(_inputs(known, states, readout))
        rows.append(log_odds.double().tolist())
    return rows
