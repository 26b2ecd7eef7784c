"""Models of text of one's own, on a language of six tokens, against enumeration."""

import importlib.util
import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from llmsmc import InputError, check_model
from llmsmc.inference import (
    Adaptive,
    Algorithm,
    BootstrapFilter,
    GuidedFilter,
    ResampleMove,
    TemperedSMC,
    systematic,
)
from llmsmc.models import LanguageModel, Reasoning, WithoutText
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.testing import Instance, replicate
from tests.models.conftest import local, tiny_config
from tests.statistics import MAX_Z

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
MOST_LINES = 25

END, A, B, C, BREAK = range(5)
LONGEST = 4  # tokens
NUM_RUNS = 400


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<|end|>": END, "a": A, "b": B, "c": C, "Ċ": BREAK, "ab": 5}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template="{{ messages[0]['content'] }}",
    )


def small_policy(seed: int) -> LanguageModel:
    torch.manual_seed(seed)
    config = tiny_config(Qwen2Config, 6)
    config.eos_token_id = END
    network = Qwen2ForCausalLM(config).train(False)
    with torch.no_grad():
        network.get_parameter("model.embed_tokens.weight").normal_()
        network.get_parameter("lm_head.weight").normal_(std=0.25)
    return LanguageModel(network, small_tokenizer())


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    return small_policy(3)


@pytest.fixture(scope="module")
def expert() -> LanguageModel:
    return small_policy(4)


def sequences() -> list[tuple[int, ...]]:
    """All that can be written: with END at the end, or as long as it may be."""
    words = range(1, 6)
    ended = [
        (*row, END) for size in range(LONGEST) for row in itertools.product(words, repeat=size)
    ]
    return ended + list(itertools.product(words, repeat=LONGEST))


def instance(model: Reasoning, log_tilt: Any) -> Instance:
    """The model with its exact answers: the law of the first token, and of the length."""
    rows = sequences()
    log_probs = [float(local(model.policy).log_probs(model.prompt_ids, ids).sum()) for ids in rows]
    assert math.isclose(sum(map(math.exp, log_probs)), 1.0, abs_tol=1e-5)
    weights = torch.tensor([p + log_tilt(ids) for ids, p in zip(rows, log_probs, strict=True)])
    law = weights.double().softmax(0)

    def indicators(rows: list[tuple[int, ...]]) -> Tensor:
        first = torch.tensor([ids[0] for ids in rows])
        length = torch.tensor([len(ids) for ids in rows])
        return torch.cat(
            [torch.nn.functional.one_hot(first, 6), length[:, None] == torch.arange(1, 5)], dim=1
        ).double()

    # What hardly ever occurs has no normal distribution to be compared with.
    exact = law @ indicators(rows)
    frequent = exact > 0.01
    exact = exact[frequent]

    def statistics(particles: ReasoningParticles) -> Tensor:
        return indicators([particle.token_ids for particle in particles])[:, frequent]

    return Instance("text", model, None, float(weights.double().logsumexp(0)), statistics, exact)


def check(algorithm: Algorithm, exact: Instance, num_runs: int = NUM_RUNS) -> None:
    runs = replicate(algorithm, exact, num_runs)
    assert abs(runs.z_of_evidence()) < MAX_Z
    assert runs.z_of_measures() < MAX_Z


SETTINGS: dict[str, Any] = {"question": "ab", "step": 1, "max_tokens": LONGEST, "max_steps": None}


def constrained(policy: LanguageModel) -> Reasoning:
    return Reasoning(policy, None, constraint=WithoutText("ab", "cc"), **SETTINGS)


def text_of(ids: tuple[int, ...]) -> str:
    """What the steps say; a solution that is blank has none."""
    text = "".join(["", "a", "b", "c", "\n", "ab"][token] for token in ids)
    return text if text.strip() else ""


def log_allowed(ids: tuple[int, ...]) -> float:
    text = text_of(ids)
    return -math.inf if "ab" in text or "cc" in text else 0.0


@pytest.mark.parametrize("algorithm", [BootstrapFilter(8), GuidedFilter(8)])
@pytest.mark.parametrize("step", [1, 2, "\n"])
def test_a_hard_constraint_is_the_conditional_law(
    policy: LanguageModel, algorithm: Algorithm, step: str | int
) -> None:
    check(algorithm, instance(replace(constrained(policy), step=step), log_allowed))


