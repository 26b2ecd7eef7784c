"""Steps without a text of their own, under every move, against enumeration.

The end of the text alone, the end behind a delimiter, white space: each is a step that is drawn,
counted, cut back and put together like others. The whole cross product takes hours (`make long`);
of it, `make quick` takes a sample, and the suite a few cases.
"""

import itertools
import json
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from llmsmc import Posterior, check_model
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import uniform
from llmsmc.errors import InputError
from llmsmc.inference import (
    Adaptive,
    Algorithm,
    AuxiliaryFilter,
    BootstrapFilter,
    CoalescingFilter,
    GuidedFilter,
    IslandFilter,
    ParticleCascade,
    ParticleGibbsMove,
    RegenerateSuffix,
    ResampleMove,
    TemperedSMC,
    WeightedBestOfN,
    multinomial,
    stratified,
    systematic,
)
from llmsmc.inference.loop.loop import Population, Run
from llmsmc.inference.mcmc.conditional_smc import Chains, draw_references, sweep
from llmsmc.inference.mcmc.reference import RememberedPaths
from llmsmc.inference.resampling.killing import killing
from llmsmc.inference.resampling.residual import residual
from llmsmc.models import Reasoning
from llmsmc.models.reasoning import step_sampling
from llmsmc.models.reasoning.particles import NO_STEP, ReasoningParticles
from llmsmc.models.text.regular_expression import RegularExpression
from llmsmc.models.text.stopping import WholeAnswer
from llmsmc.models.text.thinking import Thinking
from llmsmc.registry import AGGREGATIONS, RESAMPLERS
from llmsmc.storage.serialization import encode
from llmsmc.testing import replicate
from tests.models.reasoning.enumerated import Language, TablePolicy, language
from tests.statistics import MAX_Z_OF_MANY, p_value_of_law

LONG = bool(os.environ.get("LLMSMC_LONG"))  # make long
NUM_CHAINS = 3000 if LONG else 300
NUM_RUNS = 2000 if LONG else 250
LARGEST_P = 1e-6  # of a false alarm, for each comparison

KINDS: dict[str, dict[str, Any]] = {
    "the end alone": {"words": "ab", "step": 1},
    "the end alone, two tokens": {"words": "ab", "step": 2, "longest": 5},
    "the end behind a delimiter": {"words": "a\n", "step": "\n", "longest": 5},
    "white space": {"words": "a ", "step": 1},
    "white space, two tokens": {"words": "a ", "step": 2, "longest": 5},
}
CUTS: dict[str, dict[str, Any]] = {
    "by tokens": {},
    "by steps": {"max_steps": 2},
    "within steps": {"max_tokens_per_step": 2, "max_steps": 3},
}
OTHERS: dict[str, dict[str, Any]] = {
    "answers": {"words": ["\\boxed{1}", " "], "step": 1},
    "answers not heeded": {"words": ["\\boxed{1}", " "], "step": 1, "stop_at_answer": False},
    "answers behind a delimiter": {"words": ["\\boxed{1}", "\n"], "step": "\n"},
    "whole answers": {"words": "a ", "step": WholeAnswer()},
    "a small reward": {"words": "a ", "step": 1, "longest": 5, "room": 2},
    "a small reward of long steps": {"words": "a\n", "step": "\n", "longest": 5, "room": 3},
    "thinking": {"words": [" ", "</t>"], "step": 1, "thinking": Thinking("</t>", "<t>")},
    "thinking by tokens": {
        "words": ["\n", "</t>"],
        "step": "\n",
        "thinking": Thinking("</t>", "<t>", step=1),
    },
    "thinking not scored": {
        "words": ["a", " ", "</t>"],
        "step": 1,
        "thinking": Thinking("</t>", "<t>", scored=False),
    },
    "thinking with a budget": {
        "words": [" ", "</t>"],
        "step": 1,
        "longest": 5,
        "thinking": Thinking("</t>", "<t>", step=2, max_tokens=2),
    },
    "an expression": {"words": "a ", "step": RegularExpression("a ?"), "longest": 5},
}
SCHEMES = [scheme for scheme in RESAMPLERS.values() if scheme.conditional]
PASTS = {"own": (0, 0), "ancestor": (1, 0), "backward": (0, 1), "both": (1, 1)}


