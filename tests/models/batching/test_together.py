"""Runs that share the batches of their models return what they return alone."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from llmsmc import DegenerateWeightsError, InputError, NumericalError, Posterior, run_together
from llmsmc.inference import (
    BestOfN,
    BootstrapFilter,
    Greedy,
    GuidedFilter,
    ParticleGibbs,
    TwistedFilter,
)
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.models import (
    LanguageModel,
    Reasoning,
    RewardFunction,
    RewardModel,
    SharedLanguageModel,
    SharedReward,
    WithoutText,
)
from llmsmc.models.batching.shared import _Rewards
from llmsmc.models.policies.decoding.step_batch import StepBatch
from llmsmc.models.rewards.reward import ScoringRequest
from tests.models.conftest import make_policy, make_reward_network

QUESTIONS = ("What is 3 + 4?", "1?", "What is 12 plus 30, and then 7 times as much?", "2 + 2?")

SAME = ("generated_tokens", "scored_tokens", "policy_positions", "model_calls")


@pytest.fixture(scope="module")
def policy(tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """In double precision, so that the size of a batch does not decide what is drawn."""
    made = make_policy(tokenizer, "qwen2")
    return LanguageModel(made.model.double(), tokenizer)


@pytest.fixture(scope="module")
def reward(tokenizer: PreTrainedTokenizerFast) -> RewardModel:
    return RewardModel(make_reward_network(len(tokenizer)).double(), tokenizer)


def posteriors(
    runs: Sequence[tuple[Algorithm, Callable[..., Reasoning]]],
    policy: LanguageModel,
    reward: Any,
    in_flight: int = 0,
    tokens_meanwhile: int = 0,
) -> list[Any]:
    """The outcome of each run: alone, or so many at a time."""
    if not in_flight:
        return [run.run(model(policy, reward), seed=n) for n, (run, model) in enumerate(runs)]
    own = SharedLanguageModel(policy)
    judge = SharedReward(reward, tokens_meanwhile=tokens_meanwhile)
    tasks = [
        partial(lambda run, model, n: run.run(model(own, judge), seed=n), run, model, n)
        for n, (run, model) in enumerate(runs)
    ]
    outcomes = dict(run_together(tasks, in_flight))
    return [outcomes[n] for n in range(len(runs))]


def asking(question: str, **settings: Any) -> Callable[..., Reasoning]:
    options = {"max_steps": 4, "max_tokens_per_step": 30} | settings
    return lambda policy, reward: Reasoning(policy, reward, question, **options)


def require_equal(one: Posterior, other: Posterior, *, bitwise: bool = False) -> None:
    tolerance = 0.0 if bitwise else 1e-9
    assert torch.equal(one.particles.token_ids, other.particles.token_ids)
    for name in ("log_weights",):
        left, right = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(left, right, rtol=0.0, atol=tolerance)
    assert (one.log_evidence is None) == (other.log_evidence is None)
    if one.log_evidence is not None:
        assert math.isclose(one.log_evidence, other.log_evidence, rel_tol=0.0, abs_tol=tolerance)


@pytest.mark.parametrize(
    ("in_flight", "tokens_meanwhile"), [(1, 0), (2, 0), (4, 0), (3, 1), (3, 5), (3, 100)]
)
def test_filters_draw_what_they_draw_alone(
    policy: LanguageModel, reward: RewardModel, in_flight: int, tokens_meanwhile: int
) -> None:
    runs = [(BootstrapFilter(6), asking(question)) for question in QUESTIONS]
    alone = posteriors(runs, policy, reward)
    together = posteriors(runs, policy, reward, in_flight, tokens_meanwhile)
    for one, other in zip(alone, together, strict=True):
        require_equal(one, other)
        for name in ("generated_tokens", "scored_tokens"):
            assert getattr(one.cost, name) == getattr(other.cost, name)
        assert other.cost.policy_positions <= 1.5 * one.cost.policy_positions
        assert 0 < other.cost.policy_seconds < other.cost.seconds
        assert 0 < other.cost.reward_seconds < other.cost.seconds
    again = posteriors(runs, policy, reward, in_flight, tokens_meanwhile)
    for one, other in zip(together, again, strict=True):
        require_equal(one, other, bitwise=True)


@pytest.mark.parametrize("tokens_meanwhile", [0, 1, 3])
def test_so_many_tokens_are_drawn_while_a_reward_is_slow(
    policy: LanguageModel, monkeypatch: pytest.MonkeyPatch, tokens_meanwhile: int
) -> None:
    """A reward that waits for tokens sees as many as it is told, and no more however long."""
    drawn, meanwhile = [0], list[int]()
    actual = StepBatch.advance

    def counting(self: StepBatch) -> Any:
        answers = actual(self)
        drawn[0] += 1
        return answers

    def slow(question: str, steps: Sequence[str]) -> list[float]:
        before, patience = drawn[0], time.monotonic() + 0.2
        while drawn[0] < before + tokens_meanwhile and time.monotonic() < patience:
            time.sleep(0.001)
        time.sleep(0.01)
        meanwhile.append(drawn[0] - before)
        return [0.5 for _ in steps]

    monkeypatch.setattr(StepBatch, "advance", counting)
    lengths = zip(QUESTIONS[:2], (2, 9), strict=True)
    runs = [(BootstrapFilter(1), asking(question, step=n)) for question, n in lengths]
    posteriors(runs, policy, RewardFunction(slow), 2, tokens_meanwhile)
    assert max(meanwhile) == tokens_meanwhile


def test_what_is_asked_meanwhile_is_answered_next(
    policy: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which steps are scored in one batch does not depend on how long scoring takes."""
    actual = _Rewards._all
    judge = RewardFunction(lambda question, steps: [0.5 for _ in steps])
    runs = [(BootstrapFilter(2), asking(q, step=n)) for n, q in enumerate(QUESTIONS, start=2)]

    def batches(slow: int) -> list[list[str]]:
        """The questions of each batch, of which one takes long."""
        found = list[list[str]]()

        def watched(self: _Rewards, requests: Sequence[ScoringRequest]) -> Any:
            if len(found) == slow:
                time.sleep(0.3)
            found.append([request.question for request in requests])
            return actual(self, requests)

        monkeypatch.setattr(_Rewards, "_all", watched)
        posteriors(runs, policy, judge, 4, 6)
        return found

    usual = batches(-1)
    assert max(map(len, usual)) > 1
    assert batches(0) == usual and batches(3) == usual


