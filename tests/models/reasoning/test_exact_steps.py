"""Step rules and thinking against enumeration, with a policy of ten tokens.

What a solution is, how it is cut and what its probability is, is written down here a second time:
by search in text, token by token, without automata, caches or batches.
"""

import functools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from llmsmc import InputError
from llmsmc.grading.grades import boxed_answer
from llmsmc.inference import (
    Adaptive,
    BootstrapFilter,
    GuidedFilter,
    ParticleGibbs,
    RegenerateSuffix,
    ResampleMove,
    systematic,
)
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.reasoning.particles import FINISH_REASONS, ReasoningParticles, concatenate
from llmsmc.models.text.regular_expression import RegularExpression
from llmsmc.models.text.thinking import Thinking
from tests.statistics import MAX_Z, z_score

TOKENS = ["<eos>", "a", ".", "\n\n", "<", "/t>", "\\boxed{", "1}", "b\n\n<", "2}"]
SPLIT = r"\\boxed\{|1\}|2\}|b\n\n<|\n\n|/t>|<|a|\."
MAX_TOKENS, MAX_STEPS = 4, 3
CLOSING = "</t>"


def make_tokenizer(template: str = "{{ messages[0]['content'] }}.") -> PreTrainedTokenizerFast:
    backend = Tokenizer(
        tokenizer_models.WordLevel({token: n for n, token in enumerate(TOKENS)}, unk_token="<eos>")
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, eos_token="<eos>", chat_template=template
    )


def make_policy(seed: int = 0, scale: float = 0.6) -> LanguageModel:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(TOKENS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=scale,
        tie_word_embeddings=False,
        eos_token_id=0,
        bos_token_id=None,
    )
    return LanguageModel(Qwen2ForCausalLM(config).train(False), make_tokenizer())


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    return make_policy()


@dataclass(frozen=True)
class Cut:
    """How a sequence of tokens is cut: the ends of its steps, and why it is finished."""

    ends: tuple[int, ...]
    reason: str | None
    forced: tuple[int, ...]


def is_complete(rule: object, tokens: list[str]) -> bool:
    """Return whether a step with these tokens is complete."""
    text = "".join(tokens)
    if isinstance(rule, int):
        return len(tokens) >= rule
    pattern = re.escape(rule) if isinstance(rule, str) else rule.pattern  # type: ignore[attr-defined]
    ends = [m.start(1) + len(m[1]) for m in re.finditer(f"(?=({pattern}))", text)]
    behind = [text[: end - (len(rule) if isinstance(rule, str) else 0)] for end in ends]
    return any(part.strip() for part in behind)


def cut(model: Reasoning, ids: tuple[int, ...]) -> Cut | None:
    """Return how the tokens are cut, None if nothing that is sampled looks like this."""
    thinking = model.thinking
    rule, budget = model.step, None if thinking is None else thinking.max_tokens
    inside = rule if thinking is None or thinking.step is None else thinking.step
    forced_ids = [4, 5]  # of the closing tag
    ends, start, closed, forced = list[int](), 0, thinking is None, list[int]()
    merged = list[int]()  # ends of steps, blank ones merged
    inside_done = False
    for place, token_id in enumerate(ids):
        if merged and ends and _reason(model, ids, merged, ends[-1], place) is not None:
            return None  # it had finished
        began_closed = closed
        tokens = [TOKENS[n] if n else "" for n in ids[start : place + 1]]
        text = "".join(tokens)
        if budget is not None and not closed and place >= budget:
            if place - budget >= len(forced_ids) or token_id != forced_ids[place - budget]:
                return None
            forced.append(place)
        if began_closed:
            complete = is_complete(rule, tokens)
        else:
            closed = CLOSING in text
            partial = any(text.endswith(CLOSING[:size]) for size in range(1, len(CLOSING)))
            inside_done = inside_done or is_complete(inside, tokens)
            complete = closed or (inside_done and not partial)
        stops = token_id == 0 or place + 1 == model.max_tokens
        if complete or stops:
            begin = merged[-1] if merged else 0
            piece = "".join(TOKENS[n] if n else "" for n in ids[begin : place + 1])
            if piece.strip():
                merged.append(place + 1)
            elif merged:
                merged[-1] = place + 1
            ends.append(place + 1)
            start, inside_done = place + 1, False
            if stops and place + 1 < len(ids):
                return None
    if not ends or ends[-1] != len(ids):
        return None
    if len(ends) > MAX_STEPS:
        return None
    reason = _reason(model, ids, merged, len(ids), len(ids))
    if reason is None and len(ends) == MAX_STEPS:
        reason = "max_steps"
    return Cut(tuple(merged), reason, tuple(forced))


