r"""The second stage: a label for each step of each solution.

* outcome: whether the solution it stands in ends right. Given the solution up to the step, its
  expectation is what continuations estimate, at no further cost;
* continuations: the share of the policy's continuations behind the step that end right ("soft"), or
  whether any of them does ("hard");
* first-error: whether it stands before the first step behind which no continuation ends right,
  which is found by binary search; later steps have no label;
* checker: whether it and all steps before it are right, by a function of the question and the
  steps.

Continuations are drawn a few at a time, until the label is decided: a soft one as soon as the
posterior of the share, given a uniform prior, has 95 % on one side of one half; a hard one with the
first continuation that ends right. The last step of a solution has no continuation; its label is
whether the answer is right.

References: Wang et al. (2024). Math-Shepherd. arXiv 2312.08935 (Equations 3 and 4: hard and soft
estimation). Luo et al. (2024). Improve mathematical reasoning in language models by automated
process supervision. arXiv 2406.06592 (binary search).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Generator

from llmsmc.core.checks import require_choice, require_count
from llmsmc.errors import InputError
from llmsmc.grading.grades import extract_answer, grade
from llmsmc.models.batching.scheduler import run_together
from llmsmc.models.batching.shared import share_policy
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import Prefix, cached
from llmsmc.models.policies.local_language_model import LocalLanguageModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.cutting import CutSolution
from llmsmc.models.text.stopping import EOS
from llmsmc.training.lines import Lines, Row
from llmsmc.training.samples import given_in, is_solution, number_of
from llmsmc.training.sampling import ROWS_IN_FLIGHT, Sampling
from llmsmc.training.verdicts import Checker, verdicts

LABELLERS: Final = ("outcome", "continuations", "first-error", "checker")

_AT_A_TIME: Final = 4  # continuations behind a step
_CERTAIN: Final = 0.95
_LABELS_A_WRITE: Final = 64  # solutions whose labels cost nothing


@dataclass(frozen=True, eq=False)
class Labelling:
    """How steps are labelled.

    Attributes:
        labeller: one of `LABELLERS`.
        checker: the function of the labeller "checker".
        num_continuations: how many continuations are drawn behind a step at most.
        hard: whether a step is right as soon as any continuation ends right; else its label is the
            share.
    """

    labeller: str = "outcome"
    checker: Checker | None = None
    num_continuations: int = 16
    hard: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        require_choice("labels", self.labeller, LABELLERS)
        require_count("continuations", self.num_continuations)
        if (self.checker is not None) != (self.labeller == "checker"):
            got = "none" if self.checker is None else f"one beside labels={self.labeller!r}"
            raise InputError(
                f"A checker labels steps by itself. Got {got}; accepted: labels='checker' with a "
                "checker, or other labels without."
            )

    @property
    def draws(self) -> bool:
        """Whether continuations are drawn."""
        return self.labeller in ("continuations", "first-error")


def label_missing(
    samples: Sequence[Row], sampling: Sampling, labelling: Labelling, lines: Lines
) -> Iterator[list[Row]]:
    """Label each solution that has no labels yet; yield the rows once they are written.

    Raises:
        InputError: the checker fails, or a file cannot be written; what was labelled is kept.
        ServerError: the server of the policy is down, likewise.
    """
    solutions = [row for row in samples if is_solution(row)]
    done = {name_of(row) for row in lines.rows}
    if labelling.draws:
        yield from _by_continuations(solutions, sampling, labelling, lines, done)
        return
    missing = [row for row in solutions if name_of(row) not in done]
    for start in range(0, len(missing), _LABELS_A_WRITE):
        rows = []
        for row in missing[start : start + _LABELS_A_WRITE]:
            steps = _cut(sampling, row)
            labels: list[float | None] = [float(row["correct"])] * len(steps.steps)
            if labelling.checker is not None:
                labels = verdicts(labelling.checker, row["question"], steps.steps)
                given = given_in(row)
                labels = [None if n < given else label for n, label in enumerate(labels)]
            rows.append(_labelled(row, steps, labels, 0, labelling))
        lines.append(rows)
        yield rows


def name_of(row: Row) -> str:
    """Return the name of a solution."""
    return f"{row['id']}/{row['sample']}"


def is_decided(num_right: int, count: int, most: int, *, hard: bool) -> bool:
    """Return whether a label is decided, of so many continuations of at most so many."""
    if count >= most or (hard and num_right):
        return True
    return not hard and abs(_above_half(num_right, count) - 0.5) > _CERTAIN - 0.5


def _above_half(num_right: int, count: int) -> float:
    """Return the probability that a share is above one half, given a uniform prior.

    The distribution function of Beta(k + 1, n - k + 1) at one half is a binomial tail.
    """
    tail = sum(math.comb(count + 1, j) for j in range(num_right + 1))
    return tail / float(2 ** (count + 1))


@dataclass
class _Tally:
    """The continuations behind a step."""

    num_right: int = 0
    count: int = 0

    @property
    def share(self) -> float:
        return self.num_right / self.count


class _Continuations:
    """The continuations of one solution, drawn behind its steps as they are asked for."""

    def __init__(self, policy: Policy, row: Row, sampling: Sampling, piece: CutSolution) -> None:
        self._policy, self._row, self._sampling, self._piece = policy, row, sampling, piece
        self._prompt_ids = policy.prompt_ids(row["question"], sampling.system)
        self._generator = Generator().manual_seed(
            number_of(f"continuations/{sampling.seed}/{name_of(row)}")
        )
        self._handle = self._cached()
        self.tokens = 0

    def _cached(self) -> CacheRows | None:
        """Return the cache of the whole solution, of which each prefix is a part."""
        if not isinstance(self._policy, LocalLanguageModel):
            return None
        ids = torch.tensor([self._row["token_ids"]])
        prefix = Prefix(
            self._prompt_ids, ids, torch.tensor([ids.shape[1]]), handle=CacheRows.none(1)
        )
        with torch.no_grad():
            (found,) = cached(self._policy, [prefix])
        part = found.parts[0]
        return CacheRows(part.cache, part.rows.cpu(), part.lengths.cpu())

    def draw(self, ends: Sequence[int], count: int) -> list[int]:
        """Return how many of `count` continuations behind each of these prefixes end right."""
        lengths = torch.tensor(list(ends)).repeat_interleave(count)
        ids = torch.tensor([self._row["token_ids"]])[:, : int(lengths.max())]
        handle = CacheRows.none(len(lengths))
        if self._handle is not None:
            rows = self._handle.take(torch.zeros(len(lengths), dtype=torch.long))
            handle = rows.truncate(lengths + len(self._prompt_ids) - 1)
        places = torch.arange(ids.shape[1])
        request = self._sampling.request(
            self._prompt_ids,
            ids.expand(len(lengths), -1).where(places < lengths[:, None], 0),
            lengths,
            handle,
            self._generator,
        )
        drawn, _ = self._policy.sample_step(request)
        self.tokens += int(drawn.num_tokens.sum())
        written = []
        for row, length, end in zip(
            drawn.token_ids.tolist(), drawn.num_tokens.tolist(), lengths.tolist(), strict=True
        ):
            written.append([*self._row["token_ids"][:end], *row[:length]])
        reasons, right = drawn.stop_reasons.tolist(), list[bool]()
        for piece, reason in zip(self._sampling.cut(written), reasons, strict=True):
            is_ended = piece.gives_answer or reason == EOS
            found = extract_answer(piece.text, self._sampling.answer_forms, is_ended=is_ended)
            right.append(grade(found, self._row["answer"]) == "right")
        return [sum(right[n * count : (n + 1) * count]) for n in range(len(ends))]

    def decided(self, ends: Sequence[int], most: int, *, hard: bool) -> list[_Tally]:
        """Draw continuations behind these prefixes until the label of each is decided."""
        tallies = [_Tally() for _ in ends]
        while undecided := [
            n
            for n, each in enumerate(tallies)
            if not is_decided(each.num_right, each.count, most, hard=hard)
        ]:
            count = min(_AT_A_TIME, most - tallies[undecided[0]].count)
            found = self.draw([ends[n] for n in undecided], count)
            for n, num_right in zip(undecided, found, strict=True):
                tallies[n].num_right += num_right
                tallies[n].count += count
        return tallies


def _by_continuations(
    solutions: Sequence[Row],
    sampling: Sampling,
    labelling: Labelling,
    lines: Lines,
    done: set[str],
) -> Iterator[list[Row]]:
    policy = share_policy(sampling.policy)
    label = partial(_continued, policy, sampling=sampling, labelling=labelling)
    tasks = [partial(label, row) for row in solutions if name_of(row) not in done]
    for _, row in run_together(tasks, in_flight(solutions, labelling)):
        if isinstance(row, Exception):
            raise row
        lines.append([row])
        yield [row]


def in_flight(solutions: Sequence[Row], labelling: Labelling) -> int:
    """Return of how many solutions continuations are drawn at a time, to fill a batch."""
    if labelling.labeller == "first-error":
        return math.ceil(ROWS_IN_FLIGHT / _AT_A_TIME)
    return max(1, ROWS_IN_FLIGHT // (8 * _AT_A_TIME))


def _continued(policy: Policy, row: Row, *, sampling: Sampling, labelling: Labelling) -> Row:
    """Return the labels of a solution by continuations."""
    piece = _cut(sampling, row)
    ends, last = piece.step_ends[:-1], float(row["correct"])
    if labelling.labeller == "first-error" and row["correct"] or not piece.steps:
        return _labelled(row, piece, [last] * len(piece.steps), 0, labelling)
    if not ends:
        return _labelled(row, piece, [last], 0, labelling)
    drawn, most = _Continuations(policy, row, sampling, piece), labelling.num_continuations
    labels = list[float | None]()
    if labelling.labeller == "first-error":
        low, high, count = 0, len(ends), 0  # the first error is in this range; the last step is one
        while low < high:
            middle = (low + high) // 2
            (tally,) = drawn.decided([ends[middle]], most, hard=True)
            count += tally.count
            low, high = (middle + 1, high) if tally.num_right else (low, middle)
        labels = [1.0] * low + [0.0] + [None] * (len(ends) - low)
    else:
        tallies = drawn.decided(ends, most, hard=labelling.hard)
        count = sum(each.count for each in tallies)
        shares = [float(t.num_right > 0) if labelling.hard else t.share for t in tallies]
        labels = [*shares, last]
    found = _labelled(row, piece, labels, count, labelling)
    return found | {"tokens": drawn.tokens}


def _cut(sampling: Sampling, row: Row) -> CutSolution:
    (piece,) = sampling.cut([row["token_ids"]])
    return piece


def _labelled(
    row: Row,
    piece: CutSolution,
    labels: Sequence[float | None],
    continuations: int,
    labelling: Labelling,
) -> Row:
    return {
        "id": row["id"],
        "sample": row["sample"],
        "step_ends": list(piece.step_ends),
        "steps": list(piece.steps),
        "labels": list(labels),
        "continuations": continuations,
        "labeller": labelling.labeller,
    }