def test_the_locally_optimal_proposal_never_violates_and_varies_less(policy: LanguageModel) -> None:
    exact = instance(constrained(policy), log_allowed)
    plain = replicate(BootstrapFilter(8), exact, NUM_RUNS).evidence
    guided = replicate(GuidedFilter(8), exact, NUM_RUNS).evidence
    assert float(guided.var()) < 0.5 * float(plain.var())
    particles = GuidedFilter(64).run(exact.model, seed=1).particles
    assert all(log_allowed(particle.token_ids) == 0.0 for particle in particles)


def test_dropping_the_mass_of_what_is_allowed_is_rejected(policy: LanguageModel) -> None:
    class Unweighted(Reasoning):
        def propose(self, *arguments: Any, **named: Any) -> Any:
            state, log_ratio = super().propose(*arguments, **named)
            return state, torch.zeros_like(log_ratio)

    wrong = Unweighted(policy, None, constraint=WithoutText("ab", "cc"), **SETTINGS)
    runs = replicate(GuidedFilter(8), instance(wrong, log_allowed), NUM_RUNS)
    assert abs(runs.z_of_evidence()) > 6


def test_a_soft_constraint(policy: LanguageModel) -> None:
    model = example("soft_constraint").Brief(policy, None, **SETTINGS)
    check(BootstrapFilter(8), instance(model, lambda ids: -len(text_of(ids)) / 20))


def test_confidence(policy: LanguageModel) -> None:
    model = example("confidence").Confident(policy, None, trust=0.8, **SETTINGS)

    def log_tilt(ids: tuple[int, ...]) -> float:
        return 0.8 * float(policy.log_probs(model.prompt_ids, ids).sum())

    check(BootstrapFilter(8), instance(model, log_tilt))
    check(TemperedSMC(8, (0.5, 1.0), resampler=systematic), instance(model, log_tilt), 150)


@pytest.mark.parametrize(
    "algorithm", [BootstrapFilter(8), ResampleMove(8, Adaptive(systematic, 1.0))]
)
def test_a_product_of_experts(
    policy: LanguageModel, expert: LanguageModel, algorithm: Algorithm
) -> None:
    model = example("product_of_experts").ProductOfExperts(policy, None, expert=expert, **SETTINGS)

    def log_tilt(ids: tuple[int, ...]) -> float:
        return float(expert.log_probs(model.prompt_ids, ids).sum())

    check(algorithm, instance(model, log_tilt))


def test_an_expert_reads_each_token_once(policy: LanguageModel, expert: LanguageModel) -> None:
    model = example("product_of_experts").ProductOfExperts(policy, None, expert=expert, **SETTINGS)
    posterior = BootstrapFilter(1).run(model, seed=2)
    (particle,) = posterior.particles
    length = len(particle.token_ids)
    assert length > 1
    # The prompt but for its last token once, then one position a token, for either model.
    prompt = len(model.prompt_ids) - 1
    assert posterior.cost.policy_positions == 2 * (prompt + length)
    expected = expert.log_probs(model.prompt_ids, particle.token_ids)
    found = posterior.particles.expert_log_probs[0]
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


def test_a_verifier_is_called_with_the_steps(policy: LanguageModel) -> None:
    verifier = example("verifier")

    class Verified(verifier.Verified):  # type: ignore[misc, name-defined]
        def log_tilt(self, state: ReasoningParticles) -> Tensor:
            wrong = [sum("c" in step for step in steps) for steps in state.steps]
            return torch.tensor(wrong, dtype=torch.float64) * math.log(0.1)

    model = Verified(policy, None, **{**SETTINGS, "step": "\n"})

    def log_tilt(ids: tuple[int, ...]) -> float:
        return math.log(0.1) * sum("c" in step for step in text_of(ids).split("\n"))

    check(BootstrapFilter(8), instance(model, log_tilt))


def test_text_models_keep_the_laws(policy: LanguageModel, expert: LanguageModel) -> None:
    models = [
        constrained(policy),
        example("soft_constraint").Brief(policy, None, **SETTINGS),
        example("product_of_experts").ProductOfExperts(policy, None, expert=expert, **SETTINGS),
    ]
    for model in models:
        check_model(model)


def test_an_expert_that_is_not_there(policy: LanguageModel) -> None:
    model = example("product_of_experts").ProductOfExperts(policy, None, **SETTINGS)
    with pytest.raises(InputError, match=r"asks an expert. Got Reasoning\(expert=None\)"):
        BootstrapFilter(2).run(model, seed=0)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = path.read_text()
    lines = [line for line in source.split('"""', 2)[2].splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    exec(compile(source, path.name, "exec"), {"__name__": "__main__"})
    assert "Posterior(" in capsys.readouterr().out
