r"""Reasoning as a state-space model.

$$x_t \sim p(\text{next step} \mid \text{question}, x_{t-1}), \qquad
\log G_t = \beta \, (\log A(r_1, \dots, r_t) - \log A(r_1, \dots, r_{t-1}))$$

The state $x_t$ is the solution after t + 1 steps. The transition appends one step, drawn from a
language model; the likelihood is the likelihood of the observation "accepted" under a process
reward model with scores r, combined by the aggregation A. The target is
$p(x) A(r_1, \dots, r_T)^\beta$.

A text model of your own derives from this one and defines its target relative to the language model
in `log_tilt`: any function of the text, the tokens or their probabilities.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from llmsmc.core.capabilities import DrawsProposals
from llmsmc.core.checks import require_count
from llmsmc.core.cost import Cost, peak_memory_bytes
from llmsmc.core.state_space_model import StateSpaceModel
from llmsmc.defaults import DEFAULT_ANSWER_FORMS
from llmsmc.errors import InputError
from llmsmc.grading.forms import BOXED, answer_forms
from llmsmc.models.policies.decoding.requests import Readout
from llmsmc.models.policies.policy import Demands, Policy, require_same_tokens
from llmsmc.models.reasoning.compiled_thinking import CompiledThinking, compiled_thinking
from llmsmc.models.reasoning.particles import CACHES, FAILED, ReasoningParticles
from llmsmc.models.reasoning.scores import StepScores, newest_log_odds, scored_by_expert
from llmsmc.models.reasoning.segmentation import could_be_sampled
from llmsmc.models.reasoning.splicing import rewound, spliced, with_scores
from llmsmc.models.reasoning.step_sampling import FinishReasons, StepSampler, among_finished
from llmsmc.models.rewards.aggregation import Aggregation, aggregation
from llmsmc.models.rewards.reward import Reward
from llmsmc.models.rewards.reward_function import Scoring, as_reward
from llmsmc.models.text.constraint import Constraint
from llmsmc.models.text.stopping import StepRule, step_rule
from llmsmc.models.text.thinking import Thinking


@dataclass
class _Meter:
    """The odometer of a model: its cost so far, the one thing about it that changes."""

    cost: Cost = Cost()


@dataclass(frozen=True, eq=False)
class Reasoning(StateSpaceModel):
    r"""The state-space model of a question: a language model writes, a reward model judges.

    Attributes:
        policy: the language model, in this process or behind a server.
        reward: the process reward model, or a function of the question and the steps that returns
            their scores; None for algorithms that never ask for a likelihood.
        question: the question.
        aggregation: the function that combines the scores of the steps: a name (see
            `llmsmc.models.rewards.aggregation`), or an `Aggregation`.
        temperature: the sampling temperature; 0 takes the most probable token each time.
        step: the rule that ends a step: a delimiter, a number of tokens, or a rule of your own.
        max_steps: the number of steps after which solutions are truncated.
        max_tokens_per_step: the number of tokens at which a step, and with it the solution, is
            truncated.
        max_tokens: the number of tokens at which the whole solution is truncated, within the
            context of the model.
        inverse_temperature: the exponent beta of the score.
        system: a system prompt; by default the system prompt of the chat template.
        stop_at_answer: whether a solution is complete with the step in which it gives its answer
            in ``\boxed{}``, even if the language model would continue.
        policy_inverse_temperature: alpha; the target then has $p(x)^\alpha$, with p at temperature
            1, in place of the distribution at the sampling temperature. Steps are still drawn at
            the sampling temperature, for which 1 / alpha is a good choice, and weighed.
        proposal_policy: a language model with the same tokens from which guided algorithms draw
            steps, at a temperature above 0, for example a more quantized policy. The policy only
            scores these steps.
        constraint: texts or tokens that must not occur in a solution; solutions that violate it
            have weight zero. Guided algorithms draw each token from the allowed part of its
            distribution, and weigh by the mass of this part, which is locally optimal.
        expert: another language model with the same tokens, for a `log_tilt` of your own that
            calls `expert_log_prob`.
        lookahead: a guess, as log-weights, at the remaining likelihood of each solution, for
            auxiliary and twisted filters; by default the score of the last step.
        thinking: the settings of a policy that thinks before it answers.
        answer_forms: the forms in which answers are looked for, the preferred one first (see
            `llmsmc.grading.extraction`); only ``\boxed{}`` among them ends a solution.
        readout: what is read of the policy while it writes, and kept beside the tokens; by default
            what the reward reads of it.
        write_on: whether particles that have come to the end of a step begin the next while others
            finish it, where the policy runs in this process and has no other work. The law is the
            same, and so are the draws whether or not there is other work; see
            `llmsmc.models.reasoning.writing_on`. Steps that are guided and policies that think do
            without.
    """

    policy: Policy
    reward: Reward | Scoring | None
    question: str
    aggregation: str | Aggregation = "product"
    temperature: float | int = 1.0
    step: str | int | StepRule = "\n\n"
    max_steps: int | None = 40
    max_tokens_per_step: int = 512
    max_tokens: int | None = None
    inverse_temperature: float | int = 1.0
    system: str | None = None
    stop_at_answer: bool = True
    policy_inverse_temperature: float | int | None = None
    proposal_policy: Policy | None = None
    constraint: Constraint | None = None
    expert: Policy | None = None
    lookahead: Callable[[ReasoningParticles], Tensor] | None = None
    thinking: Thinking | None = None
    answer_forms: str | Sequence[str] = DEFAULT_ANSWER_FORMS
    readout: Readout | None = None
    write_on: bool = False
    _meter: _Meter = field(init=False, repr=False, default_factory=_Meter)

    def __post_init__(self) -> None:
        """Check the settings and the question."""
        for name in ("max_steps", "max_tokens_per_step", "max_tokens"):
            if name == "max_tokens_per_step" or getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        _require_not_negative("temperature", self.temperature)
        _require_not_negative("inverse_temperature", self.inverse_temperature)
        if self.policy_inverse_temperature is not None:
            _require_not_negative("policy_inverse_temperature", self.policy_inverse_temperature)
        for other in (self.proposal_policy, self.expert):
            if other is not None:
                require_same_tokens(self.policy, other)
        if self.constraint is not None:
            _ = self.policy.tokens.mask(self.constraint)
        self._check_demands()
        _ = self._sampler
        if self._scores is not None:
            self._scores.reward.check(self.question)

    @cached_property
    def prompt_ids(self) -> tuple[int, ...]:
        """The tokens of the prompt."""
        return self.policy.prompt_ids(self.question, self.system, self.thinking)

    @cached_property
    def _thinking(self) -> CompiledThinking | None:
        return compiled_thinking(self.policy, self.thinking, step_rule(self.step), self.prompt_ids)

    @cached_property
    def _thinking_end(self) -> str | None:
        return None if self._thinking is None else self._thinking.thinking.closing

    @cached_property
    def _answer_forms(self) -> tuple[str, ...]:
        return answer_forms(self.answer_forms)

    @cached_property
    def _aggregation(self) -> Aggregation:
        return aggregation(self.aggregation)

    @cached_property
    def _scores(self) -> StepScores | None:
        """The reward of this question; None without a reward."""
        if self.reward is None:
            return None
        all_are_read = self._thinking is None or self._thinking.thinking.scored
        read_behind = None if all_are_read else self._thinking_end
        return StepScores(as_reward(self.reward), self.question, self._aggregation, read_behind)

    @property
    def _readout(self) -> Readout | None:
        if self.readout is not None or self._scores is None:
            return self.readout
        return self._scores.readout

    @cached_property
    def _sampler(self) -> StepSampler:
        """The sampler of the steps of this question."""
        room = self.policy.context_length - len(self.prompt_ids)
        if self.max_tokens is not None:
            room = min(room, self.max_tokens)
        finish_reasons = FinishReasons(
            self.stop_at_answer and BOXED in self._answer_forms,
            self.max_steps,
            room,
            self._thinking_end,
            self._scores,
        )
        return StepSampler(
            self.policy,
            self.proposal_policy,
            self.constraint,
            self.prompt_ids,
            step_rule(self.step) if self._thinking is None else self._thinking.rule,
            self._thinking,
            self.max_tokens_per_step,
            self.max_tokens,
            finish_reasons,
            self._readout,
            self.write_on and self._thinking is None,
        )

    def _nothing(self, num_particles: int) -> ReasoningParticles:
        return ReasoningParticles.empty(
            self.question, self.prompt_ids, num_particles, self._thinking_end, self._answer_forms
        )

    def sample_initial(self, num_particles: int, *, generator: Generator) -> ReasoningParticles:
        """Draw the first step of N solutions; consumes `generator`."""
        nothing = self._nothing(num_particles)
        return self.sample_transition(0, nothing, generator=generator)

    def sample_transition(
        self, t: int, previous: ReasoningParticles, *, generator: Generator
    ) -> ReasoningParticles:
        """Draw one more step of each unfinished solution; consumes `generator`."""
        state, _, cost = self._sampler.step(t, previous, self.temperature, generator)
        self._meter.cost += cost
        return state

    def mode_initial(self, num_particles: int) -> ReasoningParticles:
        """Return N copies of the first step that greedy decoding gives."""
        first = self.mode_transition(0, self._nothing(1))
        return first[torch.zeros(num_particles, dtype=torch.long)]

    def mode_transition(self, t: int, previous: ReasoningParticles) -> ReasoningParticles:
        """Append the step that greedy decoding gives."""
        state, _, cost = self._sampler.step(t, previous, 0.0, None)
        self._meter.cost += cost
        return state

    def finished(self, state: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions are complete, or truncated for good by a limit on tokens."""
        return state.finished

    def truncated(self, particles: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions are truncated: unfinished, or ended by a limit."""
        return particles.truncated

    def failed(self, particles: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions a server could not go on with."""
        return particles.finish_codes == FAILED

    def observe(
        self, t: int, previous: ReasoningParticles | None, state: ReasoningParticles, y: Any
    ) -> tuple[ReasoningParticles, Float64[Tensor, " N"]]:
        """Return the solutions with their scores, and log G_t; zero where one had finished before.

        Each step is scored once: the returned solutions hold the scores and the caches of the
        models.
        """
        state, now = self.observe_path(t, state, None)
        if previous is None:
            return state, now
        _, before = self.observe_path(t - 1, previous, None)
        return state, torch.where(before == -math.inf, -math.inf, now - before)

    def observe_path(
        self, t: int, state: ReasoningParticles, observations: Any
    ) -> tuple[ReasoningParticles, Float64[Tensor, " N"]]:
        """Return the solutions with their scores, and the sum of log G over all of their steps.

        The reward model reads the steps in one pass. The sum is `log_tilt`, and minus infinity for
        solutions that violate the constraint or that a server could not go on with.
        """
        state = self._with_scores(state)
        log_target = self.log_tilt(state).masked_fill(state.finish_codes == FAILED, -math.inf)
        if self.constraint is not None:
            mask = self.policy.tokens.mask(self.constraint)
            violated = mask.violated(state.token_ids, state.num_tokens)
            log_target = log_target.masked_fill(violated, -math.inf)
        return state, log_target

    def log_likelihood(
        self, t: int, previous: ReasoningParticles | None, state: ReasoningParticles, y: Any
    ) -> Float64[Tensor, " N"]:
        """Return log G_t; see `observe`."""
        return self.observe(t, previous, state, y)[1]

    def path_log_likelihood(
        self, t: int, state: ReasoningParticles, observations: Any
    ) -> Float64[Tensor, " N"]:
        """Return the sum of log G over all steps; see `observe_path`."""
        return self.observe_path(t, state, observations)[1]

    def _with_scores(self, state: ReasoningParticles) -> ReasoningParticles:
        """Return the solutions with the scores of the reward and of the expert."""
        if self._scores is not None:
            state, cost = self._scores.scored(state)
            self._meter.cost += cost
        if self.expert is not None:
            state, cost = scored_by_expert(self.expert, self._expert_prompt_ids, state)
            self._meter.cost += cost
        return state

    @cached_property
    def _expert_prompt_ids(self) -> tuple[int, ...]:
        assert self.expert is not None
        return self.expert.prompt_ids(self.question, self.system, self.thinking)

    def survives(self, t: int, state: ReasoningParticles, since: int = 0) -> Bool[Tensor, " N"]:
        """Return which solutions had a target above zero after each of their steps.

        A score of exactly zero can be made good: under "last" and "model" by the next one, and by
        a blank step, which changes the text before it. Where a reward never says zero, nothing is
        computed.
        """
        survivors = torch.ones(len(state), dtype=torch.bool)
        if not self._can_come_back:
            return survivors
        for count in range(since + 1, int(state.num_transitions.max())):
            rows = (survivors & (state.num_transitions > count)).nonzero().squeeze(1)
            if len(rows):
                before = self.rewind(state[rows], torch.full((len(rows),), count))
                survivors[rows] = self.observe_path(t, before, None)[1] > -math.inf
        return survivors

    @cached_property
    def _can_come_back(self) -> bool:
        """Whether a solution may have a target of zero that later steps make good."""
        if type(self).log_tilt is not Reasoning.log_tilt:
            return True
        if self._scores is None:
            return False
        never_zero = getattr(self._scores.reward, "never_zero", False)
        return not (never_zero and self._aggregation.positive)

    def log_tilt(self, state: ReasoningParticles) -> Float64[Tensor, " N"]:
        r"""Return the log of the target relative to the transition, $\log (\gamma(x) / p(x))$.

        A function of the solution so far; its increments weigh the steps. By default it is the
        score under the reward model and, with `policy_inverse_temperature`, the power of the
        policy's law. Override it for a target of your own; all scores are filled in before it is
        called, so that a model whose target ignores the reward should have none.
        """
        alpha, log_tilt = self.policy_inverse_temperature, torch.zeros(len(state)).double()
        if alpha is not None:
            log_tilt = (alpha * state.log_probs - state.transition_log_probs).sum(1)
        if self._scores is None:
            if alpha is None and self.constraint is None:
                raise _no_reward()
            return log_tilt
        state = self._with_scores(state)
        counted = torch.arange(state.log_odds.shape[1]) < state.num_steps[:, None]
        counted &= ~state.log_odds.isnan()
        log_scores = self._scores.aggregation.log_score(state.log_odds, counted)
        return log_tilt + self.inverse_temperature * log_scores

    def expert_log_prob(self, state: ReasoningParticles) -> Float64[Tensor, " N"]:
        """Return the log-probability of each solution under the expert, at temperature 1.

        Each token is scored once, before `log_tilt` is called; the solutions that `observe` returns
        hold the cache of the expert.

        Raises:
            InputError: the model has no expert.
        """
        if self.expert is None:
            raise InputError(
                "This model asks an expert. Got Reasoning(expert=None); accepted: a LanguageModel "
                "with the tokens of the policy."
            )
        return self._with_scores(state).expert_log_probs.nan_to_num(0.0).sum(1)

    def supports(self, capability: type) -> bool:
        """Return whether the model has a capability: settings decide whether it has a proposal."""
        if capability is DrawsProposals:
            masked = self.constraint is not None and self.policy.masks
            return self.proposal_policy is not None or masked
        return super().supports(capability)

    def check_splice(self) -> None:
        """Raise `InputError` if the policy cannot score the steps that `splice` appends."""
        self.policy.check(Demands(temperature=self.temperature, token_scores=True))

    def propose(
        self,
        t: int,
        previous: ReasoningParticles | None,
        y: Any,
        num_particles: int,
        *,
        generator: Generator,
    ) -> tuple[ReasoningParticles, Float64[Tensor, " N"]]:
        """Draw one more step from the proposal; one of another model the policy scores in one pass.

        What ends a step is a function of its tokens, and cancels in the ratio.
        """
        if previous is None:
            previous = self._nothing(num_particles)
        state, log_ratio, cost = self._sampler.step(
            t, previous, self.temperature, generator, is_guided=True
        )
        self._meter.cost += cost
        return state, log_ratio

    def log_lookahead(self, t: int, state: ReasoningParticles, y: Any) -> Tensor:
        """Return the log of the guess at the remaining likelihood of each solution."""
        if self.lookahead is not None:
            return self.lookahead(state)
        if self._scores is None:
            raise _no_reward()
        return logsigmoid(newest_log_odds(self._with_scores(state)))

    def log_twist(self, t: int, state: ReasoningParticles, observations: Any) -> Tensor:
        """Return the guess of `log_lookahead`, for a twisted filter."""
        return self.log_lookahead(t, state, None)

    def log_prior(self, state: ReasoningParticles) -> Float64[Tensor, " N"]:
        """Return the log-probability of each solution under the transition.

        It is `-inf` where the solution could not have been sampled in these steps.
        """
        before = self._rewound(state, (state.num_transitions - 1).clamp(min=0))
        possible = could_be_sampled(self._sampler, state, before)
        return state.transition_log_probs.sum(1).masked_fill(~possible, -math.inf)

    def splice(
        self, state: ReasoningParticles, t: int, references: ReasoningParticles
    ) -> ReasoningParticles:
        """Return the unfinished solutions, each continued by the steps from t on of another.

        The policy scores the appended steps in one pass.
        """
        rows = (~state.finished).nonzero().squeeze(1)
        if not len(rows):
            return state
        prefixes = state[rows]
        joined = spliced(prefixes, references[rows], t, self.policy)
        if self._scores is not None:
            joined = self._scores.rewound(prefixes, joined)
        scores, cost = self._sampler.scores_behind(
            prefixes, joined.token_ids, joined.num_tokens, self.temperature
        )
        self._meter.cost += cost
        joined = with_scores(joined, prefixes.num_tokens, scores)
        if self._thinking is not None:
            joined = self._thinking.certain_where_forced(joined)
        return joined if len(rows) == len(state) else among_finished(joined, rows, state)

    def record(self, particles: ReasoningParticles) -> ReasoningParticles:
        """Return the particles without caches."""
        nothing: dict[str, Any] = dict.fromkeys((*CACHES, "reward_room", "features", "ahead"))
        return replace(particles, **nothing)

    def donate(self, particles: ReasoningParticles) -> ReasoningParticles:
        """Donate the caches of these particles: they are extended for the last time."""
        caches: dict[str, Any] = {name: getattr(particles, name) for name in CACHES}
        return replace(
            particles, **{name: held and held.donated() for name, held in caches.items()}
        )

    def cost(self) -> Cost:
        """Return the cost of the model so far, over all its runs."""
        return replace(self._meter.cost, peak_memory_bytes=peak_memory_bytes(self.policy.device))

    def identities(self, state: ReasoningParticles) -> Sequence[Hashable]:
        """Return the tokens of each solution, and why it has finished."""
        columns = state.token_ids.tolist(), state.num_tokens.tolist(), state.finish_codes.tolist()
        return [(tuple(ids[:count]), code) for ids, count, code in zip(*columns, strict=True)]

    def num_steps(self, state: ReasoningParticles) -> Tensor:
        """Return how many steps each solution has, blank steps included."""
        return state.num_transitions

    def rewind(self, particles: ReasoningParticles, num_steps: Tensor) -> ReasoningParticles:
        """Return the particles after their first `num_steps` steps, unfinished where steps went.

        The caches of the remaining steps are kept.
        """
        num_steps = torch.minimum(num_steps, particles.num_transitions)
        after = self._rewound(particles, num_steps)
        return after if self._scores is None else self._scores.rewound(particles, after)

    def _rewound(self, particles: ReasoningParticles, num_steps: Tensor) -> ReasoningParticles:
        length = 0 if self.expert is None else len(self._expert_prompt_ids)
        return rewound(particles, num_steps, self.policy, length)

    def _check_demands(self) -> None:
        """Raise `InputError` if a language model cannot do what this model asks of it."""
        power, proposes = self.policy_inverse_temperature is not None, self.proposal_policy
        rule, temperature = self._sampler.rule, self.temperature
        reads_written = bool(getattr(self.reward, "reads_written", False)) or bool(self.readout)
        self.policy.check(
            Demands(
                rule=rule,
                temperature=temperature,
                log_probs=power or reads_written,
                transition_log_probs=power,
                token_scores=proposes is not None,
            )
        )
        if proposes is not None:
            proposes.check(Demands(rule=rule, temperature=temperature, transition_log_probs=True))
        if self.expert is not None:
            self.expert.check(Demands(token_scores=True))


def _no_reward() -> InputError:
    return InputError(
        "This algorithm asks for a likelihood. Got Reasoning(reward=None); accepted: a "
        "RewardModel, or an algorithm that needs none (Greedy, SelfConsistency)."
    )


def _require_not_negative(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:  # type: ignore[operator]
        raise InputError(f"{name} is a number. Got {value!r}; accepted: 0 <= {name} < infinity.")
