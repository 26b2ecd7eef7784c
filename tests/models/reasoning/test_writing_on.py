"""Particles that write on while others finish a step: the same law, by enumeration, and draws."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from llmsmc import Posterior, run_together
from llmsmc.inference import (
    Adaptive,
    BootstrapFilter,
    CoalescingFilter,
    Greedy,
    GuidedFilter,
    IslandFilter,
    ParticleCascade,
    ParticleGibbs,
    RegenerateSuffix,
    ResampleMove,
    TemperedSMC,
    multinomial,
    systematic,
)
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.models import LanguageModel, Reasoning, SharedLanguageModel
from llmsmc.models.policies.decoding.requests import (
    TOKENS_PER_CHUNK,
    NextUniforms,
    StepRequest,
    StepTokens,
)
from llmsmc.models.policies.decoding.step_batch import StepBatch
from llmsmc.models.reasoning.particles import ReasoningParticles, concatenate
from llmsmc.models.reasoning.writing_on import Ahead
from llmsmc.models.text.constraint import WithoutText
from llmsmc.models.text.fences import OutsideFences
from llmsmc.models.text.thinking import Thinking
from tests.models.reasoning.test_exact_steps import (
    CLOSING,
    MAX_STEPS,
    MAX_TOKENS,
    Law,
    generator,
    log_score,
    make_policy,
    scores,
)
from tests.replicates import replicates
from tests.statistics import MAX_Z, MAX_Z_OF_MANY, p_value_of_law, z_score, z_scores

Solutions = dict[tuple[int, ...], tuple[float, float]]
"""The probability of each solution, and its target."""


class Recorded(LanguageModel):
    """A language model that keeps what it is asked for and answers."""

    asked: list[tuple[StepRequest, StepTokens]]

    def sample_step(self, request: StepRequest) -> Any:
        drawn, cost = super().sample_step(request)
        self.asked.append((request, drawn))
        return drawn, cost


class Waiting(LanguageModel):
    """A language model that draws no token ahead."""

    def sample_step(self, request: StepRequest) -> Any:
        return super().sample_step(replace(request, ahead=None))


def as_kind(policy: LanguageModel, kind: type[LanguageModel]) -> Any:
    other = kind(policy.model, policy.tokenizer, name=policy.name)
    if isinstance(other, Recorded):
        other.asked = []
    return other


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    policy = make_policy(seed=23)  # many steps, of different lengths
    return LanguageModel(policy.model.double(), policy.tokenizer)


def writing(policy: LanguageModel, **settings: Any) -> Reasoning:
    settings = {"max_tokens": MAX_TOKENS, "max_steps": MAX_STEPS, "write_on": True, **settings}
    return Reasoning(policy, scores, "a", **settings)


@pytest.fixture(scope="module")
def solutions(tiny: LanguageModel) -> Solutions:
    """Return the probability of each solution and its target, by enumeration."""
    model = writing(tiny, write_on=False)
    law, found = Law(model), Solutions()
    for ids, how in law.solutions():
        probability = math.exp(law.log_prob(ids, how))
        found[ids] = probability, probability * math.exp(log_score(model, ids, how))
    return found


def ids_of(particles: ReasoningParticles) -> list[tuple[int, ...]]:
    rows = zip(particles.token_ids.tolist(), particles.num_tokens.tolist(), strict=True)
    return [tuple(ids[:count]) for ids, count in rows]


def largest_z(model: Reasoning, resampler: Any, found: Solutions, seed: int) -> tuple[float, float]:
    """Return |z| of the evidence of 4000 filters of four particles, and that of the solutions."""
    runs = replicates(model, num_particles=4, resampler=resampler, num_replicates=4000, seed=seed)
    numbers = {ids: n for n, ids in enumerate(found)}
    which = torch.tensor([numbers.get(ids, -1) for ids in ids_of(runs.posterior.particles)])
    frequent = (which[which >= 0].bincount(minlength=len(numbers)) >= 200).nonzero().squeeze(1)
    assert len(frequent) > 10
    targets = torch.tensor([target for _, target in found.values()], dtype=torch.float64)
    z = z_scores(runs.measure((which[:, None] == frequent).double()), targets[frequent])
    return abs(z_score(runs.evidence, float(targets.sum()))), float(z.abs().max())


@pytest.mark.parametrize("resampler", [systematic, multinomial, Adaptive(systematic, 0.8)])
def test_evidence_and_weight_of_every_solution(
    tiny: LanguageModel, solutions: Solutions, resampler: Any
) -> None:
    policy = as_kind(tiny, Recorded)
    of_evidence, of_solutions = largest_z(writing(policy), resampler, solutions, seed=1)
    assert of_evidence < 4 and of_solutions < MAX_Z_OF_MANY
    taken = sum(int(r.begun.num_tokens.sum()) for r, _ in policy.asked if r.begun is not None)
    later = sum(int(drawn.num_tokens.sum()) for _, drawn in policy.asked[1:])
    assert taken > later / 2


def test_every_step_has_the_law_of_the_policy(tiny: LanguageModel, solutions: Solutions) -> None:
    """Nothing is resampled: beginnings are taken up by all that have them."""
    counts = dict.fromkeys(solutions, 0)
    for seed in range(4):
        for ids in ids_of(unweighted(writing(tiny), 5000, seed)):
            counts[ids] += 1
    law = torch.tensor([probability for probability, _ in solutions.values()], dtype=torch.float64)
    assert p_value_of_law(torch.tensor(list(counts.values())).double(), law) > 1e-5


def unweighted(model: Reasoning, num_particles: int, seed: int) -> ReasoningParticles:
    particles = model.sample_initial(num_particles, generator=generator(100 * seed))
    for t in range(1, MAX_STEPS):
        particles = model.sample_transition(t, particles, generator=generator(100 * seed + t))
    return particles


def test_copies_are_independent(tiny: LanguageModel) -> None:
    """Of two copies of each particle one goes on with what is drawn; the other knows nothing."""
    model = writing(tiny)
    first = model.sample_initial(8000, generator=generator(1))
    twice = torch.arange(8000).repeat_interleave(2)
    second = model.sample_transition(1, model.donate(first[twice]), generator=generator(2))
    pairs = second.token_ids.gather(1, second.num_tokens[:, None] - 1).reshape(-1, 2)
    going_on = ~first.finished
    alone = model.sample_transition(1, first, generator=generator(3))
    ends = alone.token_ids.gather(1, alone.num_tokens[:, None] - 1).squeeze(1)
    # Given the first step, a copy ends as its twin does no more often than a stranger does.
    same = (pairs[:, 0] == pairs[:, 1]).double()[going_on]
    strangers = (pairs[:, 1] == ends).double()[going_on]
    assert abs(z_score(same - strangers, 0.0)) < MAX_Z


def looks_at_the_text(self: Ahead, handle: Any) -> Ahead:
    """Hand a beginning over unless it ends the text at once, and draw anew otherwise."""
    taken = CLAIM(self, handle)
    if taken.begun is None:
        return taken
    ends = (taken.begun.num_tokens > 0) & (taken.begun.token_ids[:, 0] == 0)
    return without(taken, ends)


def handed_to_others(self: Ahead, handle: Any) -> Ahead:
    """Hand what was drawn behind one particle over to another."""
    taken = CLAIM(self, handle)
    if taken.begun is None:
        return taken
    order = torch.arange(len(taken.rows)).roll(1)
    begun = taken.begun.take(order)
    counts = begun.num_tokens.where(taken.rows >= 0, 0)
    return replace(taken, begun=replace(begun, num_tokens=counts))


def without(ahead: Ahead, mask: Tensor) -> Ahead:
    assert ahead.begun is not None
    begun = replace(
        ahead.begun,
        num_tokens=ahead.begun.num_tokens.masked_fill(mask, 0),
        stop_reasons=ahead.begun.stop_reasons.masked_fill(mask, 0),
    )
    return replace(ahead, rows=ahead.rows.masked_fill(mask, -1), begun=begun)


CLAIM = Ahead.claim


@pytest.mark.parametrize("wrong", [looks_at_the_text, handed_to_others])
def test_wrong_variants_are_rejected(
    tiny: LanguageModel,
    solutions: Solutions,
    wrong: Callable[..., Ahead],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Ahead, "claim", wrong)
    _, of_solutions = largest_z(writing(tiny), systematic, solutions, seed=1)
    assert of_solutions > 6


@pytest.fixture(scope="module")
def writer(policy_of: Callable[..., LanguageModel]) -> LanguageModel:
    """Return a policy in double precision whose steps differ in length."""
    policy = policy_of()
    return LanguageModel(policy.model.double(), policy.tokenizer)


def score_by_length(question: str, steps: Sequence[str]) -> Sequence[float]:
    return [0.9 if len(step) % 3 else 0.4 for step in steps]


class LastState:
    """Reads the last hidden state."""

    def __init__(self, size: int) -> None:
        self.size = size

    def features(self, states: Sequence[Tensor], log_probs: Tensor) -> Tensor:
        return states[-1].float()


SETTINGS: dict[str, dict[str, Any]] = {
    "delimiter": {},
    "tempered": {"temperature": 0.7},
    "fences": {"step": OutsideFences("\n\n")},
    "read": {"readout": LastState(32)},
}


def run(policy: LanguageModel, seed: int, **settings: Any) -> Posterior:
    settings = {"max_tokens": 60, "max_steps": 6, "write_on": True, **settings}
    model = Reasoning(policy, score_by_length, "What is 1 plus 1?", **settings)
    return BootstrapFilter(8, Adaptive(systematic, 0.9)).run(model, seed=seed)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_drawn_is_what_would_be_drawn_later(writer: LanguageModel, name: str) -> None:
    policy, waiting = as_kind(writer, Recorded), as_kind(writer, Waiting)
    num_calls = {"ahead": 0, "later": 0}
    for seed in range(6):
        ahead, later = (run(each, seed, **SETTINGS[name]) for each in (policy, waiting))
        assert ahead.particles.token_ids.equal(later.particles.token_ids)
        assert ahead.particles.finish_codes.equal(later.particles.finish_codes)
        for column in ("log_probs", "transition_log_probs", "proposal_log_probs"):
            found, expected = (getattr(each.particles, column) for each in (ahead, later))
            assert torch.allclose(found, expected, rtol=0, atol=1e-9)
        assert ahead.log_evidence == pytest.approx(later.log_evidence, abs=1e-9)
        assert ahead.cost.generated_tokens >= later.cost.generated_tokens
        num_calls["ahead"] += ahead.cost.model_calls
        num_calls["later"] += later.cost.model_calls
    assert num_calls["ahead"] < num_calls["later"]
    assert any(request.begun is not None for request, _ in policy.asked)


def test_beginnings_of_many_tokens(writer: LanguageModel) -> None:
    policy, waiting = as_kind(writer, Recorded), as_kind(writer, Waiting)
    policy.eos_ids = waiting.eos_ids = ()
    for seed in range(2):
        ahead, later = (
            run(each, seed, step="z", max_tokens=500, max_tokens_per_step=400, max_steps=4)
            for each in (policy, waiting)
        )
        assert ahead.particles.token_ids.equal(later.particles.token_ids)
        assert ahead.cost.model_calls < later.cost.model_calls
    begun = [request.begun for request, _ in policy.asked if request.begun is not None]
    assert max(int(each.num_tokens.max()) for each in begun) > TOKENS_PER_CHUNK


def test_what_is_read_is_read_of_beginnings_too(writer: LanguageModel) -> None:
    readout, read = LastState(32), list[Tensor]()
    for kind in (Recorded, Waiting):
        model = Reasoning(
            as_kind(writer, kind), None, "What?", write_on=True, readout=readout, max_steps=6
        )
        particles = model.sample_initial(8, generator=generator(1))
        for t in range(1, 5):
            particles = model.sample_transition(t, particles, generator=generator(1 + t))
        assert particles.features is not None
        read.append(particles.features)
    assert read[0].isnan().equal(read[1].isnan())
    assert torch.allclose(read[0].nan_to_num(), read[1].nan_to_num(), atol=1e-5)


def test_a_run_repeats_bit_for_bit(writer: LanguageModel) -> None:
    first, again = run(writer, 3), run(writer, 3)
    assert first.log_weights.equal(again.log_weights)
    assert first.particles.log_probs.equal(again.particles.log_probs)
    assert first.cost.generated_tokens == again.cost.generated_tokens
    assert first.cost.policy_positions == again.cost.policy_positions


def test_all_tokens_that_are_drawn_count(
    writer: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of beginnings once, whether they are taken up or lost."""
    drawn, draw = list[int](), StepBatch._draw

    def counting(self: StepBatch, law: Any, active: Tensor, *rest: Any) -> Tensor:
        drawn.append(len(active))
        return draw(self, law, active, *rest)

    monkeypatch.setattr(StepBatch, "_draw", counting)
    num_lost = 0
    for seed in range(4):
        drawn.clear()
        posterior = run(writer, seed)
        assert posterior.cost.generated_tokens == sum(drawn)
        later = run(as_kind(writer, Waiting), seed)
        num_lost += posterior.cost.generated_tokens - later.cost.generated_tokens
    assert num_lost > 0


