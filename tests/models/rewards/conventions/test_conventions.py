"""Each convention against the formula of its documentation, and everything that is cached of it."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from llmsmc import InputError
from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning, RewardModel
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.rewards.conventions.convention import layout_of_text
from llmsmc.models.rewards.conventions.value_head import Qwen2ForPrmModel
from llmsmc.models.rewards.reward import Solution
from llmsmc.registry import CONVENTIONS
from tests.models.tiny_rewards import FORMULAS, logits_of, model_of, tokenizers_of

QUESTION = "What is 3 + 4 - 5?"
STEPS = ("First, 3 + 4 = 7.\n\n", "Then 7 - 5 =\n 2.\n\n", "The answer is \\boxed{2}.")

Tiny = dict[str, RewardModel]


@pytest.fixture(scope="module")
def tiny(tokenizer: PreTrainedTokenizerFast) -> Tiny:
    made = tokenizers_of(tokenizer)
    return {name: RewardModel(model_of(name, made[name]), made[name], name) for name in CONVENTIONS}


@pytest.fixture(params=list(CONVENTIONS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def close(scores: Any, expected: Any) -> bool:
    return list(scores) == pytest.approx(list(expected), abs=1e-5)


def test_score_is_the_documented_formula(tiny: Tiny, name: str) -> None:
    reward = tiny[name]
    expected = FORMULAS[name](reward.model, reward.tokenizer, QUESTION, STEPS).tolist()
    scores = reward.score(QUESTION, STEPS)
    assert len(expected) == 3 and close(scores, expected)
    assert max(scores) - min(scores) > 1e-3
    assert reward.score(QUESTION, []) == []
    # Whatever stands around a step, its separator included, makes no step of its own.
    spaced = [" " + step.strip() + "\n\n\n\n" for step in STEPS]
    assert close(reward.score(QUESTION, spaced), expected)


def test_other_labels_give_the_complement(tiny: Tiny, name: str) -> None:
    """A head with its sign or its two rows exchanged."""
    reward = tiny[name]
    tokenizer: Any = reward.tokenizer
    flipped = model_of(name, tokenizer)
    with torch.no_grad():
        if name in ("skywork", "pqm"):
            for parameter in flipped.v_head.parameters():
                parameter.neg_()
        elif name in ("math-shepherd", "rlhflow", "versa"):
            convention: Any = reward.convention
            pair = list(convention.label_ids)
            weight = flipped.lm_head.weight
            weight[pair] = weight[pair[::-1]].clone()
        else:
            head = flipped.score[2] if name == "qwen" else flipped.score
            for parameter in head.parameters():
                parameter.copy_(parameter.flip(0))
    scores = RewardModel(flipped, reward.tokenizer, name).score(QUESTION, STEPS)
    assert close(scores, [1 - score for score in reward.score(QUESTION, STEPS)])


@pytest.mark.parametrize("reading", ["steps", "prefix"])
def test_cached_equals_uncached(tiny: Tiny, name: str, reading: Any) -> None:
    """Ragged growth, resampling with duplicates and drops, rows that stand still or go back."""
    reward, chooser = tiny[name], random.Random(0)
    words = "First Then add take 3 4 = 7 12 answer + - \\boxed{12} . reason".split()

    def step() -> str:
        return " ".join(chooser.choices(words, k=chooser.randint(1, 6))) + "\n\n"

    texts: list[tuple[str, ...]] = [()] * 4
    handle = CacheRows.none(4)
    for _ in range(4):
        new = [tuple(step() for _ in range(chooser.choice([0, 1, 1, 2]))) for _ in texts]
        solutions = [Solution(old, more) for old, more in zip(texts, new, strict=True)]
        log_odds, handle, _ = reward.score_steps(QUESTION, solutions, handle, reading=reading)
        texts = [solution.steps for solution in solutions]
        for text, more, row in zip(texts, new, log_odds, strict=True):
            read = text if reading == "steps" else ("".join(text),)
            count = min(len(more), len(read))
            expected = reward.score(QUESTION, read)[len(read) - count :] if text else []
            assert close(torch.tensor(row).sigmoid().tolist(), expected)
        ancestors = chooser.choices(range(4), k=4)
        handle = handle.take(torch.tensor(ancestors))
        texts = [texts[n] for n in ancestors]
        shorter = [text[: len(text) - (n == 0)] for n, text in enumerate(texts)]
        handle = reward.rewind(QUESTION, handle, texts, shorter, reading)
        handle = handle.keep(torch.tensor([chooser.random() < 0.8 for _ in texts]))
        texts = shorter


def test_a_batch_equals_single_solutions(tiny: Tiny, name: str) -> None:
    reward = tiny[name]
    solutions = [Solution((), STEPS[:count]) for count in (1, 2, 3)]
    together, _, cost = reward.score_steps(QUESTION, solutions, CacheRows.none(3))
    for row, solution in zip(together, solutions, strict=True):
        assert close(torch.tensor(row).sigmoid().tolist(), reward.score(QUESTION, solution.new))
    assert cost.model_calls == 2  # the question, and all of the steps


def test_only_what_is_new_is_computed(tiny: Tiny, name: str) -> None:
    reward = tiny[name]
    _, handle, _ = reward.score_steps(QUESTION, [Solution((), STEPS[:2])], CacheRows.none(1))
    more, _, cost = reward.score_steps(QUESTION, [Solution(STEPS[:2], STEPS[2:])], handle)
    lengths = [len(reward.convention.layout(QUESTION, STEPS[:count]).ids) for count in (2, 3)]
    assert cost.reward_positions <= lengths[1] - lengths[0] + 1
    assert close(torch.tensor(more[0]).sigmoid().tolist(), reward.score(QUESTION, STEPS)[2:])


def test_reasoning(tiny: Tiny, name: str, policy: LanguageModel) -> None:
    reward = tiny[name]
    model = Reasoning(policy, reward, QUESTION, max_steps=3, max_tokens_per_step=8)
    posterior = BootstrapFilter(num_particles=3).run(model, seed=0)
    assert bool(posterior.log_weights.isfinite().all())
    assert posterior.cost.scored_tokens > 0
    for particle in posterior.particles:
        assert close(particle.rewards, reward.score(QUESTION, particle.steps))


def test_markers_and_special_tokens_are_data(tiny: Tiny, name: str) -> None:
    reward = tiny[name]
    special = reward.tokenizer.eos_token
    question = f"Is <extra_0> or ки or [PRM] or \n\n\n\n or {special} good?"
    step = f"Yes<extra_0> ки [PRM] \n\n\n\n and {special} 3."
    layout = reward.convention.layout(question, (step, "Done."))
    plain = reward.convention.layout("good?", ("3.", "Done."))
    assert len(layout.reads) == 2 and layout.reads[-1] == len(layout.ids) - 1
    # What may not be written out occurs no more often than in a chat without it.
    for text in ("<extra_0>", "[PRM]", str(special)):
        token = reward.tokenizer.convert_tokens_to_ids(text)
        if token != reward.tokenizer.unk_token_id:
            assert layout.ids.count(token) == plain.ids.count(token)


def test_folders(tiny: Tiny, name: str, tmp_path: Path) -> None:
    """A checkpoint on disk scores alike, by name; its kind is recognised where it can be."""
    reward = tiny[name]
    reward.model.save_pretrained(tmp_path)
    reward.tokenizer.save_pretrained(tmp_path)
    loaded = RewardModel.from_pretrained(tmp_path, name, device="cpu", calibration=2.0)
    halved = torch.tensor(reward.score(QUESTION, STEPS), dtype=torch.float64).logit() / 2
    assert close(loaded.score(QUESTION, STEPS), halved.sigmoid().tolist())
    if name in ("math-shepherd", "rlhflow", "versa"):
        with pytest.raises(InputError, match="cannot be told.*'math-shepherd'"):
            if name == "math-shepherd":
                RewardModel.from_pretrained(tmp_path)
            else:  # the tokenizer of these tests has the marker of another one
                RewardModel(reward.model, tiny["math-shepherd"].tokenizer)
    else:
        found = RewardModel.from_pretrained(tmp_path, device="cpu")
        assert close(found.score(QUESTION, STEPS), reward.score(QUESTION, STEPS))


def test_a_head_that_is_missing(tiny: Tiny, policy: LanguageModel, tmp_path: Path) -> None:
    policy.model.save_pretrained(tmp_path)
    tiny["skywork"].tokenizer.save_pretrained(tmp_path)
    for name, head in (("skywork", "v_head"), ("trl", "score"), ("pure", "score")):
        with pytest.raises(InputError, match=f"not a process reward model.*{head}"):
            RewardModel.from_pretrained(tmp_path, name)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    with pytest.raises(InputError, match="'mistral'.*qwen2, llama"):
        RewardModel.from_pretrained(tmp_path, "skywork")


def test_tokenizers_of_another_convention(tiny: Tiny) -> None:
    qwen, llama = tiny["qwen"], tiny["versa"]
    for name, message in (("versa", "single token"), ("pqm", "PRM"), ("skywork", "bos_token")):
        with pytest.raises(InputError, match=message):
            RewardModel(qwen.model, qwen.tokenizer, name)
    with pytest.raises(InputError, match="chat template"):
        RewardModel(llama.model, tiny["math-shepherd"].tokenizer, "rlhflow")


def test_a_token_that_goes_across_the_end_of_a_step(tiny: Tiny) -> None:
    tokenizer = tiny["versa"].tokenizer
    text = "a. \n\n\n\n"
    layout = layout_of_text(tokenizer, text, [len(text)], special_tokens=True)
    assert layout.ids[0] == tokenizer.bos_token_id and layout.reads == (len(layout.ids) - 1,)
    with pytest.raises(InputError, match="No token ends"):
        layout_of_text(tokenizer, text, [len(text) - 1], special_tokens=True)


def test_settings_of_a_convention(tiny: Tiny) -> None:
    reward = tiny["trl"]
    other = RewardModel(reward.model, reward.tokenizer, "trl", separator="\n\n")
    ids = [*reward.prefix_ids(QUESTION)]
    ids += reward.tokenizer.encode("3 + 4 = 7.", add_special_tokens=False)
    ids += reward.tokenizer.encode("\n\n", add_special_tokens=False)
    expected = float(logits_of(reward.model, ids).softmax(-1)[-1, 1])
    assert close(other.score(QUESTION, ["3 + 4 = 7."]), [expected])
    with pytest.raises(InputError, match="TrlConvention.*'seperator'.*separator"):
        RewardModel(reward.model, reward.tokenizer, "trl", seperator="\n\n")
    with pytest.raises(InputError, match="separator stands behind"):
        RewardModel(reward.model, reward.tokenizer, "trl", separator="")
    for temperature in (0, -1.0, float("inf"), True):
        with pytest.raises(InputError, match="calibration"):
            RewardModel(reward.model, reward.tokenizer, "trl", calibration=temperature)


def test_a_convention_of_ones_own(tiny: Tiny) -> None:
    class Shouted(type(tiny["trl"].convention)):  # type: ignore[misc]
        def layout(self, question: str, steps: tuple[str, ...]) -> Any:
            return super().layout(question.upper(), steps)

    reward = tiny["trl"]
    own = RewardModel(reward.model, reward.tokenizer, Shouted)
    assert close(own.score(QUESTION, STEPS), reward.score(QUESTION.upper(), STEPS))


def test_logits_that_are_capped_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    model: LlamaForCausalLM = tiny["versa"].model
    model.save_pretrained(tmp_path)
    tiny["versa"].tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"logit_scale": 0.5}))
    with pytest.raises(InputError, match="logit_scale"):
        RewardModel.from_pretrained(tmp_path, "versa")


def test_the_output_of_the_network_is_the_value(tiny: Tiny) -> None:
    """What a trainer sees is what is read."""
    model = tiny["skywork"].model
    assert isinstance(model, Qwen2ForPrmModel)
    ids = tiny["skywork"].convention.layout(QUESTION, STEPS)
    values = logits_of(model, ids.ids)[list(ids.reads), 0].double()
    assert torch.allclose(values, tiny["skywork"].log_odds(QUESTION, STEPS), atol=1e-5)