def _reason(
    model: Reasoning, ids: tuple[int, ...], merged: list[int], end: int, place: int
) -> str | None:
    """Return why a text that has come to the end of a step is finished, if it is."""
    if end != place:
        return None
    text = "".join(TOKENS[n] if n else "" for n in ids[:end])
    if ids[end - 1] == 0:
        return "eos"
    answer = text if model.thinking is None else text.partition(CLOSING)[2]
    if boxed_answer(answer) is not None:
        return "answer"
    return "length" if end == model.max_tokens else None


class Law:
    """The law of whole solutions, by enumeration."""

    def __init__(self, model: Reasoning) -> None:
        assert isinstance(model.policy, LanguageModel)
        self.model, self._policy = model, model.policy

    @functools.cached_property
    def _rows(self) -> dict[tuple[int, ...], Tensor]:
        """The law of the next token behind every text shorter than MAX_TOKENS."""
        texts: list[tuple[int, ...]] = [()]
        rows = dict[tuple[int, ...], Tensor]()
        for _ in range(MAX_TOKENS):
            batch = torch.tensor([[*self.model.prompt_ids, *ids] for ids in texts])
            with torch.no_grad():
                logits = self._policy.model(batch).logits[:, -1].double()
            rows |= dict(zip(texts, logits.log_softmax(-1), strict=True))
            texts = [(*ids, n) for ids in texts if 0 not in ids for n in range(len(TOKENS))]
            texts = [ids for ids in texts if ids[-1] != 0]
        return rows

    def log_prob(self, ids: tuple[int, ...], found: Cut) -> float:
        if len(ids) > MAX_TOKENS:  # beyond what is enumerated
            log_probs = self._policy.log_probs(self.model.prompt_ids, ids)
            return sum(float(log_probs[n]) for n in range(len(ids)) if n not in found.forced)
        return sum(
            float(self._rows[ids[:place]][token_id])
            for place, token_id in enumerate(ids)
            if place not in found.forced
        )

    def solutions(self) -> Iterator[tuple[tuple[int, ...], Cut]]:
        """Yield all finished solutions; at most MAX_TOKENS tokens, so that all finish."""
        queue: list[tuple[int, ...]] = [()]
        while queue:
            ids = queue.pop()
            for token_id in range(len(TOKENS)):
                longer = (*ids, token_id)
                found = cut(self.model, longer)
                if found is not None and found.reason is not None:
                    yield longer, found
                elif len(longer) < MAX_TOKENS and token_id != 0 and self._can_go_on(longer):
                    queue.append(longer)

    def _can_go_on(self, ids: tuple[int, ...]) -> bool:
        """Return whether some continuation is a solution that passes here."""
        thinking = self.model.thinking
        if thinking is None or thinking.max_tokens is None:
            return True
        first = next(
            (k for k in range(len(ids) + 1) if CLOSING in "".join(TOKENS[n] for n in ids[:k])),
            len(ids),
        )
        beyond = ids[thinking.max_tokens : first]
        return list(beyond) == [4, 5][: len(beyond)]


def scores(question: str, steps: Sequence[str]) -> Sequence[float]:
    return [0.9 if len(step) % 2 else 0.3 for step in steps]


def log_score(model: Reasoning, ids: tuple[int, ...], found: Cut) -> float:
    texts, start = list[str](), 0
    for end in found.ends:
        texts.append("".join(TOKENS[n] if n else "" for n in ids[start:end]))
        start = end
    if model.thinking is not None and not model.thinking.scored:
        closed = [k for k, text in enumerate(texts) if CLOSING in text]
        texts = texts[closed[0] + 1 :] if closed else []
    return sum(math.log(score) for score in scores("", texts))


SETTINGS: dict[str, dict[str, object]] = {
    "delimiter": {"step": "\n\n"},
    "tokens": {"step": 2},
    "regex": {},  # needs a package: made when it is used
    "thinking": {"thinking": Thinking(CLOSING, "<t>")},
    "thinking-answer-scored": {"thinking": Thinking(CLOSING, "<t>", scored=False)},
    "thinking-tokens": {"thinking": Thinking(CLOSING, "<t>", step=1), "step": 2},
    "budget": {"thinking": Thinking(CLOSING, "<t>", max_tokens=2)},
    "budget-tokens": {"thinking": Thinking(CLOSING, "<t>", step=2, max_tokens=1), "step": 1},
}


@pytest.fixture(params=SETTINGS)
def model(request: pytest.FixtureRequest, policy: LanguageModel) -> Reasoning:
    settings = SETTINGS[request.param]
    if request.param == "regex":
        settings = {"step": RegularExpression(r"[a.](\n\n|<)")}
    return Reasoning(
        policy,
        scores,
        "a",
        max_tokens=MAX_TOKENS,
        max_steps=MAX_STEPS,
        **settings,  # type: ignore[arg-type]
    )


def generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def sampled(model: Reasoning, num_particles: int, num_steps: int, seed: int) -> ReasoningParticles:
    particles = model.sample_initial(num_particles, generator=generator(seed))
    for t in range(1, num_steps):
        particles = model.sample_transition(t, particles, generator=generator(seed + t))
    return particles


def check(model: Reasoning, law: Law, particles: ReasoningParticles) -> int:
    """Compare with the second definition; return how many solutions are possible."""
    log_priors, count = model.log_prior(particles), 0
    for n, particle in enumerate(particles):
        ids = particle.token_ids
        found = cut(model, ids)
        ends = tuple(particles.step_ends[n, : len(particle.steps)].tolist())
        if found is None or (found.ends, found.reason) != (ends, particle.finish_reason):
            assert float(log_priors[n]) == -math.inf, (particle, found)
            continue
        count += 1
        assert float(log_priors[n]) == pytest.approx(law.log_prob(ids, found), abs=1e-4)
        assert "".join(particle.steps) == "".join(TOKENS[k] if k else "" for k in ids)
    return count


def test_what_is_drawn_is_what_is_meant(model: Reasoning) -> None:
    law = Law(model)
    for num_steps in (1, 2, MAX_STEPS):
        particles = sampled(model, 60, num_steps, seed=5)
        assert check(model, law, particles) == 60
        log_scores = model.path_log_likelihood(num_steps - 1, particles, None)
        for n, particle in enumerate(particles):
            found = cut(model, particle.token_ids)
            assert found is not None
            expected = log_score(model, particle.token_ids, found)
            assert float(log_scores[n]) == pytest.approx(expected, abs=1e-6)


def test_spliced_solutions_have_the_probability_of_their_tokens(
    model: Reasoning, request: pytest.FixtureRequest
) -> None:
    """Or none, where these tokens would have been cut, closed or answered in another way."""
    model = replace(model, max_tokens=7)
    law = Law(model)
    whole = sampled(model, 80, MAX_STEPS, seed=7)
    possible = total = 0
    for t in (1, 2):
        references = whole[(whole.num_steps > t).nonzero().squeeze(1)]
        prefixes = sampled(model, 80, t, seed=70)
        prefixes = prefixes[(~prefixes.finished).nonzero().squeeze(1)]
        prefixes = prefixes[(prefixes.num_steps == t).nonzero().squeeze(1)]
        size = min(len(references), len(prefixes), 12)
        for shift in range(size):
            order = (torch.arange(size) + shift) % size
            joined = model.splice(prefixes[torch.arange(size)], t, references[order])
            fits = (joined.num_tokens <= 7).nonzero().squeeze(1)
            possible += check(model, law, joined[fits])
            total += len(fits)
    assert possible > 0
    # Where a budget leaves no room for differences, all go together.
    assert possible < total or "budget" in request.node.name


def test_evidence(model: Reasoning) -> None:
    law = Law(model)
    mass = evidence = 0.0
    for ids, found in law.solutions():
        probability = math.exp(law.log_prob(ids, found))
        mass += probability
        evidence += probability * math.exp(log_score(model, ids, found))
    assert mass == pytest.approx(1.0, abs=1e-5)
    ratios = [
        math.exp(BootstrapFilter(40, Adaptive(systematic, 0.7)).run(model, seed=seed).log_evidence)
        / evidence
        for seed in range(20)
    ]
    assert abs(z_score(ratios, 1.0)) < MAX_Z


@pytest.mark.parametrize(
    "algorithm",
    [
        ParticleGibbs(3, num_sweeps=4),
        ParticleGibbs(3, num_sweeps=4, backward_sampling=True, ancestor_sampling=False),
    ],
    ids=["ancestor", "backward"],
)
def test_sweeps_leave_the_posterior_as_it_is(
    policy: LanguageModel, algorithm: ParticleGibbs
) -> None:
    thinking = Thinking(CLOSING, "<t>", step=1, max_tokens=2)
    model = Reasoning(
        policy, scores, "a", max_tokens=MAX_TOKENS, max_steps=MAX_STEPS, thinking=thinking
    )
    law = Law(model)
    total = first = 0.0
    for ids, found in law.solutions():
        weight = math.exp(law.log_prob(ids, found) + log_score(model, ids, found))
        total, first = total + weight, first + weight * (ids[0] == 4)
    shares = [
        algorithm.run(model, seed=seed).mean(
            lambda particles: (particles.token_ids[:, 0] == 4).double()
        )
        for seed in range(20)
    ]
    assert abs(z_score([float(share) for share in shares], first / total)) < MAX_Z


