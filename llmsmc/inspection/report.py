"""What is found out about a policy: values, and nothing that prints them."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """A question that is put to the policy.

    Attributes:
        text: the question.
        answer: the reference answer, if it is known.
    """

    text: str
    answer: str | None = None


@dataclass(frozen=True)
class Solution:
    """A solution that the policy has written, as a whole.

    Attributes:
        question: the number of its question, from 0.
        text: the solution.
        num_tokens: its length in tokens.
        is_ended: whether the policy has ended it; otherwise it was cut off.
        answer: what the extraction finds in it; None for nothing.
        is_right: whether the answer is the reference answer; None where there is none.
    """

    question: int
    text: str
    num_tokens: int
    is_ended: bool
    answer: str | None
    is_right: bool | None


@dataclass(frozen=True)
class RuleReport:
    """How the solutions are cut under one step rule.

    A solution ends with the step in which it gives its answer in a box, or which is cut off.

    Attributes:
        rule: the rule, as it is written for `--step`.
        num_steps: the number of steps of all solutions.
        mean_steps: the mean number of steps of a solution.
        most_steps: the largest number of steps of a solution.
        median_tokens: the median length of a step in tokens.
        longest: the tokens of the longest step that has ended by itself; 0 if none has.
        ended: the share of steps that have ended by themselves: where the rule says, or with the
            text. The others were cut off by the limit of a step; steps that the limit of the whole
            solution cut off are left out.
        answered: the share of solutions with an answer.
        straddling: the number of steps whose last token has text behind the end of the step, which
            then belongs to this step; None for a rule that does not read text.
        endings: the commonest last tokens of steps that the rule has ended, as text, each with the
            number of these steps.
    """

    rule: str
    num_steps: int
    mean_steps: float
    most_steps: int
    median_tokens: float
    longest: int
    ended: float
    answered: float
    straddling: int | None
    endings: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Proposal:
    """An option of `llmsmc solve` and `llmsmc eval`, with the reason for it.

    Attributes:
        option: its name, with the hyphens.
        value: its value; None for an option without one.
        reason: what was measured.
    """

    option: str
    value: str | None
    reason: str


@dataclass(frozen=True)
class Inspection:
    """What is found out about a policy.

    Attributes:
        policy: its name.
        context_length: how many tokens prompt and solution may have together.
        ends: the tokens that end a turn, by their ids.
        system: the system prompt that was given.
        prompt: what the template makes of the first question, with its special tokens.
        prompt_tokens: the length of it.
        temperature: at which the solutions were drawn.
        max_tokens: the tokens at which they were cut off.
        max_tokens_per_step: the tokens at which a step is cut off.
        questions: the questions.
        solutions: the solutions.
        rules: how they are cut under each rule.
        proposals: the options to use.
        remarks: what else is worth knowing.
        generated_tokens: the number of tokens drawn.
        seconds: how long this took.
    """

    policy: str
    context_length: int
    ends: dict[int, str]
    system: str | None
    prompt: str
    prompt_tokens: int
    temperature: float
    max_tokens: int
    max_tokens_per_step: int
    questions: tuple[Question, ...]
    solutions: tuple[Solution, ...]
    rules: tuple[RuleReport, ...]
    proposals: tuple[Proposal, ...]
    remarks: tuple[str, ...]
    generated_tokens: int
    seconds: float

    @property
    def ended(self) -> float:
        """The share of solutions that the policy has ended."""
        return sum(each.is_ended for each in self.solutions) / len(self.solutions)

    @property
    def answered(self) -> float:
        """The share of solutions with an answer."""
        return sum(each.answer is not None for each in self.solutions) / len(self.solutions)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as it stands in a JSON file."""
        return asdict(self) | {"ended": self.ended, "answered": self.answered}