def of(kind: str, cut: str = "by tokens", **settings: Any) -> Language:
    return language(**((KINDS | OTHERS)[kind] | CUTS[cut] | settings))


def generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def exact_draws(chosen: Language, count: int) -> ReasoningParticles:
    law = chosen.law.softmax(0)
    return chosen.particles(law.multinomial(count, replacement=True, generator=generator(5)))


def quick(cases: list[Any]) -> list[Any]:
    return [pytest.param(*case, marks=pytest.mark.quick) for case in cases]


def p_value(chosen: Language, particles: ReasoningParticles) -> float:
    counts = torch.bincount(chosen.numbers(particles), minlength=len(chosen.law)).double()
    return p_value_of_law(counts, chosen.law.softmax(0))


def last_step(model: Reasoning) -> int:
    return 10 if model.max_steps is None else model.max_steps - 1


def after_sweeps(
    chosen: Language, scheme: Any, pasts: str, num_sweeps: int = 1, num_chains: int = NUM_CHAINS
) -> float:
    """The p-value of the law after sweeps of N = 3 that begin with exact draws."""
    ancestor, backward = PASTS[pasts]
    chains = Chains(num_chains, 3, Adaptive(scheme, 1.0), bool(ancestor), bool(backward))
    run, source = Run(chosen.model, None, RandomStreams(1)), generator(6)
    references: Any = RememberedPaths(exact_draws(chosen, num_chains))
    started, last = references.paths, last_step(chosen.model)
    for number in range(num_sweeps):
        swept = sweep(run, chains, references, last, str(number))
        references = draw_references(run, chains, swept, source)
    assert bool((chosen.numbers(references.paths) != chosen.numbers(started)).any())
    return p_value(chosen, references.paths)


def after_moves(chosen: Language, move: Any, num_moves: int = 3) -> float:
    """The p-value of the law after moves of exact draws."""
    particles, size = exact_draws(chosen, 2 * NUM_CHAINS), 2 * NUM_CHAINS
    population = Population(particles, uniform(size), torch.arange(size))
    run, source = Run(chosen.model, None, RandomStreams(0)), generator(6)
    for _ in range(num_moves):
        population, accepted = move(run, last_step(chosen.model), population, generator=source)
    assert bool(accepted.any())
    return p_value(chosen, population.particles)


def largest_z(chosen: Language, algorithm: Algorithm, num_runs: int = NUM_RUNS) -> float:
    if isinstance(algorithm, GuidedFilter):
        other: Any = TablePolicy(chosen.policy.words[1:], chosen.policy.longest, seed=9)
        chosen = Language(replace(chosen.model, proposal_policy=other))
    runs = replicate(algorithm, chosen.instance(), num_runs)
    return max(abs(runs.z_of_evidence()), runs.z_of_measures())


EVERYWHERE = [(kind, cut) for kind in KINDS for cut in CUTS]


@pytest.mark.parametrize(("kind", "cut"), [*EVERYWHERE, *((kind, "by tokens") for kind in OTHERS)])
def test_what_is_drawn_is_what_is_meant(kind: str, cut: str) -> None:
    chosen = of(kind, cut, aggregation="model" if cut == "by steps" else "product")
    mass = sum(math.exp(one.log_prob) for one in chosen.solutions)
    assert mass == pytest.approx(1.0, abs=1e-9)
    *_, drawn = steps_of(chosen.model, 30)
    chosen.check(drawn)
    chosen.check(chosen.particles(torch.arange(len(chosen.solutions))))
    assert any(len(one.texts) < len(one.ends) for one in chosen.solutions)