def test_moves_of_suffixes(policy: LanguageModel) -> None:
    thinking = Thinking(CLOSING, "<t>", max_tokens=2)
    model = Reasoning(
        policy, scores, "a", max_tokens=MAX_TOKENS, max_steps=MAX_STEPS, thinking=thinking
    )
    algorithm = ResampleMove(12, Adaptive(systematic, 0.9), move=RegenerateSuffix())
    law = Law(model)
    exact = sum(
        math.exp(law.log_prob(ids, found) + log_score(model, ids, found))
        for ids, found in law.solutions()
    )
    ratios = [math.exp(algorithm.run(model, seed=seed).log_evidence) / exact for seed in range(40)]
    assert abs(z_score(ratios, 1.0)) < MAX_Z


def test_a_proposal_does_not_weigh_what_is_forced(policy: LanguageModel) -> None:
    thinking = Thinking(CLOSING, "<t>", max_tokens=1)
    model = Reasoning(
        policy, scores, "a", max_tokens=MAX_TOKENS, max_steps=MAX_STEPS, thinking=thinking
    )
    guided = replace(model, proposal_policy=make_policy(seed=1, scale=0.4))
    law = Law(model)
    exact = sum(
        math.exp(law.log_prob(ids, found) + log_score(model, ids, found))
        for ids, found in law.solutions()
    )
    ratios = [
        math.exp(GuidedFilter(60).run(guided, seed=seed).log_evidence) / exact for seed in range(40)
    ]
    assert abs(z_score(ratios, 1.0)) < MAX_Z
    state, _ = guided.propose(0, None, None, 40, generator=generator(0))
    forced = state.token_ids[:, 1] == 4
    assert bool(forced.any())
    assert not state.log_probs[forced, 1].any() and not state.proposal_log_probs[forced, 1].any()


def test_an_answer_in_the_thinking_is_none(policy: LanguageModel) -> None:
    thinking = Thinking(CLOSING, "<t>")
    model = Reasoning(
        policy, scores, "a", max_tokens=MAX_TOKENS, max_steps=MAX_STEPS, thinking=thinking
    )
    plain = replace(model, thinking=None)
    particles = concatenate([sampled(model, 200, MAX_STEPS, seed=s) for s in range(4)])
    boxed = [p for p in particles if "\\boxed{1}" in p.text]
    inside = [
        p for p in boxed if CLOSING not in p.text or p.text.index("boxed") < p.text.index(CLOSING)
    ]
    assert inside
    assert all(p.answer is None for p in inside)
    assert particles.answers() == [p.answer for p in particles]
    found = sampled(plain, 200, MAX_STEPS, seed=0)
    assert "1" in found.answers() and "answer" in {p.finish_reason for p in found}
    assert all(reason in FINISH_REASONS for reason in {p.finish_reason for p in particles})


def test_prompts_that_open_or_close_the_thinking(policy: LanguageModel) -> None:
    def with_template(template: str) -> Reasoning:
        other = LanguageModel(policy.model, make_tokenizer(template))
        return Reasoning(other, None, "a", thinking=Thinking(CLOSING, "<\n\n"))

    opens = with_template("{{ messages[0]['content'] }}<\n\n")
    assert opens._thinking is not None
    closes = with_template("{{ messages[0]['content'] }}<\n\n</t>")
    assert closes._thinking is None
    assert closes.sample_initial(2, generator=generator(0)).thinking_end is None
    asked = with_template(
        "{{ messages[0]['content'] }}{% if not enable_thinking %}<\n\n</t>{% endif %}"
    )
    assert asked._thinking is not None
    assert replace(asked, thinking=None).prompt_ids[-2:] == (4, 5)


def test_settings_of_thinking(policy: LanguageModel) -> None:
    for wrong in ({"closing": ""}, {"max_tokens": 0}, {"step": ""}, {"closing_text": "no tag"}):
        with pytest.raises(InputError, match="Got"):
            Thinking(**wrong)
    with pytest.raises(InputError, match="special token"):
        Reasoning(policy, None, "a", thinking=Thinking("<eos>"))
    with pytest.raises(InputError, match="cannot close its thinking"):
        Reasoning(policy, None, "a", thinking=Thinking("</think>", max_tokens=3))
    text = Thinking(CLOSING, "<t>", max_tokens=2, closing_text="a.\n\n</t>")
    model = Reasoning(policy, None, "a", thinking=text, max_steps=9, max_tokens=20)
    particles = sampled(model, 30, 4, seed=0)
    closed = [p for p in particles if p.token_ids[2:7] == (1, 2, 3, 4, 5)]
    assert closed and all("a.\n\n</t>" in p.text for p in closed)
    assert bool((model.log_prior(particles) > -math.inf).all())
