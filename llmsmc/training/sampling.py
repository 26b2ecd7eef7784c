"""How the solutions of questions are drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float, Float64, Int
from torch import Generator, Tensor

from llmsmc.core.checks import require_count
from llmsmc.defaults import DEFAULT_ANSWER_FORMS
from llmsmc.errors import InputError
from llmsmc.grading.forms import BOXED
from llmsmc.models import WholeAnswer
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import Readout, StepRequest, UniformTable
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.cutting import CutSolution, cut
from llmsmc.models.rewards.probe import FeatureFolder
from llmsmc.models.text.stopping import StepRule
from llmsmc.training.verdicts import Checker

ROWS_IN_FLIGHT: Final = 128
"""Solutions in a batch, by default: on processors more of them gain little."""


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
        checker: by which wrong steps are drawn anew (`llmsmc.training.redrawing`), but for test
            questions; None where solutions are drawn in one piece.
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
    checker: Checker | None = None

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
    ) -> StepRequest:
        """Return the request that ends solutions in one piece; consumes `generator`.

        Args:
            prompt_ids: the prompt.
            token_ids: what each solution begins with.
            num_tokens: how many tokens that are.
            handle: what is cached of them.
            generator: of the tokens.
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
            readout=self.readout,
        )

    def cut(self, solutions: Sequence[Sequence[int]]) -> list[CutSolution]:
        """Return solutions in the steps in which a filter would have drawn them."""
        stops = BOXED in self.answer_forms
        return cut(self.policy, self.step, solutions, stop_at_answer=stops)

    @property
    def readout(self) -> Readout | None:
        """What is read of the policy while it writes."""
        return None if self.features is None else self.features.readout

    @property
    def num_in_flight(self) -> int:
        """How many questions are under way at a time."""
        return self.in_flight or math.ceil(ROWS_IN_FLIGHT / self.num_samples)


@dataclass(frozen=True, eq=False)
class DrawnSolution:
    """A solution as it was written.

    Attributes:
        token_ids: its tokens.
        log_probs: of these tokens, at temperature 1.
        features: what was read of the policy at each of them; None where nothing was.
        finish_reason: why it ends: "eos", "answer", "length", "failed", or "checker" where the
            checker has put an end to it.
        given: how many of its steps are not its own, but another solution's.
    """

    token_ids: list[int]
    log_probs: Float64[Tensor, " L"]
    features: Float[Tensor, "L F"] | None
    finish_reason: str
    given: int = 0
