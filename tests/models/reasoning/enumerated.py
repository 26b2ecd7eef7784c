"""Languages of a few tokens whose solutions are enumerated, with steps that may be blank.

What a solution is, how it is cut into steps, what its texts are and how they are scored is written
down here a second time: by search in text, one token after another.
"""

import functools
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.grading.grades import boxed_answer
from llmsmc.models import Reasoning
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import (
    ScoreRequest,
    StepRequest,
    StepTokens,
    TokenScores,
)
from llmsmc.models.policies.policy import Demands
from llmsmc.models.reasoning.particles import FINISH_REASONS, NO_STEP, ReasoningParticles
from llmsmc.models.rewards.reward_function import RewardFunction
from llmsmc.models.text.stopping import EOS, LENGTH, STOP, Automaton, StepRule
from llmsmc.models.text.thinking import put_forced
from llmsmc.testing import Instance

Ids = tuple[int, ...]


class TableTokens:
    """The tokens of a table."""

    special = frozenset[str]()

    def __init__(self, words: list[str]) -> None:
        self.words, self._automata = words, dict[StepRule, Automaton]()

    @property
    def ids(self) -> dict[str, int]:
        return {word or "<end>": n for n, word in enumerate(self.words)}

    def encode(self, text: str) -> Ids:
        return tuple(self.words.index(word) for word in re.findall(r"<t>|</t>|.", text))

    def decode(self, token_ids: Iterable[int], after: Iterable[int] = ()) -> str:
        return "".join(self.words[n] for n in token_ids)

    def automaton(self, rule: StepRule) -> Automaton:
        if rule not in self._automata:
            self._automata[rule] = rule.automaton([word.encode() for word in self.words])
        return self._automata[rule]

    def mask(self, constraint: Any) -> Any:
        raise NotImplementedError