def steps_of(model: Reasoning, size: int, seed: int = 3) -> Iterator[ReasoningParticles]:
    """The states of a filter without resampling, as they are after each step."""
    state = model.sample_initial(size, generator=generator(seed))
    state, _ = model.observe(0, None, state, None)
    yield state
    for t in range(1, last_step(model) + 1):
        if bool(state.finished.all()):
            return
        previous, state = state, model.sample_transition(t, state, generator=generator(seed + t))
        state, _ = model.observe(t, previous, state, None)
        yield state


def same(one: ReasoningParticles, other: ReasoningParticles) -> None:
    for n in range(len(one)):
        count, texts = int(one.num_tokens[n]), len(one.steps[n])
        assert one[n].token_ids == other[n].token_ids
        assert one.steps[n] == other.steps[n]
        assert one[n].finish_reason == other[n].finish_reason
        assert one.step_ends[n, :texts].tolist() == other.step_ends[n, :texts].tolist()
        assert one.log_probs[n, :count].tolist() == other.log_probs[n, :count].tolist()
    assert one.num_transitions.tolist() == other.num_transitions.tolist()


@pytest.mark.parametrize("aggregation", ["product", "model"])
@pytest.mark.parametrize("kind", KINDS | OTHERS)
def test_a_solution_cut_back_is_what_it_was(kind: str, aggregation: str) -> None:
    """After each step, whatever has been written behind it, and so are its scores."""
    chosen = of(kind, aggregation=aggregation)
    model = chosen.model
    states = list(steps_of(model, 30))
    for t, state in enumerate(states):
        back = model.rewind(states[-1], torch.full((30,), t + 1))
        same(back, state)
        assert model.num_steps(back).tolist() == model.num_steps(state).tolist()
        assert bool((model.num_steps(state) == t + 1)[~state.finished].all())
        found, expected = (model.path_log_likelihood(t, each, None) for each in (back, state))
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)
        going_on = (~state.finished).nonzero().squeeze(1)
        if not chosen.policy.silent and len(going_on):
            joined = model.splice(back[going_on], t + 1, states[-1][going_on])
            same(joined, states[-1][going_on])
            chosen.check(joined)
            joined, _ = model.observe_path(t, joined, None)  # read as a whole
            for s, earlier in enumerate(states):
                back = model.rewind(joined, torch.full((len(going_on),), s + 1))
                found = model.path_log_likelihood(s, back, None)
                expected = model.path_log_likelihood(s, earlier[going_on], None)
                torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_likelihood_of_a_path_is_that_of_its_steps(aggregation: str) -> None:
    chosen = of("white space", aggregation=aggregation)
    laws = check_model(chosen.model, num_particles=8)
    assert "the likelihood of a path is the product of those of its steps" in laws
    *_, drawn = steps_of(chosen.model, 60)
    chosen.check(drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_read_the_texts_and_nothing_blank(kind: str) -> None:
    chosen = of(kind)
    reward: Any = chosen.model.reward
    for particle in list(steps_of(chosen.model, 60))[-1]:  # the reward refuses what is blank
        assert all(step.strip() for step in particle.steps)
        assert particle.rewards == pytest.approx(tuple(reward.score("", list(particle.steps))))
        text = chosen.policy.tokens.decode(particle.token_ids)
        assert particle.text == (text if text.strip() else "")


def test_a_step_without_text_costs_no_reading() -> None:
    chosen = of("the end alone")
    reward: Any = chosen.model.reward
    *_, state = steps_of(chosen.model, 60)
    before = reward.num_read
    for count in range(5):
        chosen.model.path_log_likelihood(9, chosen.model.rewind(state, torch.full((60,), count)), 0)
    assert reward.num_read == before


SOME = [
    ("the end alone", "by tokens", killing, "both", "model"),
    ("the end alone, two tokens", "by tokens", killing, "ancestor", "model"),
    ("the end behind a delimiter", "by steps", residual, "both", "min"),
    ("white space", "by tokens", systematic, "own", "product"),
    ("white space", "by steps", killing, "ancestor", "exp"),
    ("white space, two tokens", "by tokens", killing, "both", "odds"),
]
MORE_SOME = [
    ("the end alone", "by steps", systematic, "backward", "product"),
    ("the end behind a delimiter", "by tokens", killing, "ancestor", "model"),
    ("the end behind a delimiter", "within steps", stratified, "backward", "product"),
    ("white space", "by tokens", multinomial, "both", "last"),
    ("white space", "within steps", residual, "backward", "model"),
    ("white space, two tokens", "within steps", stratified, "ancestor", "product"),
]


@pytest.mark.parametrize(
    ("kind", "cut", "scheme", "pasts", "aggregation"), [*SOME, *quick(MORE_SOME)]
)
def test_conditional_runs(kind: str, cut: str, scheme: Any, pasts: str, aggregation: str) -> None:
    assert after_sweeps(of(kind, cut, aggregation=aggregation), scheme, pasts) > LARGEST_P


@pytest.mark.quick
@pytest.mark.parametrize("kind", OTHERS)
def test_conditional_runs_under_other_rules(kind: str) -> None:
    assert after_sweeps(of(kind), killing, "both", 1, NUM_CHAINS // 2) > LARGEST_P


MOVES = {
    "suffix": RegenerateSuffix(),
    "filter": ParticleGibbsMove(2, Adaptive(killing, 1.0)),
    "filter with ancestors": ParticleGibbsMove(3, Adaptive(systematic, 1.0), True),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("kind", ["the end behind a delimiter", "white space"])
def test_moves(kind: str, move: str) -> None:
    num_moves = 3 if move == "suffix" else 1
    chosen = of(kind, "by steps" if move == "filter" else "by tokens", aggregation="model")
    assert after_moves(chosen, MOVES[move], num_moves) > LARGEST_P


@pytest.mark.quick
@pytest.mark.parametrize("kind", OTHERS)
def test_moves_of_suffixes_under_other_rules(kind: str) -> None:
    assert after_moves(of(kind), RegenerateSuffix()) > LARGEST_P


ALWAYS = Adaptive(killing, 1.0)
ALGORITHMS: dict[str, Algorithm] = {
    "bootstrap": BootstrapFilter(3, ALWAYS),
    "guided": GuidedFilter(3, ALWAYS),
    "auxiliary": AuxiliaryFilter(3, ALWAYS),
    "islands": IslandFilter(4, num_islands=2),
    "weighted best of N": WeightedBestOfN(3),
    "resample-move": ResampleMove(3, ALWAYS),
    "resample-move by filters": ResampleMove(3, ALWAYS, move=ParticleGibbsMove(2)),
    "tempered": TemperedSMC(3, (0.4, 1.0)),
    "tempered by filters": TemperedSMC(
        3, (0.4, 1.0), move=ParticleGibbsMove(2, ALWAYS, True), num_moves=1
    ),
}
ONE_BY_ONE: dict[str, Algorithm] = {
    "coalescing": CoalescingFilter(4),
    "cascade": ParticleCascade(4),
    "waste-free": TemperedSMC(4, (0.4, 1.0), num_moves=1, waste_free=True),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_filters_are_unbiased(name: str) -> None:
    assert largest_z(of("white space, two tokens"), ALGORITHMS[name]) < MAX_Z_OF_MANY


@pytest.mark.quick
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_filters_that_run_one_by_one_are_unbiased(name: str) -> None:
    assert largest_z(of("white space"), ONE_BY_ONE[name], NUM_RUNS // 4) < MAX_Z_OF_MANY


ZEROS = [
    ("white space", "odds", "backward", systematic),
    ("white space", "product", "ancestor", killing),
    ("the end behind a delimiter", "last", "both", killing),
]
MORE_ZEROS = [
    ("the end alone", "model", "both", killing),
    ("white space, two tokens", "min", "ancestor", residual),
]


@pytest.mark.parametrize(("kind", "aggregation", "pasts", "scheme"), [*ZEROS, *quick(MORE_ZEROS)])
def test_a_score_of_zero_loses_a_solution_for_good(
    kind: str, aggregation: str, pasts: str, scheme: Any
) -> None:
    """A filter loses it though a blank step, or a better score, would make it good."""
    chosen = of(kind, aggregation=aggregation, zeros=True)
    assert after_sweeps(chosen, scheme, pasts) > LARGEST_P
    assert after_moves(chosen, RegenerateSuffix()) > LARGEST_P
    *_, drawn = steps_of(chosen.model, 60)
    chosen.check(drawn)
    at_the_end = chosen.model.path_log_likelihood(9, drawn, None) > -math.inf
    assert aggregation in ("min", "odds", "product") or bool(
        (at_the_end & ~chosen.model.survives(9, drawn)).any()
    )


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "weighted best of N"])
def test_filters_are_unbiased_where_scores_are_zero(name: str) -> None:
    chosen = of("white space", aggregation="last", zeros=True)
    assert largest_z(chosen, ALGORITHMS[name]) < MAX_Z_OF_MANY


class Forgiving(Reasoning):
    """A wrong variant: whole solutions are judged by what stands at the end."""

    def survives(self, t: int, state: ReasoningParticles, since: int = 0) -> Tensor:
        return torch.ones(len(state), dtype=torch.bool)


@pytest.mark.parametrize("aggregation", ["odds", "model"])
def test_forgiving_a_score_of_zero_is_rejected(aggregation: str) -> None:
    chosen = of("white space", aggregation=aggregation, zeros=True)
    named = {each.name: getattr(chosen.model, each.name) for each in fields(Reasoning) if each.init}
    chosen = Language(Forgiving(**named))
    assert after_moves(chosen, RegenerateSuffix(), 5) < LARGEST_P


def test_an_end_that_is_no_token() -> None:
    """A server may say that the text has ended, and give no token for it."""
    for kind in ("the end alone", "white space"):
        chosen = of(kind, silent=True)
        states = list(steps_of(chosen.model, 60))
        chosen.check(states[-1])
        for t, state in enumerate(states):
            same(chosen.model.rewind(states[-1], torch.full((60,), t + 1)), state)
        assert after_moves(chosen, RegenerateSuffix()) > LARGEST_P
        assert after_sweeps(chosen, systematic, "own", 1) > LARGEST_P


class ByTexts(Reasoning):
    """A wrong variant: steps are counted by their texts."""

    def num_steps(self, state: ReasoningParticles) -> Tensor:
        return state.num_steps

    def rewind(self, particles: ReasoningParticles, num_steps: Tensor) -> ReasoningParticles:
        first = torch.minimum(num_steps, particles.num_steps)
        ends = torch.cat([torch.zeros(len(particles), 1).long(), particles.step_ends], 1)
        num_tokens = ends.gather(1, first[:, None])
        is_left = (particles.transition_ends <= num_tokens) & (particles.transition_ends >= 0)
        shortened = first < particles.num_steps
        count = torch.where(shortened, is_left.sum(1), particles.num_transitions)
        return super().rewind(particles, count)


def by_texts(kind: str, **settings: Any) -> Language:
    model = of(kind, **settings).model
    named = {name: getattr(model, name) for name in ("policy", "reward", "question", "step")}
    limits = {name: getattr(model, name) for name in ("max_tokens", "max_steps", "aggregation")}
    return Language(ByTexts(**named, **limits))


@pytest.mark.parametrize(
    "kind",
    [pytest.param("the end alone", marks=pytest.mark.quick), "the end behind a delimiter"],
)
def test_counting_texts_is_rejected(kind: str) -> None:
    tempered = TemperedSMC(3, (0.4, 1.0))
    assert largest_z(by_texts(kind), tempered, 2000) > MAX_Z_OF_MANY + 1
    assert largest_z(of(kind), tempered) < MAX_Z_OF_MANY


def test_counting_texts_gives_what_cannot_be_drawn() -> None:
    with pytest.raises((KeyError, AssertionError, IndexError)):
        assert after_sweeps(by_texts("white space"), systematic, "backward", 2, 800) > LARGEST_P


def test_taking_what_was_read_as_a_whole_for_scored_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A path put together is read once, as a whole; its first steps when it is cut back."""
    right: Callable[..., ReasoningParticles] = step_sampling.with_texts

    def with_texts(particles: ReasoningParticles, *arguments: Any) -> ReasoningParticles:
        new = right(particles, *arguments)
        return replace(new, num_scored=torch.minimum(particles.num_scored, new.num_steps))

    for module in ("splicing", "step_sampling"):
        monkeypatch.setattr(f"llmsmc.models.reasoning.{module}.with_texts", with_texts)
    with pytest.raises(AssertionError, match="not close"):
        test_a_solution_cut_back_is_what_it_was("the end alone", "model")


def test_steps_of_what_was_saved_before_they_were_counted(tmp_path: Any) -> None:
    posterior = BootstrapFilter(6).run(of("the end behind a delimiter").model, seed=0)
    document, tensors = encode(posterior)
    fields = document["fields"]["dict"]["particles"]["fields"]["dict"]
    fields.pop("transition_ends")
    save_file(tensors, tmp_path / "tensors.safetensors")
    (tmp_path / "document.json").write_text(json.dumps(document))
    particles = Posterior.load(tmp_path).particles
    assert particles.steps == posterior.particles.steps
    assert particles.num_transitions.tolist() == particles.num_steps.tolist()
    for n, steps in enumerate(particles.steps):
        ends = particles.transition_ends[n]
        assert ends[: len(steps)].tolist() == particles.step_ends[n, : len(steps)].tolist()
        assert bool((ends[len(steps) :] == NO_STEP).all())
    posterior.save(tmp_path)
    again = Posterior.load(tmp_path).particles.transition_ends
    assert torch.equal(again, posterior.particles.transition_ends)


@pytest.mark.parametrize("wrong", [[9, -1], [-1, 1], [1, 0], [-2, 1]])
def test_steps_that_cannot_be_are_refused(wrong: list[int]) -> None:
    *_, state = steps_of(of("the end alone").model, 5)
    state.check()
    with pytest.raises(InputError, match="transition_ends"):
        replace(state, transition_ends=torch.tensor([wrong] * 5)).check()


def sampled(*axes: Iterable[Any], number: int, count: int) -> list[tuple[Any, ...]]:
    """The whole product of the axes, or a few of it."""
    product = list(itertools.product(*axes))
    return product if LONG else random.Random(number).sample(product, count)


@pytest.mark.quick
@pytest.mark.parametrize(("kind", "cut"), EVERYWHERE)
def test_conditional_runs_everywhere(kind: str, cut: str) -> None:
    number = EVERYWHERE.index((kind, cut))
    for scheme, pasts, name in sampled(SCHEMES, PASTS, AGGREGATIONS, number=number, count=4):
        chosen = of(kind, cut, aggregation=name, seed=number)
        assert after_sweeps(chosen, scheme, pasts) > LARGEST_P, (scheme, pasts, name)


@pytest.mark.quick
@pytest.mark.parametrize(("kind", "cut"), EVERYWHERE)
def test_moves_everywhere(kind: str, cut: str) -> None:
    number = EVERYWHERE.index((kind, cut))
    for move, name in sampled(MOVES, AGGREGATIONS, number=number, count=2):
        chosen = of(kind, cut, aggregation=name, seed=number)
        assert after_moves(chosen, MOVES[move], 1) > LARGEST_P, (move, name)


@pytest.mark.quick
@pytest.mark.parametrize(("kind", "cut"), EVERYWHERE)
def test_filters_everywhere(kind: str, cut: str) -> None:
    number = EVERYWHERE.index((kind, cut))
    for algorithm, name in sampled(ALGORITHMS, AGGREGATIONS, number=number, count=2):
        chosen = of(kind, cut, aggregation=name, seed=number)
        assert largest_z(chosen, ALGORITHMS[algorithm]) < MAX_Z_OF_MANY, (algorithm, name)