def test_an_error_of_a_reward_beside_is_of_its_own_run(policy: LanguageModel) -> None:
    def moody(question: str, steps: Sequence[str]) -> list[float]:
        if question == QUESTIONS[1]:
            raise KeyError("no such question")
        return [0.5 for _ in steps]

    before = threading.active_count()
    judge = RewardFunction(moody)
    runs = [(BootstrapFilter(4), asking(question)) for question in QUESTIONS[:3]]
    together = posteriors(runs, policy, judge, 3, 4)
    assert threading.active_count() == before
    assert isinstance(together[1], KeyError | InputError)
    for n in (0, 2):
        require_equal(runs[n][0].run(runs[n][1](policy, judge), seed=n), together[n])
    with pytest.raises(InputError, match="tokens_meanwhile is a count"):
        SharedReward(judge, tokens_meanwhile=-1)


def test_runs_of_all_kinds_share_a_batch(policy: LanguageModel, reward: RewardModel) -> None:
    """Other algorithms, temperatures, rules, constraints and limits at the same time."""
    question = QUESTIONS[2]
    runs: list[tuple[Algorithm, Callable[..., Reasoning]]] = [
        (BootstrapFilter(5), asking(question, temperature=0.7)),
        (BestOfN(4), asking(question, step=5, max_steps=3)),
        (Greedy(), asking(question)),
        (GuidedFilter(4), asking(question, constraint=WithoutText("e"), max_steps=3)),
        (TwistedFilter(4), asking(question, max_tokens=20)),
        (ParticleGibbs(3, num_sweeps=2), asking(question, max_steps=3)),
        (
            GuidedFilter(4),
            lambda own, judge: Reasoning(
                own, judge, question, proposal_policy=own, max_steps=3, max_tokens_per_step=9
            ),
        ),
        (BootstrapFilter(4), asking(question, aggregation="model", max_steps=3)),
    ]
    alone = posteriors(runs, policy, reward)
    for one, other in zip(alone, posteriors(runs, policy, reward, 8), strict=True):
        require_equal(one, other)


def test_any_reward_can_be_shared(policy: LanguageModel) -> None:
    def brevity(question: str, steps: Sequence[str]) -> list[float]:
        return [1 / (1 + len(step) / 20) for step in steps]

    runs = [(BootstrapFilter(4), asking(question)) for question in QUESTIONS]
    judge = RewardFunction(brevity)
    alone = posteriors(runs, policy, judge)
    for one, other in zip(alone, posteriors(runs, policy, judge, 4), strict=True):
        require_equal(one, other)


def test_a_shared_model_is_an_ordinary_one_outside(
    policy: LanguageModel, reward: RewardModel
) -> None:
    run, model = BootstrapFilter(4), asking(QUESTIONS[0])
    shared = model(SharedLanguageModel(policy), SharedReward(reward))
    require_equal(run.run(shared, seed=3), run.run(model(policy, reward), seed=3), bitwise=True)
    assert SharedReward(reward).score(QUESTIONS[0], ["It is 7."]) == pytest.approx(
        reward.score(QUESTIONS[0], ["It is 7."])
    )


