"""The first stage: solutions of the policy on questions with answers, graded.

Each solution is drawn in one piece, so that none waits for the steps of another, and cut afterwards
into the steps that a filter would have drawn (`llmsmc.models.reasoning.cutting`). Questions are
drawn in blocks that share their batches. A block of which anything is missing is drawn again, so
that a stage that was interrupted comes to the same solutions, bit for bit.

What a probe is to read of the policy is recorded while it writes, and is on the disk before the
solutions are: a question that has solutions has it, too.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from llmsmc.core.checks import require_count
from llmsmc.defaults import DEFAULT_ANSWER_FORMS
from llmsmc.errors import InputError, ServerError
from llmsmc.evaluation.datasets import Example
from llmsmc.grading.forms import BOXED
from llmsmc.grading.grades import extract_answer, grade
from llmsmc.models import LanguageModel, WholeAnswer
from llmsmc.models.batching.shared import SharedLanguageModel
from llmsmc.models.caches.row_cache import CacheRows
from llmsmc.models.policies.decoding.requests import Readout, StepRequest, UniformTable
from llmsmc.models.policies.policy import Demands, Policy
from llmsmc.models.reasoning.cutting import CutSolution, cut
from llmsmc.models.rewards.probe import FeatureFolder, StepFeatures
from llmsmc.models.rewards.probe.features import TokenSteps
from llmsmc.models.text.stopping import EOS, FAILED, StepRule
from llmsmc.training.blocks import missing_results
from llmsmc.training.lines import Lines, Row

ROWS_IN_FLIGHT: Final = 128
"""Solutions in a batch, by default: on processors more of them gain little."""

_SHARES: Final = {"test": 0.1, "validation": 0.1}
_DIGITS: Final = 5  # of log-probabilities that are kept


@dataclass(frozen=True, eq=False)
class Sampling:
    """How the solutions of questions are drawn.

    Attributes:
        policy: the language model.
        step: the rule that ends a step.
        num_samples: the number of solutions of each question.
        temperature: the sampling temperature, that at which the reward is to be used.
        system: a system prompt; by default that of the chat template.
        max_tokens: the number of tokens at which a solution is cut off; by default what the
            context has room for.
        in_flight: how many questions are under way at a time; by default as many as have
            `ROWS_IN_FLIGHT` solutions.
        seed: from which, and from its id, the seed of each question is derived.
        answer_forms: the forms in which answers are looked for, the preferred one first.
        features: where what a probe reads of the policy is kept; None where nothing is recorded,
            as of policies on servers.
    """

    policy: Policy
    step: StepRule
    num_samples: int = 8
    temperature: float | int = 1.0
    system: str | None = None
    max_tokens: int | None = None
    in_flight: int | None = None
    seed: int = 0
    answer_forms: tuple[str, ...] = DEFAULT_ANSWER_FORMS
    features: FeatureFolder | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_count("samples", self.num_samples)
        for name in ("max_tokens", "in_flight"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        if not 0 < self.temperature < math.inf:
            raise InputError(
                f"Solutions are drawn at a temperature. Got {self.temperature!r}; accepted: "
                "0 < temperature < infinity."
            )

    def request(
        self,
        prompt_ids: tuple[int, ...],
        token_ids: Int[Tensor, "B L"],
        num_tokens: Int[Tensor, " B"],
        handle: CacheRows,
        generator: Generator,
        readout: Readout | None = None,
    ) -> StepRequest:
        """Return the request that ends solutions in one piece; consumes `generator`.

        Args:
            prompt_ids: the prompt.
            token_ids: what each solution begins with.
            num_tokens: how many tokens that are.
            handle: what is cached of them.
            generator: of the tokens.
            readout: what is read of the policy while it writes.
        """
        return StepRequest(
            prompt_ids,
            token_ids,
            num_tokens,
            handle,
            rule=WholeAnswer(),
            max_tokens=self.max_tokens or self.policy.context_length,
            max_total_tokens=self.max_tokens,
            temperature=self.temperature,
            uniforms=UniformTable(len(num_tokens), generator),
            readout=readout,
        )

    def cut(self, solutions: Sequence[Sequence[int]]) -> list[CutSolution]:
        """Return solutions in the steps in which a filter would have drawn them."""
        stops = BOXED in self.answer_forms
        return cut(self.policy, self.step, solutions, stop_at_answer=stops)

    @property
    def num_in_flight(self) -> int:
        """How many questions are under way at a time."""
        return self.in_flight or math.ceil(ROWS_IN_FLIGHT / self.num_samples)


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
    policy = sampling.policy
    if isinstance(policy, LanguageModel):
        policy = SharedLanguageModel(policy)
    draw = partial(_drawn, policy, sampling=sampling)
    missing = missing_results(examples, draw, _name, done, sampling.num_in_flight)
    for example, (rows, recorded) in missing:
        if recorded is not None:
            recorded.keep()
        rows = [{"id": example.id, "split": split_of[example.id]} | row for row in rows]
        lines.append(rows)
        yield rows


def _name(example: Example) -> str:
    return example.id


def is_solution(row: Row) -> bool:
    """Return whether a row is a solution; those of questions that cannot be asked are not."""
    return "error" not in row


def _drop_unfinished(lines: Lines, num_samples: int) -> None:
    """Drop the rows of the last question if some of them are missing."""
    if not lines.rows or not is_solution(lines.rows[-1]):
        return
    name = lines.rows[-1]["id"]
    count = sum(row["id"] == name for row in lines.rows[-num_samples:])
    if count < num_samples:
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
    policy: Policy, example: Example, sampling: Sampling
) -> tuple[list[Row], _Recorded | None]:
    """Return the solutions of a question, or why there are none, and what was recorded of them."""
    asked = {"question": example.question, "answer": example.answer}
    try:
        solutions, recorded = _solutions(policy, example, sampling)
    except ServerError as error:
        if error.is_down:
            raise
        return [asked | {"error": _line(error)}], None
    except Exception as error:  # whatever it is, the other questions can still be asked
        return [asked | {"error": _line(error)}], None
    return [asked | row for row in solutions], recorded


def _solutions(
    policy: Policy, example: Example, sampling: Sampling
) -> tuple[list[Row], _Recorded | None]:
    prompt_ids = policy.prompt_ids(example.question, sampling.system)
    policy.check(Demands(rule=WholeAnswer(), temperature=sampling.temperature))
    generator = Generator().manual_seed(number_of(f"samples/{sampling.seed}/{example.id}"))
    count, folder = sampling.num_samples, sampling.features
    nothing, none = torch.zeros((count, 0), dtype=torch.long), torch.zeros(count, dtype=torch.long)
    readout = None if folder is None else folder.readout
    request = sampling.request(prompt_ids, nothing, none, CacheRows.none(count), generator, readout)
    drawn, _ = policy.sample_step(request)
    reasons = drawn.stop_reasons.tolist()
    if drawn.error is not None and set(reasons) == {FAILED}:
        raise drawn.error
    rows = zip(drawn.token_ids.tolist(), drawn.num_tokens.tolist(), strict=True)
    written = [ids[:length] for ids, length in rows]
    pieces, log_probs = sampling.cut(written), drawn.log_probs.tolist()
    told: list[TokenSteps] = [
        (ids[: piece.num_tokens], piece.step_ends)
        for ids, piece in zip(written, pieces, strict=True)
    ]
    solutions = list[Row]()
    for number, (piece, (token_ids, _), reason) in enumerate(
        zip(pieces, told, reasons, strict=True)
    ):
        is_cut = piece.num_tokens < len(written[number])
        is_ended = piece.gives_answer or reason == EOS
        found = extract_answer(piece.text, sampling.answer_forms, is_ended=is_ended)
        solutions.append(
            {
                "sample": number,
                "token_ids": token_ids,
                "log_probs": [round(x, _DIGITS) for x in log_probs[number][: piece.num_tokens]],
                "text": piece.text,
                "finish_reason": _finish_reason(reason, piece, is_cut=is_cut),
                "correct": grade(found, example.answer) == "right",
                "found": found,
            }
        )
    if folder is None or drawn.features is None:
        return solutions, None
    steps = StepFeatures.pooled(drawn.features, drawn.log_probs, [ends for _, ends in told])
    told = [each for each in told if each[1]]
    return solutions, _Recorded(folder, prompt_ids, told, steps)


def _finish_reason(reason: int, piece: CutSolution, *, is_cut: bool) -> str:
    """Return why a solution has ended, which was drawn in one piece for a reason."""
    if reason in (EOS, FAILED) and not is_cut:
        return "eos" if reason == EOS else "failed"
    return "answer" if piece.gives_answer else "length"


def number_of(text: str) -> int:
    """Return a number of 63 bits, the same for the same text everywhere."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
