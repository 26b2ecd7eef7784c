"""The first stage: solutions of the policy on questions with answers, graded.

Each solution is drawn in one piece, so that none waits for the steps of another, and cut afterwards
into the steps that a filter would have drawn (`llmsmc.models.reasoning.cutting`). Questions that
are under way at the same time share their batches, and one that has its solutions is never drawn
again. Numbers of a batch may differ in their last bits from those of another batch, and a stage of
several questions at a time that was interrupted has other batches. The law of the solutions is the
same; with one question at a time, so are the bits.

What a probe is to read of the policy is recorded while it writes, and is on the disk before the
solutions are: a question that has solutions has it, too.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Generator
from torch.nn.utils.rnn import pad_sequence

from llmsmc.errors import ServerError
from llmsmc.evaluation.datasets import Example
from llmsmc.grading.grades import extract_answer, grade
from llmsmc.models import WholeAnswer
from llmsmc.models.batching.scheduler import run_together
from llmsmc.models.batching.shared import share_policy
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.policy import Demands, Policy
from llmsmc.models.reasoning.cutting import CutSolution
from llmsmc.models.rewards.probe import FeatureFolder, StepFeatures
from llmsmc.models.rewards.probe.features import TokenSteps
from llmsmc.models.text.stopping import EOS, FAILED
from llmsmc.training.lines import Lines, Row
from llmsmc.training.redrawing import redrawn
from llmsmc.training.sampling import DrawnSolution, Sampling

_REASONS: Final = {EOS: "eos", FAILED: "failed"}
_SHARES: Final = {"test": 0.1, "validation": 0.1}
_DIGITS: Final = 5  # of log-probabilities that are kept


def splits(ids: Sequence[str], seed: int) -> dict[str, str]:
    """Return the split of each question: "train", "validation" or "test".

    Questions are ordered by a hash of their id and the seed; the first tenth is for tests, the next
    for validation. Of three questions or more each split has one.
    """
    ordered = sorted(ids, key=lambda name: (number_of(f"split/{seed}/{name}"), name))
    found = dict.fromkeys(ids, "train")
    start = 0
    for split, share in _SHARES.items():
        count = max(1, round(share * len(ids))) if len(ids) > 2 else 0
        found |= dict.fromkeys(ordered[start : start + count], split)
        start += count
    return found


def draw_missing(
    examples: Sequence[Example], sampling: Sampling, lines: Lines
) -> Iterator[list[Row]]:
    """Draw the solutions of each question that has none yet; yield them once they are written.

    A question that cannot be asked, such as one without room for an answer, has one row with the
    error in place of its solutions.

    Raises:
        InputError: a file cannot be written.
        ServerError: the server of the policy is down; what was drawn until then is kept.
    """
    _drop_unfinished(lines, sampling.num_samples)
    done = {str(row["id"]) for row in lines.rows}
    split_of = splits([example.id for example in examples], sampling.seed)
    policy = share_policy(sampling.policy)
    draw = partial(_drawn, policy, sampling=sampling, split_of=split_of)
    missing = [example for example in examples if example.id not in done]
    tasks = [partial(draw, example) for example in missing]
    for number, drawn in run_together(tasks, sampling.num_in_flight):
        if isinstance(drawn, Exception):
            raise drawn
        rows, recorded = drawn
        if recorded is not None:
            recorded.keep()
        name = missing[number].id
        rows = [{"id": name, "split": split_of[name]} | row for row in rows]
        lines.append(rows)
        yield rows


def is_solution(row: Row) -> bool:
    """Return whether a row is a solution; those of questions that cannot be asked are not."""
    return "error" not in row


def given_in(row: Row) -> int:
    """Return how many steps of a solution are not its own, but another solution's."""
    given: int = row.get("given", 0)
    return given


def _drop_unfinished(lines: Lines, num_samples: int) -> None:
    """Drop the rows of the last question if some of them are missing."""
    if not lines.rows or not is_solution(lines.rows[-1]):
        return
    name, of = lines.rows[-1]["id"], lines.rows[-1].get("of", num_samples)
    count = sum(row["id"] == name for row in lines.rows[-of:])
    if count < of:
        lines.keep(len(lines.rows) - count)


@dataclass(frozen=True, eq=False)
class _Recorded:
    """What was read of the policy while it wrote the solutions of a question."""

    folder: FeatureFolder
    prompt_ids: tuple[int, ...]
    solutions: list[TokenSteps]
    steps: StepFeatures

    def keep(self) -> None:
        """Write it down.

        Raises:
            InputError: it cannot be written.
        """
        self.folder.save(self.prompt_ids, self.solutions, self.steps)


