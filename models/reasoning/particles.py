"""A population of partial solutions.

A particle consists of token ids; its text, its steps and its answer are derived from them. All
particles of a population answer one question.

Each transition writes one step, of one token or more. A step may be blank: the end of the text
alone, or white space. A blank step counts as a step, but has no text of its own: there are no more
texts than steps (`llmsmc.models.reasoning.step_sampling`).

Shapes: N particles, L generated tokens, T steps, K texts of steps, E tokens that an expert has read
at most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, overload

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from llmsmc.defaults import DEFAULT_ANSWER_FORMS
from llmsmc.errors import InputError
from llmsmc.grading.forms import answer_forms
from llmsmc.grading.grades import equivalence_classes, extract_answer
from llmsmc.models.caches.rows import CacheHandle, CacheRows, JointHandle, join_handles
from llmsmc.models.reasoning.writing_on import Ahead, joined
from llmsmc.storage.serialization import SAVED

FINISH_REASONS: Final = (None, "eos", "answer", "length", "max_steps", "failed")
"""The reason for which a particle is not extended any more, by its code: it goes on; the model
ended the text; the text gives its answer; a limit on tokens or the limit on steps truncated it; a
server could not go on with it."""

UNFINISHED, EOS, ANSWER, LENGTH, MAX_STEPS, FAILED = range(6)

NO_STEP: Final = -1
_PADDING: Final = {
    "log_odds": float("nan"),
    "expert_log_probs": float("nan"),
    "features": float("nan"),
    "transition_ends": NO_STEP,
}


@dataclass(frozen=True)
class ReasoningParticle:
    """A single solution.

    Attributes:
        question: the question that it answers.
        steps: the texts of its steps, delimiters included; none of them is blank.
        token_ids: the generated tokens.
        rewards: the score of each step; NaN where none was read.
        finish_reason: "eos", "answer", "length", "max_steps" or "failed"; None while it goes on.
        log_prob: of the tokens under the language model, at temperature 1; NaN if it does not say.
        proposal_log_prob: of the tokens under the law from which they were drawn; the same.
        thinking_end: the tag behind which it answers; None where all of it is the answer.
        answer_forms: the forms in which its answer is looked for (`llmsmc.grading.extraction`).
    """

    question: str
    steps: tuple[str, ...]
    token_ids: tuple[int, ...]
    rewards: tuple[float, ...]
    finish_reason: str | None
    log_prob: float
    proposal_log_prob: float
    thinking_end: str | None = None
    answer_forms: tuple[str, ...] = DEFAULT_ANSWER_FORMS

    @property
    def text(self) -> str:
        """The whole solution."""
        return "".join(self.steps)

    @property
    def answer(self) -> str | None:
        """The answer that the text gives, if any; thinking gives none."""
        text = answer_text(self.text, self.thinking_end)
        is_ended = self.finish_reason in ("eos", "answer")
        return extract_answer(text, self.answer_forms, is_ended=is_ended)

    @property
    def truncated(self) -> bool:
        """Whether a limit truncated the solution before its end."""
        return self.finish_reason in ("length", "max_steps")


CACHES: Final = ("policy_cache", "reward_cache", "proposal_cache", "expert_cache")


def _not_saved() -> Any:
    """Return a field that only a run that goes on has use for."""
    return field(default=None, metadata={SAVED: False})


def _derived() -> Any:
    """Return a field that `__post_init__` derives from the others."""
    return field(init=False, repr=False)


@dataclass(frozen=True, eq=False)
class ReasoningParticles:
    """N solutions of one question, of different lengths.

    Attributes:
        question: the question.
        prompt_ids: the tokens of the prompt, which are common to all.
        token_ids: the generated tokens, padded with zeros on the right.
        num_tokens: how many each particle has.
        log_probs: of the tokens under the language model, at temperature 1.
        transition_log_probs: of the tokens under the transition: at the sampling temperature.
        proposal_log_probs: of the tokens under the law from which they were drawn, which is the
            transition unless a proposal took its place.
        steps: the texts of the steps; none of them is blank.
        step_ends: for each of these texts, how many tokens there are up to its end.
        log_odds: of the score of each of these texts; NaN where there is none.
        num_scored: how many of these texts the reward model has seen.
        finish_codes: why each particle is not extended any more, see `FINISH_REASONS`.
        policy_cache: the cache of the language model; None in a record.
        reward_cache: the cache of the reward model; None in a record.
        proposal_cache: the cache of the language model of a proposal; None in a record.
        expert_log_probs: of the tokens under another language model, if the model asks one; NaN
            where it has not been asked.
        expert_cache: the cache of that model; None in a record.
        thinking_end: the tag behind which solutions answer; None where all of them is the answer.
        transition_ends: for each step, blank ones too, how many tokens there are up to its end; -1
            behind the last. Where it is not known, as in older files, each text counts as a step.
        features: what a reward that reads the policy has read at each token; NaN where it has not
            been read, None where nothing is read.
        reward_room: for how many tokens the reward has room behind each solution, below zero where
            the solution has outgrown it; None where it is not known.
        answer_forms: the forms in which answers are looked for, the preferred one first; see
            `llmsmc.grading.extraction`.
        ahead: what the particles have drawn of their next steps; None where they wait for others.
        num_steps: number of texts of each particle.
        num_transitions: number of steps of each particle, blank ones among them, which `max_steps`
            limits.
        finished: which particles are complete, or truncated for good by a limit on tokens.
    """

    question: str
    prompt_ids: tuple[int, ...]
    token_ids: Int64[Tensor, "N L"]
    num_tokens: Int64[Tensor, " N"]
    log_probs: Float64[Tensor, "N L"]
    transition_log_probs: Float64[Tensor, "N L"]
    proposal_log_probs: Float64[Tensor, "N L"]
    steps: tuple[tuple[str, ...], ...]
    step_ends: Int64[Tensor, "N K"]
    log_odds: Float64[Tensor, "N K"]
    num_scored: Int64[Tensor, " N"]
    finish_codes: Int64[Tensor, " N"]
    expert_log_probs: Float64[Tensor, "N E"]
    policy_cache: CacheRows | None = _not_saved()
    reward_cache: CacheHandle | None = _not_saved()
    proposal_cache: CacheRows | None = _not_saved()
    expert_cache: CacheRows | None = _not_saved()
    thinking_end: str | None = None
    transition_ends: Int64[Tensor, "N T"] = None  # type: ignore[assignment]
    reward_room: Int64[Tensor, " N"] | None = _not_saved()
    features: Float[Tensor, "N L F"] | None = _not_saved()
    answer_forms: tuple[str, ...] = DEFAULT_ANSWER_FORMS
    ahead: Ahead | None = _not_saved()
    num_steps: Int64[Tensor, " N"] = _derived()
    num_transitions: Int64[Tensor, " N"] = _derived()
    finished: Bool[Tensor, " N"] = _derived()

    def __post_init__(self) -> None:
        """Derive the counts; each text counts as a step where `transition_ends` is missing."""
        codes, ends = self.finish_codes, self.transition_ends
        num_steps = torch.tensor([len(steps) for steps in self.steps], dtype=torch.long)
        if ends is None:
            is_text = torch.arange(self.step_ends.shape[1]) < num_steps[:, None]
            ends = self.step_ends.masked_fill(~is_text, NO_STEP)
            object.__setattr__(self, "transition_ends", ends)
        object.__setattr__(self, "num_steps", num_steps)
        object.__setattr__(self, "num_transitions", (ends != NO_STEP).sum(1))
        object.__setattr__(self, "finished", (codes != UNFINISHED) & (codes != MAX_STEPS))

    @classmethod
    def empty(
        cls,
        question: str,
        prompt_ids: tuple[int, ...],
        num_particles: int,
        thinking_end: str | None = None,
        answer_forms: tuple[str, ...] = DEFAULT_ANSWER_FORMS,
    ) -> "ReasoningParticles":
        """Return N particles that have not begun."""
        zeros = torch.zeros(num_particles, dtype=torch.long)
        nothing = torch.zeros((num_particles, 0), dtype=torch.float64)
        return cls(
            question=question,
            prompt_ids=prompt_ids,
            token_ids=nothing.long(),
            num_tokens=zeros,
            log_probs=nothing,
            transition_log_probs=nothing,
            proposal_log_probs=nothing,
            steps=((),) * num_particles,
            step_ends=nothing.long(),
            log_odds=nothing,
            num_scored=zeros,
            finish_codes=zeros,
            expert_log_probs=nothing,
            thinking_end=thinking_end,
            transition_ends=nothing.long(),
            answer_forms=answer_forms,
        )

    def check(self) -> None:
        """Check that the parts fit together.

        Raises:
            InputError: there are not N lists of steps, a number is beyond what it counts, or a form
                of answers is not known.
        """
        if self.thinking_end == "":
            raise InputError("Thinking ends with a tag. Got an empty one; accepted: text, or None.")
        _ = answer_forms(self.answer_forms)
        length, width = self.token_ids.shape[1], self.step_ends.shape[1]
        num_steps = [len(steps) for steps in self.steps]
        if len(num_steps) != len(self) or max(num_steps, default=0) > width:
            raise InputError(
                f"Solutions have their steps. Got {len(num_steps)} lists of at most "
                f"{max(num_steps, default=0)}; accepted: {len(self)} of at most {width}."
            )
        for name, numbers, smallest, largest in (
            ("num_tokens", self.num_tokens, 0, length),
            ("step_ends", self.step_ends, 0, length),
            ("num_scored", self.num_scored, 0, width),
            ("finish_codes", self.finish_codes, 0, len(FINISH_REASONS) - 1),
            ("token_ids", self.token_ids, 0, 2**31),
        ):
            if not bool(((numbers >= smallest) & (numbers <= largest)).all()):
                raise InputError(f"{name} are numbers from {smallest} to {largest}. Got others.")
        ends, is_step = self.transition_ends, self.transition_ends != NO_STEP
        rising = (ends[:, :-1] <= ends[:, 1:]) | ~is_step[:, 1:]
        unbroken = is_step[:, :-1] | ~is_step[:, 1:]
        within = (ends >= NO_STEP) & (ends <= self.num_tokens[:, None])
        if not bool(within.all()) or not bool((rising & unbroken).all()):
            raise InputError(
                "transition_ends are numbers of tokens up to the ends of the steps, in order, and "
                f"{NO_STEP} behind them. Got others."
            )

    def __len__(self) -> int:
        """Return N."""
        return len(self.num_tokens)

    @overload
    def __getitem__(self, index: int) -> ReasoningParticle: ...

    @overload
    def __getitem__(self, index: Tensor | Sequence[int]) -> "ReasoningParticles": ...

    def __getitem__(
        self, index: int | Tensor | Sequence[int]
    ) -> "ReasoningParticle | ReasoningParticles":
        """Return a single particle, or the population of those with these indices."""
        if isinstance(index, int) or (isinstance(index, Tensor) and index.dim() == 0):
            return self._particle(range(len(self))[int(index)])
        indices = torch.as_tensor(index, dtype=torch.long).cpu()
        gathered: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Tensor) and each.init:
                gathered[each.name] = value[indices]
            elif isinstance(value, CacheRows | JointHandle | Ahead):
                gathered[each.name] = value.take(indices)
        gathered["steps"] = tuple(self.steps[n] for n in indices.tolist())
        return replace(self, **gathered)

    def __iter__(self) -> Iterator[ReasoningParticle]:
        """Return the particles one by one."""
        return (self[n] for n in range(len(self)))

    def select(self, mask: Bool[Tensor, " N"], other: "ReasoningParticles") -> "ReasoningParticles":
        """Return these particles where `mask` is true, and the particles of `other` elsewhere."""
        mine, theirs = mask.cpu().nonzero().squeeze(1), (~mask.cpu()).nonzero().squeeze(1)
        order = torch.cat([mine, theirs]).argsort()
        return concatenate([self[mine], other[theirs]])[order]

    def concatenate(self, others: Sequence["ReasoningParticles"]) -> "ReasoningParticles":
        """Return these particles and others of the same question behind them."""
        return concatenate([self, *others])

    def answers(self) -> list[str | None]:
        """Return the answer of each particle, equal answers spelt alike."""
        ended = ((self.finish_codes == EOS) | (self.finish_codes == ANSWER)).tolist()
        found = [
            extract_answer(
                answer_text("".join(steps), self.thinking_end), self.answer_forms, is_ended=is_ended
            )
            for steps, is_ended in zip(self.steps, ended, strict=True)
        ]
        classes = equivalence_classes(answer for answer in found if answer is not None)
        return [None if answer is None else classes[answer] for answer in found]

    def tokens_after(self, num_transitions: Int64[Tensor, " N"]) -> Int64[Tensor, " N"]:
        """Return how many tokens the first steps of each particle have, no more than it has."""
        ends = torch.cat([torch.zeros(len(self), 1).long(), self.transition_ends], dim=1)
        return ends.gather(1, num_transitions[:, None]).squeeze(1)

    @property
    def truncated(self) -> Bool[Tensor, " N"]:
        """Which particles are truncated: unfinished, or ended by a limit."""
        ended = (self.finish_codes == EOS) | (self.finish_codes == ANSWER)
        return ~ended & ~self.failed

    @property
    def failed(self) -> Bool[Tensor, " N"]:
        """Which particles a server could not go on with; their weight is zero."""
        return self.finish_codes == FAILED

    def _particle(self, n: int) -> ReasoningParticle:
        count = int(self.num_tokens[n])
        rewards = self.log_odds[n, : len(self.steps[n])].sigmoid()
        return ReasoningParticle(
            question=self.question,
            steps=self.steps[n],
            token_ids=tuple(self.token_ids[n, :count].tolist()),
            rewards=tuple(rewards.tolist()),
            finish_reason=FINISH_REASONS[int(self.finish_codes[n])],
            log_prob=float(self.log_probs[n].sum()),
            proposal_log_prob=float(self.proposal_log_probs[n].sum()),
            thinking_end=self.thinking_end,
            answer_forms=self.answer_forms,
        )


def concatenate(parts: Sequence[ReasoningParticles]) -> ReasoningParticles:
    """Return the particles of all populations, which answer one question, in order."""
    columns: dict[str, Any] = {}
    for each in fields(ReasoningParticles):
        values = [getattr(part, each.name) for part in parts]
        if each.name in CACHES:
            pairs = zip(values, parts, strict=True)
            handles = [v or CacheRows.none(len(part)) for v, part in pairs]
            columns[each.name] = join_handles(handles)
        elif each.name == "ahead":
            columns[each.name] = joined(values, [len(part) for part in parts])
        elif each.init and isinstance(values[0], Tensor):
            is_known = all(value is not None for value in values)
            padding = _PADDING.get(each.name, 0.0)
            columns[each.name] = _stacked(values, padding) if is_known else None
    columns["steps"] = tuple(steps for part in parts for steps in part.steps)
    return replace(parts[0], **columns)


def _stacked(tensors: Sequence[Tensor], padding: float | int) -> Tensor:
    """Concatenate rows, padded on the right to the longest."""
    if tensors[0].dim() == 1:
        return torch.cat(list(tensors))
    width = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([padded(tensor, width, padding) for tensor in tensors])


def padded(rows: Tensor, width: int, padding: float | int = 0) -> Tensor:
    """Return the rows [N, M], padded on the right to `width`."""
    extra = width - rows.shape[1]
    before = (0, 0) * (rows.dim() - 2)
    return torch.nn.functional.pad(rows, (*before, 0, extra), value=padding) if extra > 0 else rows


def appended(
    rows: Tensor, lengths: Tensor, new: Tensor, counts: Tensor, padding: float | int = 0
) -> Tensor:
    """Put `counts[n]` entries of `new` behind the `lengths[n]` entries of each row n."""
    width = max(rows.shape[1], int((lengths + counts).max()))
    result = rows.new_full((len(rows), width, *rows.shape[2:]), padding)
    result[:, : rows.shape[1]] = rows
    columns = torch.arange(new.shape[1])
    valid = columns < counts[:, None]
    owners = torch.arange(len(rows))[:, None].expand_as(valid)
    result[owners[valid], (lengths[:, None] + columns)[valid]] = new[valid]
    return result


def answer_text(text: str, closing: str | None) -> str:
    """Return what follows the thinking, empty while it goes on; all of it without a closing tag."""
    return text if closing is None else text.partition(closing)[2]


def answer_steps(steps: tuple[str, ...], closing: str | None) -> tuple[str, ...]:
    """Return the steps behind the one that closes the thinking."""
    if closing is None:
        return steps
    for number, step in enumerate(steps, 1):
        if closing in step:
            return steps[number:]
    return ()