def test_runs_that_share_a_policy_draw_the_same_and_nothing_ahead(writer: LanguageModel) -> None:
    shared = SharedLanguageModel(writer)
    tasks = [lambda seed=seed: run(shared, seed) for seed in range(4)]
    waiting = as_kind(writer, Waiting)
    for seed, together in run_together(tasks, in_flight=3):
        assert isinstance(together, Posterior)
        alone, later = run(writer, seed), run(waiting, seed)
        assert together.particles.token_ids.equal(alone.particles.token_ids)
        assert together.log_evidence == pytest.approx(alone.log_evidence, abs=1e-9)
        assert together.cost.generated_tokens == later.cost.generated_tokens


@pytest.mark.parametrize(
    "settings",
    [{"thinking": Thinking(CLOSING, "<t>")}, {"step": 2, "max_steps": 1}],
    ids=["thinking", "one step"],
)
def test_where_nothing_is_written_ahead(tiny: LanguageModel, settings: dict[str, Any]) -> None:
    policy = as_kind(tiny, Recorded)
    _ = BootstrapFilter(8).run(writing(policy, **settings), seed=0)
    assert all(drawn.begun is None for _, drawn in policy.asked)


def test_greedy_and_guided_steps_are_as_without(tiny: LanguageModel) -> None:
    models = [writing(tiny, write_on=each, constraint=WithoutText("a")) for each in (True, False)]
    guided, plain = (GuidedFilter(8).run(model, seed=2) for model in models)
    assert guided.particles.token_ids.equal(plain.particles.token_ids)
    assert guided.log_evidence == plain.log_evidence
    greedy, plain = (Greedy().run(model, seed=2) for model in models)
    assert greedy.particles.token_ids.equal(plain.particles.token_ids)