def test_an_error_is_of_its_own_run(policy: LanguageModel, reward: RewardModel) -> None:
    def harsh(own: LanguageModel, judge: Any) -> Reasoning:
        return asking(QUESTIONS[1], constraint=WithoutText(*"abcdefghijklmnopqrstuvwxyz .\n"))(
            own, judge
        )

    runs: list[Any] = [
        (BootstrapFilter(4), asking(QUESTIONS[0])),
        (BootstrapFilter(4), harsh),
        (BootstrapFilter(4), asking("a bell \x07")),
        (BootstrapFilter(4), asking(QUESTIONS[3])),
    ]
    together = posteriors(runs, policy, reward, 4)
    assert isinstance(together[1], DegenerateWeightsError)
    assert isinstance(together[2], InputError)
    for n in (0, 3):
        alone = runs[n][0].run(runs[n][1](policy, reward), seed=n)
        require_equal(alone, together[n])


def test_logits_that_are_not_numbers_do_not_spread(
    tokenizer: PreTrainedTokenizerFast, reward: RewardModel
) -> None:
    """One token is poison; only the run in whose question it stands breaks down."""
    broken = make_policy(tokenizer, "qwen2")
    broken = LanguageModel(broken.model.double(), tokenizer)
    with torch.no_grad():
        poison = broken.tokenizer.encode("#", add_special_tokens=False)[0]
        broken.model.get_parameter("model.embed_tokens.weight")[poison] = torch.nan
        head = broken.model.get_parameter("lm_head.weight")
        head[poison], head[poison, 0] = 0.0, -100.0  # never drawn
    runs = [(BootstrapFilter(4), asking(q)) for q in (QUESTIONS[0], "1 # 2?", QUESTIONS[2])]
    together = posteriors(runs, broken, reward, 3)
    assert isinstance(together[1], NumericalError)
    assert str(together[1]).endswith("numbers for particle 0 at step 0.")
    for n in (0, 2):
        require_equal(runs[n][0].run(runs[n][1](broken, reward), seed=n), together[n])


def test_more_particles_than_fit_wait_for_room(
    policy: LanguageModel, reward: RewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = list[int]()
    actual = StepBatch.advance

    def watched(self: StepBatch) -> Any:
        sizes.append(sum(map(len, self.requests)))
        return actual(self)

    monkeypatch.setattr(StepBatch, "advance", watched)
    own, judge = SharedLanguageModel(policy, max_particles=9), SharedReward(reward)
    runs = [(BootstrapFilter(n), asking(QUESTIONS[0])) for n in (4, 4, 12, 4)]
    tasks = [
        partial(lambda run, model, n: run.run(model(own, judge), seed=n), run, model, n)
        for n, (run, model) in enumerate(runs)
    ]
    together: dict[int, Any] = dict(run_together(tasks, 4))
    assert max(sizes) == 12 and sizes.count(8) > 0
    assert all(size <= 9 or size == 12 for size in sizes)
    for n, one in enumerate(posteriors(runs, policy, reward)):
        require_equal(one, together[n])


def test_a_shared_policy_has_what_the_policy_has(policy: LanguageModel) -> None:
    """Nothing is read or compiled again, as of the tokens, and nothing is lost."""
    read = LanguageModel(policy.model, policy.tokenizer, name="a.gguf", stored="Q4_K_M")
    shared = SharedLanguageModel(read)
    assert [name for name, has in vars(read).items() if vars(shared)[name] is not has] == []
    assert shared.precision == read.precision and "Q4_K_M" in shared.precision
    with pytest.raises(InputError, match="max_particles is a count"):
        SharedLanguageModel(read, max_particles=0)


@pytest.mark.parametrize("tokens_meanwhile", [0, 5])
def test_no_thread_outlives_the_call(
    policy: LanguageModel, reward: RewardModel, tokens_meanwhile: int
) -> None:
    before = threading.active_count()
    own = SharedLanguageModel(policy)
    judge = SharedReward(reward, tokens_meanwhile=tokens_meanwhile)

    def interrupted() -> Posterior:
        run = BootstrapFilter(4).iterate(asking(QUESTIONS[0])(own, judge), seed=0)
        next(run)
        raise KeyboardInterrupt

    def ordinary() -> Posterior:
        return BootstrapFilter(4).run(asking(QUESTIONS[2])(own, judge), seed=0)

    with pytest.raises(KeyboardInterrupt):
        list(run_together([ordinary, interrupted, ordinary], 3))
    assert threading.active_count() == before
    results = run_together([ordinary] * 3, 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_tasks_are_taken_as_earlier_ones_end() -> None:
    begun = list[int]()

    def tasks() -> Any:
        for n in range(5):
            begun.append(n)
            yield lambda n=n: n * n

    found = []
    for number, value in run_together(tasks(), 2):
        found.append((number, value))
        assert len(begun) <= len(found) + 1
    assert found == [(n, n * n) for n in range(5)]
    with pytest.raises(InputError, match="in_flight is a count"):
        run_together([], 0)