class TablePolicy:
    """A language model that is a table: of the next token behind every text.

    The first token ends the text, and has no text.
    """

    name, quantization, device, eos_ids = "table", None, torch.device("cpu"), (0,)
    masks, whole_answers_only = False, False
    context_length = 1_000_000

    def __init__(self, words: Sequence[str], longest: int, seed: int, silent: bool = False) -> None:
        """With `silent`, the end of the text is not among the tokens, as with some servers."""
        self.silent, self.tokens = silent, TableTokens(["", *words])
        self.words, source = self.tokens.words, np.random.default_rng(seed)
        self.longest, size = longest, len(self.words)
        law = source.dirichlet(np.full(size, 2.0), size=sum(size**k for k in range(longest)))
        self.law = torch.from_numpy(law)
        self._offsets = torch.tensor([sum(size**k for k in range(n)) for n in range(longest + 1)])

    def check(self, demands: Demands) -> None:
        pass

    def prompt_ids(self, question: str, system: Any = None, thinking: Any = None) -> Ids:
        return (1,)

    def sample_step(self, request: StepRequest) -> tuple[StepTokens, Cost]:
        assert request.temperature == 1.0 and request.uniforms is not None
        size, automaton = len(request), self.tokens.automaton(request.rule)
        room = request.room(self.context_length)
        states = automaton.start(size) if request.starts is None else request.starts
        codes, lengths = self._codes(request.token_ids, request.num_tokens)
        ids = torch.zeros((size, 0), dtype=torch.long)
        log_probs = torch.zeros((size, 0), dtype=torch.float64)
        counts, reasons = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
        while not bool((reasons > 0).all()):
            place = ids.shape[1]
            active = reasons == 0
            laws = self.law[(self._offsets[lengths] + codes).where(active, 0)]
            numbers = request.uniforms.column(place)[request.numbers]
            drawn = (laws.cumsum(1) <= numbers[:, None]).sum(1).clamp(max=len(self.words) - 1)
            found = laws.log().gather(1, drawn[:, None]).squeeze(1)
            if request.forced is not None:
                places = place - request.forced.starts
                drawn, (found,) = put_forced(request.forced.token_ids, places, drawn, [found])
            ids = torch.cat([ids, drawn.where(active, 0)[:, None]], 1)
            log_probs = torch.cat([log_probs, found.where(active, 0.0)[:, None]], 1)
            codes = (codes * len(self.words) + drawn).where(active, codes)
            lengths, counts = lengths + active.long(), counts + active.long()
            states = automaton.advance(states, drawn).where(active, states)
            full = counts >= room
            ended = torch.where(full | (counts >= request.max_tokens), LENGTH, 0)
            ended = torch.where(automaton.complete(states) & ~full, STOP, ended)
            ended = torch.where(drawn == 0, EOS, ended)
            reasons = ended.where(active, reasons)
        if self.silent:
            counts = counts - (reasons == EOS).long()
            drawn_before = torch.arange(ids.shape[1]) < counts[:, None]
            log_probs = log_probs.where(drawn_before, 0.0)
        handle = CacheRows.none(size)
        return StepTokens(ids, counts, log_probs, log_probs, log_probs, reasons, handle), Cost()

    def score_tokens(self, request: ScoreRequest) -> tuple[TokenScores, Cost]:
        width = int((request.num_tokens - request.starts).max())
        log_probs = torch.zeros((len(request.starts), width), dtype=torch.float64)
        codes, lengths = self._codes(request.token_ids, request.starts)
        last = request.token_ids.shape[1] - 1
        for place in range(width):
            # What is put together may be too long; it is impossible, whatever is said of it.
            valid = request.starts + place < request.num_tokens.clamp(max=self.longest)
            ids = request.token_ids.gather(1, (request.starts + place).clamp(max=last)[:, None])
            laws = self.law[
                (self._offsets[lengths.clamp(max=self.longest)] + codes).where(valid, 0)
            ]
            log_probs[:, place] = laws.log().gather(1, ids).squeeze(1).where(valid, 0.0)
            codes = (codes * len(self.words) + ids.squeeze(1)).where(valid, codes)
            lengths = lengths + valid.long()
        return TokenScores(log_probs, log_probs, CacheRows.none(len(codes))), Cost()

    def log_prob(self, ids: Ids, place: int) -> float:
        code = functools.reduce(lambda code, n: code * len(self.words) + n, ids[:place], 0)
        return math.log(self.law[int(self._offsets[place]) + code, ids[place]])

    def _codes(self, token_ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        codes = torch.zeros(len(counts), dtype=torch.long)
        for place, ids in enumerate(token_ids.T):
            codes = (codes * len(self.words) + ids).where(counts > place, codes)
        return codes, counts


class TableReward(RewardFunction):
    """Scores that depend on every character of a step and of those before it.

    Attributes:
        room: how many characters it can read at most.
        zeros: whether two fifths of the scores are exactly zero.
        num_read: how many steps it has been asked to read so far.
    """

    def __init__(self, room: int | None = None, zeros: bool = False) -> None:
        super().__init__(self._scores)
        self.room, self.zeros, self.num_read = room, zeros, 0

    def fits(self, question: str, steps: tuple[str, ...], reading: Any = "steps") -> bool:
        return self.room is None or len("".join(steps)) <= self.room

    def _scores(self, question: str, steps: Sequence[str]) -> list[float]:
        self.num_read += len(steps)
        return [self.of("\0".join(steps[:count])) for count in range(1, len(steps) + 1)]

    def of(self, text: str) -> float:
        is_zero = self.zeros and zlib.crc32((text + "z").encode()) % 5 < 2
        return 0.0 if is_zero else _score(text)


@functools.cache
def _score(text: str) -> float:
    return 0.1 + 0.9 * float(np.random.default_rng(zlib.crc32(text.encode())).random())


_AGGREGATED: dict[str, Any] = {
    "product": math.prod,
    "last": lambda scores: scores[-1],
    "model": lambda scores: scores[-1],
    "min": min,
    "odds": lambda scores: math.prod(score / (1 - score) for score in scores),
    "exp": lambda scores: math.exp(sum(scores)),
}


@dataclass(frozen=True)
class Written:
    """A whole solution: its tokens, where its steps end, its texts, why it ends, and its law."""

    ids: Ids
    ends: Ids
    texts: tuple[str, ...]
    text_ends: Ids
    reason: str
    log_prob: float
    log_score: float


@dataclass(frozen=True, eq=False)
class Language:
    """A model, of a `TablePolicy` and a `TableReward`, with all its solutions."""

    model: Reasoning

    @property
    def policy(self) -> TablePolicy:
        assert isinstance(self.model.policy, TablePolicy)
        return self.model.policy

    @property
    def _reward(self) -> TableReward:
        assert isinstance(self.model.reward, TableReward)
        return self.model.reward

    @functools.cached_property
    def solutions(self) -> list[Written]:
        return list(self._behind((), (), 0.0, False))

    def _behind(self, ids: Ids, ends: Ids, log_prob: float, lost: bool) -> Iterator[Written]:
        """Yield the solutions that begin with these tokens, of which the last step is open.

        What a filter has lost by a score of zero is lost, whatever comes later.
        """
        model, policy = self.model, self.policy
        forced = self._forced(ids, ends)
        for token in range(len(policy.words)) if forced is None else [forced]:
            longer = (*ids, token)
            total = log_prob + (policy.log_prob(longer, len(ids)) if forced is None else 0.0)
            step = longer[ends[-1] if ends else 0 :]
            complete = self._is_complete(longer, step)
            full = len(longer) == model.max_tokens
            cut = full or len(step) == model.max_tokens_per_step
            if token and not complete and not cut:
                yield from self._behind(longer, ends, total, lost)
                continue
            cuts = (*ends, len(longer))
            texts, text_ends = self._texts(longer, cuts)
            reason = None
            if not self._reward.fits("", texts):
                reason = "length"
            elif token == 0:
                reason = "eos"
            elif model.stop_at_answer and self._answers("".join(texts)):
                reason = "answer"
            elif full or not complete:
                reason = "length"
            elif len(cuts) == model.max_steps:
                reason = "max_steps"
            score = -math.inf if lost else self._log_score(texts)
            if reason is None:
                yield from self._behind(longer, cuts, total, score == -math.inf)
            else:
                if policy.silent and token == 0:
                    longer, cuts = longer[:-1], (*cuts[:-1], len(ids))
                    text_ends = tuple(min(end, len(ids)) for end in text_ends)
                yield Written(longer, cuts, texts, text_ends, reason, total, score)

    def _is_open(self, ids: Ids) -> bool:
        thinking = self.model.thinking
        return thinking is not None and thinking.closing not in self.policy.tokens.decode(ids)

    def _forced(self, ids: Ids, ends: Ids) -> int | None:
        """Return the token that must come next, if thinking is closed by force."""
        thinking = self.model.thinking
        if thinking is None or thinking.max_tokens is None or not self._is_open(ids):
            return None
        due = self.policy.tokens.encode(thinking.forced_text)
        beyond = len(ids) - thinking.max_tokens
        return due[beyond] if beyond >= 0 else None

    def _is_complete(self, ids: Ids, step: Ids) -> bool:
        thinking, rule = self.model.thinking, self.model.step
        if thinking is not None and self._is_open(ids[: len(ids) - len(step)]):
            if not self._is_open(ids):
                return True
            rule = rule if thinking.step is None else thinking.step
        if isinstance(rule, int):
            return len(step) >= rule
        text = self.policy.tokens.decode(step)
        if isinstance(rule, str):
            places = range(len(text) - len(rule) + 1)
            return any(text[n:].startswith(rule) and text[:n].strip() for n in places)
        pattern = getattr(rule, "pattern", None)
        if pattern is None:
            return False
        return any(text[: found.end()].strip() for found in re.finditer(pattern, text))

    def _texts(self, ids: Ids, ends: Ids) -> tuple[tuple[str, ...], Ids]:
        """Return the texts; what is blank goes to the one before, or to the one that comes."""
        texts, stops, held, start = list[str](), list[int](), "", 0
        for end in ends:
            piece, start = held + self.policy.tokens.decode(ids[start:end]), end
            held = ""
            if piece.strip():
                texts.append(piece)
                stops.append(end)
            elif texts:
                texts[-1], stops[-1] = texts[-1] + piece, end
            else:
                held = piece
        return tuple(texts), tuple(stops)

    def _answers(self, text: str) -> bool:
        thinking = self.model.thinking
        behind = text if thinking is None else text.partition(thinking.closing)[2]
        return boxed_answer(behind) is not None

    def _log_score(self, texts: Sequence[str]) -> float:
        thinking = self.model.thinking
        if thinking is not None and not thinking.scored:
            closed = [n for n, text in enumerate(texts) if thinking.closing in text]
            texts = texts[closed[0] + 1 :] if closed else ()
        texts = tuple(texts)
        while texts and not self._reward.fits("", texts):
            texts = texts[:-1]
        if not texts:
            return 0.0
        if self.model.aggregation == "model":
            texts = ("".join(texts),)
        scores = [self._reward.of("\0".join(texts[:n])) for n in range(1, len(texts) + 1)]
        score = _AGGREGATED[str(self.model.aggregation)](scores)
        return math.log(score) if score > 0 else -math.inf

    @functools.cached_property
    def law(self) -> Tensor:
        return torch.tensor([one.log_prob + one.log_score for one in self.solutions]).double()

    @functools.cached_property
    def _numbers(self) -> dict[tuple[Ids, str | None], int]:
        return {(one.ids, one.reason): n for n, one in enumerate(self.solutions)}

    def numbers(self, particles: ReasoningParticles) -> Tensor:
        """Return which solution each particle is; KeyError for what cannot be."""
        return torch.tensor([self._numbers[one.token_ids, one.finish_reason] for one in particles])

    def check(self, particles: ReasoningParticles) -> None:
        """Compare all that is derived from the tokens of whole solutions."""
        ends, text_ends = particles.transition_ends.tolist(), particles.step_ends.tolist()
        log_priors = self.model.log_prior(particles)
        log_scores = self.model.path_log_likelihood(0, particles, None)
        log_scores = log_scores.where(self.model.survives(0, particles), -math.inf)
        for n, particle in enumerate(particles):
            one = self.solutions[self._numbers[particle.token_ids, particle.finish_reason]]
            assert tuple(end for end in ends[n] if end != NO_STEP) == one.ends
            assert particle.steps == one.texts
            assert tuple(text_ends[n][: len(one.texts)]) == one.text_ends
            if not self.policy.silent:  # else the end has no token that could be scored
                assert math.isclose(float(log_priors[n]), one.log_prob, abs_tol=1e-9)
            assert math.isclose(float(log_scores[n]), one.log_score, abs_tol=1e-9)

    def particles(self, numbers: Tensor) -> ReasoningParticles:
        """Return solutions as if they had been drawn."""
        chosen = [self.solutions[n] for n in numbers.tolist()]

        def rows(values: list[Ids], padding: int = 0) -> Tensor:
            width = max(map(len, values))
            return torch.tensor([[*row, *[padding] * (width - len(row))] for row in values])

        token_ids = rows([one.ids for one in chosen])
        counts = torch.tensor([len(one.ids) for one in chosen])
        starts = torch.zeros_like(counts)
        nothing = CacheRows.none(len(chosen))
        scores, _ = self.policy.score_tokens(ScoreRequest((1,), token_ids, counts, starts, nothing))
        text_ends = rows([one.text_ends for one in chosen]).long()
        empty = ReasoningParticles.empty("", (1,), len(chosen), self.model._thinking_end)
        particles = replace(
            empty,
            question=self.model.question,
            token_ids=token_ids,
            num_tokens=counts,
            log_probs=scores.log_probs,
            transition_log_probs=scores.log_probs,
            proposal_log_probs=scores.log_probs,
            steps=tuple(one.texts for one in chosen),
            step_ends=text_ends,
            log_odds=torch.full(text_ends.shape, torch.nan, dtype=torch.float64),
            transition_ends=rows([one.ends for one in chosen], NO_STEP),
            finish_codes=torch.tensor([FINISH_REASONS.index(one.reason) for one in chosen]),
        )
        thinking = self.model._thinking
        return particles if thinking is None else thinking.certain_where_forced(particles)

    def instance(self, name: str = "") -> Instance:
        """The model with its exact answers: how often each solution occurs, rare ones together."""
        law = self.law.softmax(0)
        frequent, rare = law >= 0.01, law < 0.01

        def statistics(particles: ReasoningParticles) -> Tensor:
            hits = torch.nn.functional.one_hot(self.numbers(particles), len(law)).double()
            return torch.cat([hits[:, frequent], hits[:, rare].sum(1, keepdim=True)], dim=1)

        exact = torch.cat([law[frequent], law[rare].sum(0, keepdim=True)])
        return Instance(name, self.model, None, float(self.law.logsumexp(0)), statistics, exact)


def language(
    words: Sequence[str],
    step: Any,
    *,
    seed: int = 0,
    longest: int = 4,
    room: int | None = None,
    zeros: bool = False,
    silent: bool = False,
    **settings: Any,
) -> Language:
    """Return a language of the end of the text and these words.

    Args:
        words: the words.
        step: where a step ends.
        seed: of the table.
        longest: number of tokens at which solutions are cut off.
        room: number of characters that the reward can read.
        zeros: whether the reward says zero at times.
        silent: whether the end of the text is not among the tokens.
        settings: others of the model.
    """
    policy: Any = TablePolicy(words, longest, seed, silent)
    named = {"max_tokens": longest, "max_steps": None} | settings
    return Language(Reasoning(policy, TableReward(room, zeros), "q", step=step, **named))
