"""The training of a probe: a judge learns from what the policy says of the steps of solutions.

What was recorded while the policy wrote them is used, and the rest is read; see
`llmsmc.models.rewards.probe.features`.

Shapes: M steps of all solutions, I inputs of the judge.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmsmc.models.caches.rows import CacheRows, padded_rows
from llmsmc.models.policies.decoding.requests import ScoreRequest
from llmsmc.models.policies.decoding.token_scoring import score
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.rewards.labels import mean_label
from llmsmc.models.rewards.probe.features import (
    FeatureFolder,
    StepFeatures,
    TokenSteps,
    layers_of,
)
from llmsmc.models.rewards.probe.judge import principal_directions
from llmsmc.models.rewards.probe.learning import Steps, trained_judge
from llmsmc.models.rewards.probe.pooling import NAMES, POOLS
from llmsmc.models.rewards.probe.probe import Probe, ProbeNetwork
from llmsmc.models.rewards.probe.readouts import ProjectedReadout

RANK: Final = 32
EPOCHS: Final = 60
TRAIN, VALIDATION = "train", "validation"

_TOKENS: Final = 2**12  # of solutions that are read side by side
_OF_TOKENS: Final = (0, 1, 3, 4)  # the pools by which directions are chosen: not that of all so far
# The pools of which one choice is taken: all, those at and behind the least probable token, which
# show a slip, and the others, which show where a solution is going.
_CHOICES: Final = (tuple(range(len(POOLS))), (3, 4), (0, 1, 2))

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
        is_ended: whether it ends with its last step, and is not cut off behind it.
        given: how many of its steps are not its own, but another solution's: they are not learnt.
    """

    question: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    step_ends: tuple[int, ...]
    labels: tuple[float, ...]
    split: str
    key: str
    is_ended: bool = False
    given: int = 0

    @property
    def told(self) -> TokenSteps:
        """Its steps, in tokens."""
        return TokenSteps(self.token_ids, self.step_ends, self.given)

    @property
    def is_end(self) -> Bool[Tensor, " K"]:
        """Which of its own steps ends the solution."""
        count = self.told.num_own
        return (torch.arange(count) == count - 1) & self.is_ended


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
        work: the folder of what the policy says of the steps; solutions that were recorded or
            read there are not read again.
        layers: the numbers of the layers whose hidden states are read, 0 for the embeddings; by
            default four from the first quarter to the last.
        rank: how many numbers are kept of the hidden states of a layer.
        epochs: how often each step is seen at most.
        seed: of the training.
        progress: told about what is done.

    Raises:
        InputError: there are no steps to learn from or to stop by, or labels of one class only.
    """
    chosen = layers_of(policy, layers)
    used = [each for each in solutions if each.split in (TRAIN, VALIDATION) and each.step_ends]
    for split in (TRAIN, VALIDATION):
        _ = mean_label((x for each in used if each.split == split for x in each.labels), split)
    steps, labels, splits = list[StepFeatures](), list[float](), list[bool]()
    ends = list[Tensor]()
    read = read_solutions(policy, used, chosen, work, progress)
    for solution, found in zip(used, read, strict=True):
        own = solution.labels[solution.given :]
        kept = ~torch.tensor(own).isnan()
        steps.append(StepFeatures(found.known[kept], found.states[kept]))
        ends.append(solution.is_end[kept])
        labels += [label for label in own if not math.isnan(label)]
        splits += [solution.split == TRAIN] * int(kept.sum())
    told, is_train = torch.tensor(labels), torch.tensor(splits)
    readout, inputs = _projected(chosen, StepFeatures.joined(steps), is_train, rank)
    is_end = torch.cat(ends)
    train = Steps(inputs[is_train], is_end[is_train], told[is_train])
    validation = Steps(inputs[~is_train], is_end[~is_train], told[~is_train])
    judge, history = trained_judge(
        train,
        validation,
        [_used(pools, inputs) for pools in _CHOICES],
        epochs=epochs,
        seed=seed,
        progress=lambda done, total: progress("training", done, total),
    )
    moved = ProjectedReadout(
        chosen, readout.centres.to(policy.device), readout.bases.to(policy.device)
    )
    probe = Probe(policy, ProbeNetwork(moved, judge), name=str(folder))
    probe.save(
        folder, num_steps=len(train.labels), seed=seed, history=[asdict(each) for each in history]
    )
    return probe


def read_solutions(
    policy: LanguageModel,
    solutions: Sequence[LabelledSolution],
    layers: Sequence[int] | None,
    work: Path,
    progress: Progress = lambda stage, done, total: None,
) -> Iterator[StepFeatures]:
    """Yield what the policy says of the steps of each solution.

    Args:
        policy: the policy.
        solutions: the solutions, those of a question all or none.
        layers: the layers whose hidden states are read; None as for `train_probe`.
        work: the folder of what was recorded or read before, a question a file; what is missing
            there, or was recorded of something else, is read and kept.
        progress: told about what is done.
    """
    folder = FeatureFolder(work, policy, layers)
    alike, found = dict[tuple[int, ...], list[int]](), dict[int, StepFeatures]()
    for number, solution in enumerate(solutions):
        alike.setdefault(solution.prompt_ids, []).append(number)
    num_found = 0
    for number, solution in enumerate(solutions):
        if number not in found:
            group = alike[solution.prompt_ids]
            found |= zip(group, _of_question(folder, [solutions[n] for n in group]), strict=True)
            num_found += len(group)
            progress("reading", num_found, len(solutions))
        yield found.pop(number)


def _of_question(
    folder: FeatureFolder, solutions: Sequence[LabelledSolution]
) -> list[StepFeatures]:
    """Return what the policy says of the solutions of a question, read only where it must be."""
    prompt_ids = solutions[0].prompt_ids
    told = [each.told for each in solutions]
    found = folder.load(prompt_ids, told)
    if found is None:
        size = max(1, _TOKENS // max(len(each.token_ids) for each in solutions))
        parts = [solutions[start : start + size] for start in range(0, len(solutions), size)]
        found = StepFeatures.joined([_read(folder, part) for part in parts])
        folder.save(prompt_ids, told, found)
    return found.split([each.num_own for each in told])


def _read(folder: FeatureFolder, solutions: Sequence[LabelledSolution]) -> StepFeatures:
    """Let the policy read solutions of one prompt side by side."""
    ids, counts = padded_rows([each.token_ids for each in solutions])
    nothing = torch.zeros_like(counts)
    request = ScoreRequest(
        solutions[0].prompt_ids,
        ids,
        counts,
        nothing,
        CacheRows.none(len(counts)),
        readout=folder.readout,
    )
    (answer,) = score(folder.policy, [request])
    if isinstance(answer, Exception):
        raise answer
    scores = answer[0]
    assert scores.features is not None
    told = [each.told for each in solutions]
    return StepFeatures.pooled(scores.features, scores.log_probs, told)


def _projected(
    layers: tuple[int, ...], steps: StepFeatures, is_train: Tensor, rank: int
) -> tuple[ProjectedReadout, Float[Tensor, "M I"]]:
    """Choose directions by the steps of the training set; return the inputs of the judge."""
    centres, bases = list[Tensor](), list[Tensor]()
    for vectors in steps.states.chunk(len(layers), dim=2):
        told = vectors[is_train][:, _OF_TOKENS].flatten(0, 1).float()
        centre, basis = principal_directions(told, rank)
        centres.append(centre)
        bases.append(basis)
    readout = ProjectedReadout(layers, torch.stack(centres), torch.stack(bases))
    return readout, _inputs(steps, readout)


def _inputs(steps: StepFeatures, readout: ProjectedReadout) -> Float[Tensor, "M I"]:
    """Return the inputs of the judge, of what was pooled before it was projected."""
    layers = zip(
        steps.states.chunk(len(readout.layers), dim=2),
        readout.centres.cpu(),
        readout.bases.cpu(),
        strict=True,
    )
    projected = [(vectors.float() - centre) @ basis for vectors, centre, basis in layers]
    return torch.cat([steps.known, torch.cat(projected, dim=2).flatten(1)], dim=1)


def _used(pools: Collection[int], inputs: Float[Tensor, "M I"]) -> Float[Tensor, " I"]:
    """Return which inputs are looked at: what is known without hidden states, and these pools."""
    size = (inputs.shape[1] - len(NAMES)) // len(POOLS)
    parts = [torch.full((size,), float(pool in pools)) for pool in range(len(POOLS))]
    return torch.cat([torch.ones(len(NAMES)), *parts])


def judged(
    probe: Probe,
    solutions: Sequence[LabelledSolution],
    work: Path,
    progress: Progress = lambda stage, done, total: None,
) -> list[list[float]]:
    """Return the log-odds of each step of solutions, of their own; see `read_solutions`."""
    readout, rows = probe.readout, list[list[float]]()
    found = read_solutions(probe.policy, solutions, readout.layers, work, progress)
    for solution, read in zip(solutions, found, strict=True):
        with torch.no_grad():
            log_odds = probe.network.judge(_inputs(read, readout), solution.is_end)
        rows.append(log_odds.double().tolist())
    return rows