def _drawn(
    policy: Policy, example: Example, sampling: Sampling, split_of: Mapping[str, str]
) -> tuple[list[Row], _Recorded | None]:
    """Return the solutions of a question, or why there are none, and what was recorded of them."""
    asked = {"question": example.question, "answer": example.answer}
    try:
        prompt_ids = policy.prompt_ids(example.question, sampling.system)
        generator = Generator().manual_seed(number_of(f"samples/{sampling.seed}/{example.id}"))
        if sampling.checker is None or split_of[example.id] == "test":
            written = _in_one_piece(policy, prompt_ids, sampling, generator)
        else:
            written = redrawn(policy, example.question, sampling, generator)
        solutions, recorded = _rows(written, example, sampling, prompt_ids)
    except ServerError as error:
        if error.is_down:
            raise
        return [asked | {"error": _line(error)}], None
    except Exception as error:  # whatever it is, the other questions can still be asked
        return [asked | {"error": _line(error)}], None
    return [asked | row for row in solutions], recorded


def _in_one_piece(
    policy: Policy, prompt_ids: tuple[int, ...], sampling: Sampling, generator: Generator
) -> list[DrawnSolution]:
    """Draw the solutions of a question; consumes `generator`."""
    policy.check(Demands(rule=WholeAnswer(), temperature=sampling.temperature))
    count = sampling.num_samples
    nothing, none = torch.zeros((count, 0), dtype=torch.long), torch.zeros(count, dtype=torch.long)
    request = sampling.request(prompt_ids, nothing, none, CacheRows.none(count), generator)
    drawn, _ = policy.sample_step(request)
    reasons = drawn.stop_reasons.tolist()
    if drawn.error is not None and set(reasons) == {FAILED}:
        raise drawn.error
    return [
        DrawnSolution(
            drawn.token_ids[n, :length].tolist(),
            drawn.log_probs[n, :length],
            None if drawn.features is None else drawn.features[n, :length],
            _REASONS.get(reason, "length"),
        )
        for n, (length, reason) in enumerate(zip(drawn.num_tokens.tolist(), reasons, strict=True))
    ]


def _rows(
    written: Sequence[DrawnSolution],
    example: Example,
    sampling: Sampling,
    prompt_ids: tuple[int, ...],
) -> tuple[list[Row], _Recorded | None]:
    """Return the rows of solutions, and what is recorded of them."""
    pieces, solutions = sampling.cut([each.token_ids for each in written]), list[Row]()
    for number, (each, piece) in enumerate(zip(written, pieces, strict=True)):
        count = piece.num_tokens
        is_ended = piece.gives_answer or each.finish_reason == "eos"
        found = extract_answer(piece.text, sampling.answer_forms, is_ended=is_ended)
        row: Row = {
            "sample": number,
            "token_ids": each.token_ids[:count],
            "log_probs": [round(x, _DIGITS) for x in each.log_probs[:count].tolist()],
            "text": piece.text,
            "finish_reason": _finish_reason(each, piece),
            "correct": grade(found, example.answer) == "right",
            "found": found,
        }
        if sampling.checker is not None:
            row |= {"given": each.given, "of": len(written)}
        solutions.append(row)
    if sampling.features is None or written[0].features is None:
        return solutions, None
    told = [
        TokenSteps(each.token_ids[: piece.num_tokens], piece.step_ends, each.given)
        for each, piece in zip(written, pieces, strict=True)
    ]
    features = pad_sequence([each.features for each in written if each.features is not None], True)
    log_probs = pad_sequence([each.log_probs for each in written], True)
    steps = StepFeatures.pooled(features, log_probs, told)
    told = [each for each in told if each.step_ends]
    return solutions, _Recorded(sampling.features, prompt_ids, told, steps)


def _finish_reason(written: DrawnSolution, piece: CutSolution) -> str:
    """Return "answer" for a solution that did not end by itself, but with its answer."""
    goes_on = piece.num_tokens < len(written.token_ids)
    is_open = goes_on or written.finish_reason not in _REASONS.values()
    return "answer" if piece.gives_answer and is_open else written.finish_reason


def number_of(text: str) -> int:
    """Return a number of 63 bits, the same for the same text everywhere."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