@pytest.mark.parametrize(
    "algorithm",
    [
        ResampleMove(8, Adaptive(systematic, 0.9), move=RegenerateSuffix()),
        TemperedSMC(8),
        CoalescingFilter(8),
        ParticleCascade(8),
        IslandFilter(4, num_islands=2),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_other_algorithms_keep_their_word(
    tiny: LanguageModel,
    solutions: Solutions,
    algorithm: Algorithm,
) -> None:
    exact = sum(target for _, target in solutions.values())
    model = writing(tiny)
    ratios = [math.exp(algorithm.run(model, seed=seed).log_evidence) / exact for seed in range(30)]
    assert abs(z_score(ratios, 1.0)) < MAX_Z


def test_sweeps_leave_the_posterior_as_it_is(tiny: LanguageModel, solutions: Solutions) -> None:
    total = sum(target for _, target in solutions.values())
    first = sum(target for ids, (_, target) in solutions.items() if ids[0] == 4)
    algorithm = ParticleGibbs(3, num_sweeps=4)
    shares = [
        algorithm.run(writing(tiny), seed=seed).mean(
            lambda particles: (particles.token_ids[:, 0] == 4).double()
        )
        for seed in range(20)
    ]
    assert abs(z_score([float(share) for share in shares], first / total)) < MAX_Z


def test_a_row_is_used_once() -> None:
    table = NextUniforms(5, Generator().manual_seed(0))
    assert table.claim(torch.tensor([3, -1, 1, 3, 1])).tolist() == [3, -1, 1, -1, -1]
    assert table.claim(torch.tensor([0, 3, 4, 4])).tolist() == [0, -1, 4, -1]
    assert table.claim(torch.tensor([-1, 0])).tolist() == [-1, -1]


def test_populations_that_are_joined_keep_what_they_have(tiny: LanguageModel) -> None:
    model = writing(tiny)
    particles, other = (model.sample_initial(40, generator=generator(seed)) for seed in (1, 2))
    order = torch.randperm(40, generator=generator(3))
    halves = [particles[order[:15]], particles[order[15:]]]
    one, parts = particles[order].ahead, concatenate(halves).ahead
    assert one is not None and one.begun is not None and one.begun.num_tokens.any()
    assert parts is not None and parts.begun is not None and parts.rows.equal(one.rows)
    for name, column in vars(one.begun).items():
        assert column is None or column.equal(getattr(parts.begun, name))
    assert concatenate([particles, other]).ahead is None
    assert model.rewind(particles, particles.num_transitions).ahead is None
    assert model.record(particles).ahead is None


def test_another_model_takes_nothing_up(tiny: LanguageModel) -> None:
    policy = as_kind(tiny, Recorded)
    model = writing(policy)
    first = model.sample_initial(40, generator=generator(1))
    other = replace(model, temperature=0.5)
    _ = other.sample_transition(1, first, generator=generator(2))
    assert policy.asked[-1][0].begun is None
    _ = model.sample_transition(1, first, generator=generator(2))
    assert policy.asked[-1][0].begun is not None
