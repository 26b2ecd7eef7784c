"""Reasoning as a state-space model: its populations, its potentials, and the algorithms on it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from llmsmc import InputError, NumericalError, Posterior, check_model
from llmsmc.inference import (
    BeamSearch,
    BestOfN,
    BootstrapFilter,
    Greedy,
    ResampleMove,
    SelfConsistency,
)
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.reasoning.model import Reasoning
from llmsmc.models.reasoning.particles import ReasoningParticles, concatenate
from llmsmc.models.rewards import reward_model
from llmsmc.models.rewards.reward_function import as_reward
from llmsmc.models.rewards.reward_model import RewardModel
from llmsmc.registry import AGGREGATIONS
from tests.models.conftest import local

QUESTION = "What is 3 + 4 + 5?"


@pytest.fixture
def model(policy: LanguageModel, reward: RewardModel) -> Reasoning:
    return Reasoning(policy, reward, QUESTION, max_steps=5, max_tokens_per_step=60)


def generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def grown(model: Reasoning, num_particles: int, num_steps: int) -> ReasoningParticles:
    particles = model.sample_initial(num_particles, generator=generator(0))
    for t in range(1, num_steps):
        particles = model.sample_transition(t, particles, generator=generator(t))
    return particles


def texts(particles: ReasoningParticles) -> list[tuple[str, ...]]:
    return [particles[n].steps for n in range(len(particles))]


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_the_laws_of_a_model(policy: LanguageModel, reward: RewardModel, name: str) -> None:
    model = Reasoning(policy, reward, QUESTION, name, max_steps=5, max_tokens_per_step=60)
    laws = check_model(model, num_particles=8, num_steps=4)
    assert any("path" in law for law in laws)


def test_elements(model: Reasoning, policy: LanguageModel) -> None:
    particles = grown(model, 8, 3)
    particles, _ = model.observe(2, None, particles, None)
    assert len(particles) == 8
    for n in range(8):
        particle = particles[n]
        assert particle.text == "".join(particle.steps)
        assert particle.text == policy.tokens.decode(particle.token_ids)
        assert all(step.strip() for step in particle.steps)
        assert len(particle.rewards) == len(particle.steps)
        expected = as_reward(model.reward).score(QUESTION, particle.steps) if model.reward else []
        assert particle.rewards == pytest.approx(expected, abs=1e-5)
        log_prob = policy.log_probs(model.prompt_ids, particle.token_ids).sum()
        assert particle.log_prob == pytest.approx(float(log_prob), abs=1e-4)
        assert particle.finish_reason in (None, "eos", "answer", "length", "max_steps")
        ends = particles.step_ends[n, : len(particle.steps)].tolist()
        starts = [0, *ends[:-1]]
        for start, end, step in zip(starts, ends, particle.steps, strict=True):
            ids = particle.token_ids[start:end]
            assert policy.tokens.decode(ids, after=particle.token_ids[:start]) == step
    assert particles[-1] == particles[7]
    with pytest.raises(IndexError):
        particles[8]


def test_populations_are_gathered_and_stay_as_they_are(model: Reasoning) -> None:
    particles = grown(model, 6, 2)
    before = texts(particles)
    indices = torch.tensor([5, 5, 0, 1, 1, 1, 2])
    first, second = particles[indices], particles[indices]
    assert texts(first) == [before[n] for n in indices.tolist()]
    extended = model.sample_transition(2, first, generator=generator(9))
    again = model.sample_transition(2, second, generator=generator(9))
    assert texts(extended) == texts(again)
    assert torch.equal(extended.log_probs, again.log_probs)
    assert texts(particles) == before
    assert texts(particles[[1]]) == [before[1]]


def test_continuing_from_ids_alone_is_the_same(model: Reasoning) -> None:
    """Resampled populations with caches draw and score what rebuilt ones do."""
    particles = grown(model, 8, 2)
    particles, _ = model.observe(1, None, particles, None)
    for seed in range(3):
        particles = particles[torch.randint(8, (8,), generator=generator(seed))]
        bare = model.record(particles)
        assert bare.policy_cache is None and bare.reward_cache is None
        results = [
            model.sample_transition(2 + seed, start, generator=generator(seed))
            for start in (particles, bare)
        ]
        assert texts(results[0]) == texts(results[1])
        torch.testing.assert_close(results[0].log_probs, results[1].log_probs, rtol=0.0, atol=1e-5)
        potentials = [
            model.log_likelihood(2 + seed, start, state, None)
            for start, state in zip((particles, bare), results, strict=True)
        ]
        torch.testing.assert_close(potentials[0], potentials[1], rtol=0.0, atol=1e-4)
        particles = results[0]


def test_finished_particles_cost_nothing(model: Reasoning) -> None:
    particles = grown(model, 12, 2)
    finished = particles.finished
    assert 0 < int(finished.sum()) < 12
    done = particles[finished.nonzero().squeeze(1)]
    done, _ = model.observe(1, None, done, None)
    before = model.cost()
    same = model.sample_transition(2, done, generator=generator(5))
    potential = model.log_likelihood(2, done, same, None)
    spent = replace(model.cost() - before, peak_memory_bytes=0)
    assert spent == type(spent)()
    assert potential.abs().sum() == 0
    # In a mixed population only the others go through the models.
    particles, _ = model.observe(1, None, particles, None)
    before = model.cost()
    extended = model.sample_transition(2, particles, generator=generator(5))
    assert texts(extended[finished.nonzero().squeeze(1)]) == texts(done)
    drawn = int((extended.num_tokens - particles.num_tokens)[~finished].sum())
    assert (model.cost() - before).generated_tokens == drawn
    extended, potential = model.observe(2, particles, extended, None)
    assert potential[finished].abs().sum() == 0
    assert bool((potential[~finished] != 0).all())
    assert extended.policy_cache is not None
    assert not bool((extended.policy_cache.present & extended.finished).any())
    assert isinstance(extended.reward_cache, CacheRows)
    assert not bool((extended.reward_cache.present & extended.finished).any())


def test_draws_do_not_depend_on_the_others(model: Reasoning) -> None:
    particles = grown(model, 8, 1)
    going_on = ~particles.finished
    everyone = model.sample_transition(1, particles, generator=generator(4))
    stopped = particles.finish_codes.clone()
    victim = int(going_on.nonzero()[0])
    stopped[victim] = 1
    fewer = model.sample_transition(
        1, replace(particles, finish_codes=stopped), generator=generator(4)
    )
    others = torch.tensor([n for n in range(8) if n != victim])
    assert texts(fewer[others]) == texts(everyone[others])


def test_selecting_from_two_populations(model: Reasoning) -> None:
    old = grown(model, 6, 1)
    new = model.sample_transition(1, old, generator=generator(1))
    mask = torch.tensor([True, False, True, True, False, False])
    mixed = new.select(mask, old)
    expected = [(new if mask[n] else old)[n].steps for n in range(6)]
    assert texts(mixed) == expected
    # The caches of both are still right.
    extended = model.sample_transition(2, mixed, generator=generator(2))
    rebuilt = model.sample_transition(2, model.record(mixed), generator=generator(2))
    assert texts(extended) == texts(rebuilt)
    both = concatenate([old, new])
    assert texts(both) == texts(old) + texts(new)


def test_potentials_telescope(model: Reasoning, reward: RewardModel) -> None:
    for name, beta in (("product", 1.0), ("last", 2.0), ("min", 0.5)):
        tempered = replace(model, aggregation=name, inverse_temperature=beta)
        state = tempered.sample_initial(6, generator=generator(0))
        total = tempered.log_likelihood(0, None, state, None)
        for t in (1, 2):
            previous, state = state, tempered.sample_transition(t, state, generator=generator(t))
            total = total + tempered.log_likelihood(t, previous, state, None)
        for n in range(6):
            scores = reward.score(QUESTION, state[n].steps)
            whole = {"product": math.prod(scores), "last": scores[-1], "min": min(scores)}[name]
            assert float(total[n]) == pytest.approx(beta * math.log(whole), abs=1e-4)
        at_once = tempered.path_log_likelihood(2, tempered.record(state), None)
        torch.testing.assert_close(at_once, total, rtol=0.0, atol=1e-4)


def test_the_whole_path_is_scored_in_one_pass(
    model: Reasoning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_model, "CALL", 10_000)  # solutions of any length in one group
    state = grown(model, 6, 4)
    assert model.cost().scored_tokens == 0
    before = model.cost()
    state, _ = model.observe_path(3, state, None)
    assert (model.cost() - before).model_calls == 2  # the question, then all steps
    before = model.cost()
    state, _ = model.observe_path(3, state, None)
    assert (model.cost() - before).model_calls == 0


def test_positions_are_linear_in_the_steps(model: Reasoning) -> None:
    longer = replace(model, step=4, max_steps=64, stop_at_answer=False)
    policy = replace_eos(local(longer.policy))
    positions, scored = [], []
    for num_steps in (8, 16, 32):
        fresh = replace(longer, policy=policy)
        state = fresh.sample_initial(3, generator=generator(0))
        state, _ = fresh.observe(0, None, state, None)
        for t in range(1, num_steps):
            previous, state = state, fresh.sample_transition(t, state, generator=generator(t))
            state, _ = fresh.observe(t, previous, state, None)
        cost = fresh.cost()
        assert cost.generated_tokens == 3 * 4 * num_steps
        # Less than one position a token, as long as the three agree.
        assert 0 < len(fresh.prompt_ids) - 1 + cost.generated_tokens - cost.policy_positions < 9
        positions.append(cost.policy_positions)
        scored.append(cost.reward_positions)
    assert positions[2] - positions[1] == 2 * (positions[1] - positions[0])
    assert scored[2] - scored[1] < 2.5 * (scored[1] - scored[0])


def replace_eos(policy: LanguageModel) -> LanguageModel:
    """Return the policy without an end of text."""
    endless = LanguageModel(policy.model, policy.tokenizer)
    endless.eos_ids = ()
    return endless


def test_the_number_of_steps_is_exact(model: Reasoning) -> None:
    endless = replace(model, policy=replace_eos(local(model.policy)), step=3, max_steps=4)
    posterior = SelfConsistency(num_particles=3).run(endless, seed=0)
    assert len(posterior.history) == 4
    assert posterior.particles.num_tokens.tolist() == [12] * 3
    assert bool(posterior.truncated.all())
    assert posterior.particles[0].finish_reason == "max_steps"
    assert posterior.particles[0].truncated


def test_truncation_by_tokens(model: Reasoning) -> None:
    endless = replace(model, policy=replace_eos(local(model.policy)), max_tokens_per_step=2)
    posterior = SelfConsistency(num_particles=4).run(endless, seed=0)
    assert {posterior.particles[n].finish_reason for n in range(4)} == {"length"}
    assert len(posterior.history) == 1
    assert bool(posterior.truncated.all())
    whole = replace(endless, max_tokens_per_step=50, max_tokens=7)
    posterior = SelfConsistency(num_particles=4).run(whole, seed=0)
    assert posterior.particles.num_tokens.max() == 7


@pytest.mark.parametrize("aggregation", ["product", "model"])
def test_a_solution_that_outgrows_the_reward_model(
    model: Reasoning, reward: RewardModel, aggregation: str
) -> None:
    """It is cut off and scored as far as it fits; the others go on."""
    short = RewardModel(reward.model, reward.tokenizer)
    short.context_length = len(short.prefix_ids(QUESTION)) + 20
    model = replace(model, reward=short, aggregation=aggregation, inverse_temperature=0.1)
    posterior = BootstrapFilter(num_particles=16).run(model, seed=0)
    cut = [p for p in posterior.particles if p.finish_reason == "length"]
    assert cut and len(cut) < 16
    assert bool(posterior.log_weights.isfinite().all())
    for particle in cut:
        assert math.isnan(particle.rewards[-1])
        assert not short.fits(QUESTION, particle.steps, model._aggregation.reading)
    short.context_length = len(short.prefix_ids("1")) + 1
    with pytest.raises(InputError, match="does not fit"):
        replace(model)


def test_an_answer_ends_a_particle(model: Reasoning, monkeypatch: pytest.MonkeyPatch) -> None:
    boxed = replace(model, policy=replace_eos(local(model.policy)), step=2, max_steps=3)
    monkeypatch.setattr(boxed.policy.tokens, "decode", lambda ids, after=(): "So \\boxed{12}.\n\n")
    particles = boxed.sample_initial(2, generator=generator(0))
    assert [particles[n].finish_reason for n in range(2)] == ["answer", "answer"]
    assert particles[0].answer == "12"
    assert not particles[0].truncated
    assert bool(boxed.finished(particles).all()) and not bool(boxed.truncated(particles).any())
    going_on = replace(boxed, stop_at_answer=False)
    particles = going_on.sample_initial(2, generator=generator(0))
    assert particles[0].finish_reason is None


def test_what_is_blank_is_no_step(model: Reasoning, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["\n", "One.\n\n", " ", "Two."])
    policy = replace_eos(local(model.policy))
    monkeypatch.setattr(policy.tokens, "decode", lambda ids, after=(): next(answers))
    short = replace(model, policy=policy, step=2)
    state = short.sample_initial(1, generator=generator(0))
    assert (
        state.num_steps.tolist() == [0] and float(short.log_likelihood(0, None, state, None)) == 0
    )
    previous, state = state, short.sample_transition(1, state, generator=generator(1))
    assert texts(state) == [("One.\n\n",)] and state.step_ends.tolist() == [[4]]
    assert float(short.log_likelihood(1, previous, state, None)) < 0
    previous, state = state, short.sample_transition(2, state, generator=generator(2))
    assert texts(state) == [("One.\n\n ",)] and state.step_ends.tolist() == [[6]]
    assert float(short.log_likelihood(2, previous, state, None)) == 0
    previous, state = state, short.sample_transition(3, state, generator=generator(3))
    assert texts(state) == [("One.\n\n ", "Two.")]
    state, _ = short.observe(3, previous, state, None)
    assert model.reward is not None
    expected = as_reward(model.reward).score(QUESTION, ["One.", "Two."])
    assert state[0].rewards == pytest.approx(expected, abs=1e-5)


def test_rewound_particles_go_on_from_there(model: Reasoning) -> None:
    particles = grown(replace(model, max_steps=None), 8, 4)
    particles, _ = model.observe(3, None, particles, None)
    num_steps = torch.tensor([0, 1, 2, 9, 1, 0, 2, 1])
    rewound = model.rewind(particles, num_steps)
    for n, count in enumerate(num_steps.tolist()):
        assert rewound[n].steps == particles[n].steps[:count]
        assert rewound[n].text.strip() == model.policy.tokens.decode(rewound[n].token_ids).strip()
        assert rewound[n].rewards == particles[n].rewards[:count]
    shortened = rewound.num_steps < particles.num_steps
    assert not bool(rewound.finished[shortened].any())
    for aggregation in ("product", "model"):
        fresh = replace(model, aggregation=aggregation)
        states = []
        for start in (fresh.rewind(particles, num_steps), fresh.record(rewound)):
            state = fresh.sample_transition(4, start, generator=generator(7))
            states.append((state, fresh.log_likelihood(4, start, state, None)))
        assert texts(states[0][0]) == texts(states[1][0])
        torch.testing.assert_close(states[0][1], states[1][1], rtol=0.0, atol=1e-4)
    before = model.cost()
    model.sample_transition(4, rewound, generator=generator(7))
    rebuilt = model.cost() - before
    before = model.cost()
    model.sample_transition(4, model.record(rewound), generator=generator(7))
    assert rebuilt.policy_positions < (model.cost() - before).policy_positions


@pytest.mark.parametrize("aggregation", ["product", "model"])
def test_scores_are_those_of_the_texts_where_steps_are_blank(
    model: Reasoning, aggregation: str
) -> None:
    """However a solution came about: drawn, cut back, put together; with what is cached of it."""
    blank = replace(model, aggregation=aggregation, step=1, max_steps=8, stop_at_answer=False)
    assert blank.reward is not None
    previous, state = None, blank.sample_initial(24, generator=generator(1))
    state, _ = blank.observe(0, None, state, None)
    for t in range(1, 6):
        previous, state = state, blank.sample_transition(t, state, generator=generator(1 + t))
        state, _ = blank.observe(t, previous, state, None)
    assert previous is not None
    back = blank.rewind(state, torch.arange(24) % 6)
    assert previous is not None
    going_on = ((state.num_transitions > 3) & ~previous.finished).nonzero().squeeze(1)
    prefixes = blank.rewind(state[going_on], torch.full((len(going_on),), 3))
    joined = blank.splice(prefixes, 3, state[going_on.flip(0)])
    num_blank = 0
    for particles in (state, back, joined):
        particles, _ = blank.observe_path(5, particles, None)
        for particle in particles:
            read = [particle.text] if aggregation == "model" else list(particle.steps)
            expected = as_reward(blank.reward).score(QUESTION, read if particle.steps else [])
            assert particle.rewards[-len(expected) :] == pytest.approx(expected, abs=1e-5)
        num_blank += int((particles.num_transitions > particles.num_steps).sum())
    assert num_blank > 20


class Keeping(Reasoning):
    """The same model, in which nothing cached is ever given up."""

    def donate(self, particles: ReasoningParticles) -> ReasoningParticles:
        return particles


@pytest.mark.parametrize(
    "algorithm",
    [BootstrapFilter(8), ResampleMove(8), SelfConsistency(8), BeamSearch(8)],
    ids=lambda each: type(each).__name__,
)
def test_caches_that_are_given_up_change_nothing(model: Reasoning, algorithm: Any) -> None:
    keeping = Keeping(model.policy, model.reward, QUESTION, max_steps=5, max_tokens_per_step=60)
    for seed in range(2):
        one, other = (algorithm.run(each, seed=seed) for each in (model, keeping))
        assert texts(one.particles) == texts(other.particles)
        torch.testing.assert_close(one.log_weights, other.log_weights, rtol=0.0, atol=1e-5)
        for cost in ("policy_positions", "reward_positions", "scored_tokens", "model_calls"):
            assert getattr(one.cost, cost) == getattr(other.cost, cost)


def test_parents_are_extended_in_their_own_buffers(model: Reasoning) -> None:
    parents = model.sample_initial(6, generator=generator(0))
    parents, _ = model.observe(0, None, parents, None)
    handle = parents.policy_cache
    assert handle is not None and bool(handle.present.any())
    kept = model.sample_transition(1, parents, generator=generator(1))
    assert bool(handle.present.any())
    state = model.sample_transition(1, model.donate(parents), generator=generator(1))
    assert texts(state) == texts(kept)
    assert not bool(handle.present.any())
    expected = model.log_likelihood(1, parents, kept, None)
    scored = parents.reward_cache
    assert isinstance(scored, CacheRows) and bool(scored.present.any())
    found = model.log_likelihood(1, parents, state, None)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)
    assert not bool(scored.present.any())
    again = model.sample_transition(1, parents, generator=generator(1))  # from nothing
    assert texts(again) == texts(kept)


def runs_equal(one: Posterior, two: Posterior) -> bool:
    return (
        texts(one.particles) == texts(two.particles)
        and torch.equal(one.log_weights, two.log_weights)
        and torch.equal(one.particles.log_odds.nan_to_num(), two.particles.log_odds.nan_to_num())
        and [r.log_evidence for r in one.history] == [r.log_evidence for r in two.history]
    )


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_bootstrap_filter(model: Reasoning, aggregation: str) -> None:
    model = replace(model, aggregation=aggregation)
    state = torch.random.get_rng_state()
    posterior = BootstrapFilter(num_particles=8).run(model, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert posterior.log_evidence == pytest.approx(float(posterior.log_weights.logsumexp(0)))
    assert posterior.cost.generated_tokens > 0 and posterior.cost.scored_tokens > 0
    assert posterior.cost.policy_seconds > 0 and posterior.cost.reward_seconds > 0
    assert posterior.cost.peak_memory_bytes > 0
    again = BootstrapFilter(num_particles=8).run(model, seed=3)
    assert texts(again.particles) == texts(posterior.particles)
    assert torch.equal(again.log_weights, posterior.log_weights)
    assert again.cost.policy_positions == posterior.cost.policy_positions
    other = BootstrapFilter(num_particles=8).run(model, seed=4)
    assert texts(other.particles) != texts(posterior.particles)


def test_the_weights_are_those_of_the_path_without_resampling(model: Reasoning) -> None:
    from llmsmc.inference import Adaptive

    posterior = BootstrapFilter(num_particles=6, resampler=Adaptive(ess_threshold=0.0)).run(
        model, seed=1
    )
    assert model.reward is not None
    for n in range(6):
        steps = posterior.particles[n].steps
        log_scores = [math.log(score) for score in as_reward(model.reward).score(QUESTION, steps)]
        assert float(posterior.log_weights[n]) == pytest.approx(
            sum(log_scores) - math.log(6), abs=1e-4
        )


def test_baselines(model: Reasoning, reward: RewardModel, policy: LanguageModel) -> None:
    unscored = Reasoning(policy, None, QUESTION, max_steps=5, max_tokens_per_step=60)
    for algorithm in (Greedy(), SelfConsistency(num_particles=4)):
        posterior = algorithm.run(unscored, seed=0)
        assert posterior.cost.scored_tokens == 0
    greedy = Greedy().run(model)
    assert greedy.cost.scored_tokens == 0
    assert texts(greedy.particles) == texts(Greedy().run(unscored).particles)
    sampled = SelfConsistency(num_particles=6).run(model, seed=2)
    best = BestOfN(num_particles=6).run(model, seed=2)
    assert texts(best.particles) == texts(sampled.particles)
    products = [math.prod(reward.score(QUESTION, steps)) for steps in texts(best.particles)]
    assert best.best().steps == best.particles[products.index(max(products))].steps
    with pytest.raises(InputError, match="reward=None"):
        BestOfN(num_particles=2).run(unscored, seed=0)


def test_a_posterior_can_be_saved(model: Reasoning, tmp_path: Path) -> None:
    posterior = BootstrapFilter(num_particles=4).run(model, seed=3)
    posterior.save(tmp_path / "run")
    loaded = Posterior.load(tmp_path / "run")
    assert runs_equal(loaded, posterior)
    assert loaded.particles[0].text == posterior.particles[0].text
    assert loaded.answers() == posterior.answers()
    # And taken up again: the caches are made anew.
    more = model.sample_transition(9, loaded.particles, generator=generator(0))
    assert len(more) == 4


def test_equal_answers_are_spelt_alike(model: Reasoning) -> None:
    written = ["1/2", "0.5", "0.5", None, "7", "\\frac{1}{2}", "7.0"]
    steps = tuple((f"\\boxed{{{answer}}}" if answer else "Nothing",) for answer in written)
    particles = replace(ReasoningParticles.empty(QUESTION, (1,), len(written)), steps=steps)
    assert particles.answers() == ["0.5", "0.5", "0.5", None, "7", "0.5", "7"]


def test_numerical_errors_name_particle_and_step(
    model: Reasoning, policy_of: Callable[..., LanguageModel]
) -> None:
    policy = policy_of()
    broken = replace(model, policy=policy)
    particles = grown(broken, 4, 1)
    with torch.no_grad():
        policy.model.get_parameter("lm_head.weight")[5] = torch.nan
    first = int((~particles.finished).nonzero()[0])
    with pytest.raises(NumericalError, match=f"particle {first} at step 1"):
        broken.sample_transition(1, particles, generator=generator(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"inverse_temperature": math.inf}, "inverse_temperature"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_tokens_per_step": 0}, "max_tokens_per_step"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"step": ""}, "delimiter"),
        ({"aggregation": "mean"}, "aggregation"),
        ({"question": " "}, "question"),
        ({"system": "\a"}, "system prompt"),
    ],
)
def test_settings_that_are_refused(
    model: Reasoning, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        replace(model, **settings)


def test_a_temperature_of_zero_follows_the_mode(model: Reasoning) -> None:
    cold = replace(model, temperature=0.0)
    sampled: Tensor = cold.sample_initial(2, generator=generator(0)).token_ids
    assert torch.equal(sampled, model.mode_initial(2).token_ids)
    mode = model.mode_transition(1, model.mode_initial(1))
    assert len(mode) == 1
