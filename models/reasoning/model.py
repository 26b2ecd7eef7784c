r"""Reasoning as a state-space model.

$$x_t \sim p(\text{next step} \mid \text{question}, x_{t-1}), \qquad
\log G_t = \beta \, (\log A(r_1, \dots, r_t) - \log A(r_1, \dots, r_{t-1}))$$

The state $x_t$ is the solution after t + 1 steps. The transition appends one step, drawn from a
language model; the likelihood is that of the observation "accepted" under a process reward model
with scores r, put together by the aggregation A. The target is $p(x) A(r_1, \dots, r_T)^\beta$.

A model of text of your own derives from this one and says in `log_tilt` what its target is relative
to the language model: any function of the text, the tokens or their probabilities.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float64
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from llmsmc.core.capabilities import DrawsProposals
from llmsmc.core.checks import require_count
from llmsmc.core.cost import Cost
from llmsmc.core.state_space_model import StateSpaceModel
from llmsmc.errors import InputError
from llmsmc.models.policies.decoding.sampling import UniformTable
from llmsmc.models.policies.decoding.step_tokens import StepTokens
from llmsmc.models.policies.policy import Demands, Policy, require_same_tokens
from llmsmc.models.pretrained.memory_use import peak_memory_bytes
from llmsmc.models.reasoning.compiled_thinking import Thoughts, thoughts
from llmsmc.models.reasoning.experts import score_by_expert
from llmsmc.models.reasoning.finish_reasons import Endings
from llmsmc.models.reasoning.particles import ReasoningParticles, appended, concatenate
from llmsmc.models.reasoning.rewinding import rewound
from llmsmc.models.reasoning.segmentation import complete_steps, end_where_they_must
from llmsmc.models.reasoning.splicing import spliced, with_scores
from llmsmc.models.reasoning.step_sampling import Writing
from llmsmc.models.reasoning.step_scores import StepScores, newest_log_odds
from llmsmc.models.rewards.aggregation import Aggregation, aggregation
from llmsmc.models.rewards.reward import Reward
from llmsmc.models.rewards.reward_function import Scoring, as_reward
from llmsmc.models.text.constraint import Constraint
from llmsmc.models.text.stopping import StepRule, step_rule
from llmsmc.models.text.thinking import Thinking, answer_steps

Found = TypeVar("Found")


@dataclass
class _Meter:
    """What a model has cost so far; the one thing about it that changes."""

    cost: Cost = Cost()

    def add(self, cost: Cost) -> None:
        self.cost = self.cost + cost


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
        max_steps: the number of steps after which solutions are cut off.
        max_tokens_per_step: the number of tokens at which a step, and with it the solution, is cut
            off.
        max_tokens: the number of tokens at which the whole solution is cut off, within the context
            of the model.
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
            _ = self.policy.mask(self.constraint)
        _ = self._aggregation, self._rule
        self._check_demands()
        _ = self.prompt_ids
        if self.reward is not None:
            self._reward_model.check(self.question)

    @cached_property
    def prompt_ids(self) -> tuple[int, ...]:
        """The tokens of the prompt."""
        return self._prompt_ids_of(self.policy)

    def _prompt_ids_of(self, policy: Policy) -> tuple[int, ...]:
        return policy.prompt_ids(self.question, self.system, self.thinking)

    @property
    def _room(self) -> int:
        """How many tokens a solution can have."""
        room = self.policy.context_length - len(self.prompt_ids)
        return room if self.max_tokens is None else min(room, self.max_tokens)

    @cached_property
    def _thoughts(self) -> Thoughts | None:
        return thoughts(self.policy, self.thinking, step_rule(self.step), self.prompt_ids)

    @property
    def _thinking_end(self) -> str | None:
        return None if self._thoughts is None else self._thoughts.thinking.closing

    @cached_property
    def _rule(self) -> StepRule:
        return step_rule(self.step) if self._thoughts is None else self._thoughts.rule

    @property
    def _writing(self) -> Writing:
        limits = self.max_tokens_per_step, self.max_tokens
        return Writing(
            self.policy, self.prompt_ids, self._rule, self._thoughts, *limits, self._endings
        )

    @property
    def _endings(self) -> Endings:
        fits = _has_room if self.reward is None else self._scores.fits
        return Endings(self.stop_at_answer, self.max_steps, self._room, self._thinking_end, fits)

    @property
    def _scores(self) -> StepScores:
        return StepScores(self._reward_model, self.question, self._aggregation, self._read)

    def _read(self, steps: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the steps that the reward model reads."""
        if self._thoughts is None or self._thoughts.thinking.scored:
            return steps
        return answer_steps(steps, self._thinking_end)

    def _nothing(self, num_particles: int) -> ReasoningParticles:
        return ReasoningParticles.empty(
            self.question, self.prompt_ids, num_particles, self._thinking_end
        )

    @cached_property
    def _aggregation(self) -> Aggregation:
        return aggregation(self.aggregation)

    @cached_property
    def _reward_model(self) -> Reward:
        if self.reward is None:
            raise InputError(
                "This algorithm asks for a likelihood. Got Reasoning(reward=None); accepted: a "
                "RewardModel, or an algorithm that needs none (Greedy, SelfConsistency)."
            )
        return as_reward(self.reward)

    def sample_initial(self, num_particles: int, *, generator: Generator) -> ReasoningParticles:
        """Draw the first step of N solutions; consumes `generator`."""
        nothing = self._nothing(num_particles)
        return self._extend(0, nothing, self.temperature, generator)

    def sample_transition(
        self, t: int, previous: ReasoningParticles, *, generator: Generator
    ) -> ReasoningParticles:
        """Draw one more step of each unfinished solution; consumes `generator`."""
        return self._extend(t, previous, self.temperature, generator)

    def mode_initial(self, num_particles: int) -> ReasoningParticles:
        """Return N copies of the first step that greedy decoding gives."""
        nothing = self._nothing(1)
        first = self._extend(0, nothing, 0.0, None)
        return first[torch.zeros(num_particles, dtype=torch.long)]

    def mode_transition(self, t: int, previous: ReasoningParticles) -> ReasoningParticles:
        """Append the step that greedy decoding gives."""
        return self._extend(t, previous, 0.0, None)

    def finished(self, state: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions are complete, or cut off for good by a limit on tokens."""
        return state.finished

    def truncated(self, particles: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions have been, or are by now, cut off before their end."""
        return particles.truncated

    def failed(self, particles: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions a server could not go on with."""
        return particles.failed

    def log_likelihood(
        self, t: int, previous: ReasoningParticles | None, state: ReasoningParticles, y: Any
    ) -> Float64[Tensor, " N"]:
        """Return log G_t; zero for solutions that had finished before."""
        now = self._log_target(state)
        if previous is None:
            return now
        before = self._log_target(previous)
        return torch.where(before == -math.inf, -math.inf, now - before)

    def path_log_likelihood(
        self, t: int, state: ReasoningParticles, observations: Any
    ) -> Float64[Tensor, " N"]:
        """Return the sum of log G over all steps, read by the reward model in one pass."""
        return self._log_target(state)

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
                survivors[rows] = self._log_target(before) > -math.inf
        return survivors

    @cached_property
    def _can_come_back(self) -> bool:
        """Whether a solution may have a target of zero that later steps make good."""
        if type(self).log_tilt is not Reasoning.log_tilt:
            return True
        if self.reward is None:
            return False
        never_zero = getattr(self._reward_model, "never_zero", False)
        return not (never_zero and self._aggregation.positive)

    def log_tilt(self, state: ReasoningParticles) -> Float64[Tensor, " N"]:
        r"""Return the log of the target relative to the transition, $\log (\gamma(x) / p(x))$.

        A function of the solution so far; its increments weigh the steps. As it stands the score
        under the reward model and, with `policy_inverse_temperature`, the power of the policy's
        law. Override it for a target of your own.
        """
        alpha, log_tilt = self.policy_inverse_temperature, torch.zeros(len(state)).double()
        if alpha is not None:
            log_tilt = (alpha * state.log_probs - state.transition_log_probs).sum(1)
        if self.reward is None and (alpha is not None or self.constraint is not None):
            return log_tilt
        self._meter.add(self._scores.fill_in(state))
        return log_tilt + self.inverse_temperature * self._scores.log_scores(state)

    def expert_log_prob(self, state: ReasoningParticles) -> Float64[Tensor, " N"]:
        """Return the log-probability of each solution under the expert, at temperature 1.

        Each token is scored once; what the expert has read stays cached with the particles.

        Raises:
            InputError: the model has no expert.
        """
        if self.expert is None:
            raise InputError(
                "This model asks an expert. Got Reasoning(expert=None); accepted: a LanguageModel "
                "with the tokens of the policy."
            )
        self._meter.add(score_by_expert(self.expert, self._prompt_ids_of(self.expert), state))
        return state.expert_log_probs.nan_to_num(0.0).sum(1)

    def supports(self, capability: type) -> bool:
        """Return whether the model has a capability: settings decide whether it has a proposal."""
        if capability is DrawsProposals:
            masked = self.constraint is not None and self.policy.masks
            return self.proposal_policy is not None or masked
        return super().supports(capability)

    def check_splice(self) -> None:
        """Raise `InputError` if the policy cannot score what is put behind a solution."""
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
        rows = (~previous.finished).nonzero().squeeze(1)
        log_ratio = torch.zeros(len(previous), dtype=torch.float64)
        if not len(rows):
            return previous, log_ratio
        active, writing = previous[rows], self._writing
        uniforms = UniformTable(len(previous), generator)
        source, memory = self.policy, active.policy_memory
        if self.proposal_policy is not None:
            source, memory = self.proposal_policy, active.proposal_memory
        drawn = self._charged(
            writing.drawn(
                t, source, active, memory, rows, uniforms, self.temperature, self.constraint
            )
        )
        if self.proposal_policy is None or not int(drawn.num_tokens.sum()):
            log_ratio[rows] = (drawn.transition_log_probs - drawn.proposal_log_probs).sum(1)
            extended = self._remembering(active, writing.extended(t, active, drawn))
            return self._with_finished(previous, rows, extended, drawn), log_ratio
        counts = active.num_tokens + drawn.num_tokens
        token_ids = appended(active.token_ids, active.num_tokens, drawn.token_ids, drawn.num_tokens)
        scores = self._charged(writing.scores_behind(active, token_ids, counts, self.temperature))
        if self._thoughts is not None:
            scores = self._thoughts.without_forced(scores, active.num_tokens, active.steps)
        log_ratio[rows] = (scores.tempered_log_probs - drawn.proposal_log_probs).sum(1)
        extended = self._remembering(active, writing.extended(t, active, drawn, scores))
        return self._with_finished(previous, rows, extended, drawn), log_ratio

    def log_lookahead(self, t: int, state: ReasoningParticles, y: Any) -> Tensor:
        """Return the guess at what is still to come."""
        if self.lookahead is not None:
            return self.lookahead(state)
        self._meter.add(self._scores.fill_in(state))
        return logsigmoid(newest_log_odds(state))

    def log_twist(self, t: int, state: ReasoningParticles, observations: Any) -> Tensor:
        """Return the guess of `log_lookahead`, for a twisted filter."""
        return self.log_lookahead(t, state, None)

    def log_prior(self, state: ReasoningParticles) -> Float64[Tensor, " N"]:
        """Return the log-probability of each solution under the transition.

        It is `-inf` where the tokens could not have been cut into these steps.
        """
        before = self._cut_back(state, (state.num_transitions - 1).clamp(min=0))
        possible = self._endings.are_possible(state, before)
        automaton, thoughts = self.policy.automaton(self._rule), self._thoughts
        complete = complete_steps(
            automaton,
            state.token_ids,
            state.num_tokens,
            self.policy.device,
            None if thoughts is None else thoughts.automaton.restart,
        )
        possible &= end_where_they_must(
            state,
            complete,
            self._endings.are_full(state),
            self._endings.are_cut_off(state),
            self.max_tokens_per_step,
            self.max_steps,
        )
        if thoughts is not None:
            possible &= thoughts.are_possible(state)
        return state.transition_log_probs.sum(1).masked_fill(~possible, -math.inf)

    def splice(
        self, state: ReasoningParticles, t: int, references: ReasoningParticles
    ) -> ReasoningParticles:
        """Return the unfinished solutions, each continued by the steps from t on of another.

        The policy scores what is put behind, in one pass.
        """
        rows = (~state.finished).nonzero().squeeze(1)
        if not len(rows):
            return state
        prefixes = state[rows]
        joined = spliced(prefixes, references[rows], t, self.policy)
        joined = self._remembering(prefixes, joined)
        scores = self._charged(
            self._writing.scores_behind(
                prefixes, joined.token_ids, joined.num_tokens, self.temperature
            )
        )
        joined = with_scores(joined, prefixes.num_tokens, scores)
        if self._thoughts is not None:
            joined = self._thoughts.certain_where_forced(joined)
        return self._with_finished(state, rows, joined)

    def record(self, particles: ReasoningParticles) -> ReasoningParticles:
        """Return the particles with nothing cached."""
        return particles.without_memory()

    def give_up(self, particles: ReasoningParticles) -> ReasoningParticles:
        """Donate the caches of these particles: they are extended for the last time."""
        return particles.given_up()

    def cost(self) -> Cost:
        """Return what the model has cost so far, over all its runs."""
        return replace(self._meter.cost, peak_memory_bytes=peak_memory_bytes(self.policy.device))

    def identities(self, state: ReasoningParticles) -> Sequence[Hashable]:
        """Return the tokens of each solution, and why it has finished."""
        codes = state.finish_codes.tolist()
        return [(state[n].token_ids, codes[n]) for n in range(len(state))]

    def num_steps(self, state: ReasoningParticles) -> Tensor:
        """Return how many steps each solution has, those without a text of their own too."""
        return state.num_transitions

    def rewind(self, particles: ReasoningParticles, num_steps: Tensor) -> ReasoningParticles:
        """Return the particles after their first `num_steps` steps, unfinished where steps went.

        What is cached of the steps that remain stays cached.
        """
        num_steps = torch.minimum(num_steps, particles.num_transitions)
        return self._remembering(particles, self._cut_back(particles, num_steps))

    def _cut_back(self, particles: ReasoningParticles, num_steps: Tensor) -> ReasoningParticles:
        length = 0 if self.expert is None else len(self._prompt_ids_of(self.expert))
        return rewound(particles, num_steps, self.policy, length)

    def _remembering(
        self, before: ReasoningParticles, after: ReasoningParticles
    ) -> ReasoningParticles:
        """Return the particles `after` with what the reward has cached of those `before`."""
        if self.reward is None:
            return after
        return replace(after, reward_memory=self._scores.forgotten(before, after))

    def _extend(
        self,
        t: int,
        previous: ReasoningParticles,
        temperature: float | int,
        generator: Generator | None,
    ) -> ReasoningParticles:
        """Append one step to each unfinished solution."""
        rows = (~previous.finished).nonzero().squeeze(1)
        if not len(rows):
            return previous
        uniforms = None
        if temperature > 0:
            assert generator is not None
            uniforms = UniformTable(len(previous), generator)
        active, writing = previous[rows], self._writing
        drawn = self._charged(
            writing.drawn(t, self.policy, active, active.policy_memory, rows, uniforms, temperature)
        )
        extended = self._remembering(active, writing.extended(t, active, drawn))
        return self._with_finished(previous, rows, extended, drawn)

    def _charged(self, found: tuple[Found, Cost]) -> Found:
        """Return what has been found, and note what it has cost."""
        self._meter.add(found[1])
        return found[0]

    def _with_finished(
        self,
        previous: ReasoningParticles,
        rows: Tensor,
        extended: ReasoningParticles,
        drawn: StepTokens | None = None,
    ) -> ReasoningParticles:
        """Put the extended particles in their places among those that had finished.

        Raises:
            ServerError: a server could not go on with any of them.
        """
        rest = previous.finished.nonzero().squeeze(1)
        if len(rest):
            order = torch.cat([rows, rest]).argsort()
            extended = concatenate([extended, previous[rest]])[order]
        if drawn is not None and drawn.error is not None and bool(extended.failed.all()):
            raise drawn.error
        return extended

    def _check_demands(self) -> None:
        """Raise `InputError` if a language model cannot do what this model asks of it."""
        power, proposes = self.policy_inverse_temperature is not None, self.proposal_policy
        self.policy.check(
            Demands(
                rule=self._rule,
                temperature=self.temperature,
                log_probs=power,
                transition_log_probs=power,
                token_scores=proposes is not None,
            )
        )
        if proposes is not None:
            proposes.check(
                Demands(rule=self._rule, temperature=self.temperature, transition_log_probs=True)
            )
        if self.expert is not None:
            self.expert.check(Demands(token_scores=True))

    def _log_target(self, particles: ReasoningParticles) -> Float64[Tensor, " N"]:
        """Return the log of the tilt, and minus infinity for what is not to be.

        That is what violates the constraint, and what a server could not go on with.
        """
        log_tilt = self.log_tilt(particles).masked_fill(particles.failed, -math.inf)
        if self.constraint is None:
            return log_tilt
        mask = self.policy.mask(self.constraint)
        return log_tilt.masked_fill(
            mask.violated(particles.token_ids, particles.num_tokens), -math.inf
        )


def _has_room(steps: tuple[str, ...]) -> bool:
    """Say that nobody reads the steps who could run out of room."""
    return True


def _require_not_negative(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:  # type: ignore[operator]
        raise InputError(f"{name} is a number. Got {value!r}; accepted: 0 <= {name} < infinity.")
