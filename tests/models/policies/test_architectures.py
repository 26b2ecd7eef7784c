"""Policies of many architectures, from folders: cached equals uncached in each precision."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator
from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

import llmsmc
from llmsmc import InputError, Posterior
from llmsmc.inference import Adaptive, BootstrapFilter, systematic
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.caches.attention import Attention
from llmsmc.models.caches.row_cache import RowCache, Slots
from llmsmc.models.pretrained.loading import context_length
from llmsmc.models.pretrained.tolerance import CACHED_TOLERANCE
from llmsmc.models.text.chat import chat_ids, chat_text
from tests.models.architectures import ARCHITECTURES, WINDOW, save_policy, tokenizer_of

QUESTION = "What is 3 + 4?"
QUANTIZED = ("int8", "nf4")
REQUIRED = ("qwen2", "llama", "gemma", "mistral", "phi", "phi3")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the kernels, on conversions


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_policy(name, tmp_path_factory.mktemp(name))
        return made[name]

    return folder


def scores(question: str, steps: Sequence[str]) -> Sequence[float]:
    """Scores that differ, so that the particles are resampled."""
    return [0.2 + 0.7 * (len(step) % 2) for step in steps]


def deviation(policy: LanguageModel, posterior: Posterior) -> float:
    """Return how far the recorded log-probabilities are from those of one uncached pass."""
    particles, largest = posterior.particles, 0.0
    for n, particle in enumerate(particles):
        exact = policy.log_probs(particles.prompt_ids, particle.token_ids)
        found = particles.log_probs[n, : len(exact)]
        largest = max(largest, float((found - exact).abs().max()))
    return largest


def run(folder: Path, precision: str, **settings: object) -> tuple[LanguageModel, Posterior]:
    """Solve with a policy of this precision, resampling at every step."""
    quantized = precision in CACHED_TOLERANCE and "float" not in precision
    policy = LanguageModel.from_pretrained(
        folder,
        quantization=precision if quantized else None,
        dtype=None if quantized else precision,
        device="cpu",
    )
    posterior = llmsmc.solve(
        QUESTION,
        BootstrapFilter(6, Adaptive(systematic, 1.0)),
        seed=0,
        policy=policy,
        reward=scores,
        step="\n",
        **{"max_steps": 5, "max_tokens_per_step": 24} | settings,  # type: ignore[arg-type]
    )
    return policy, posterior


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_cached_equals_uncached(name: str, folder_of: Callable[[str], Path]) -> None:
    policy, posterior = run(folder_of(name), "float32")
    assert deviation(policy, posterior) < CACHED_TOLERANCE["float32"]
    # The run was one with ragged steps, and with resampling.
    assert len({len(p.token_ids) for p in posterior.particles}) > 1
    assert int(posterior.particles.num_steps.max()) > 1
    ancestors = [record.ancestors for record in posterior.history if record.ancestors is not None]
    assert any(len(set(a.tolist())) < 6 for a in ancestors)


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "nf4"])
@pytest.mark.parametrize("name", REQUIRED)
def test_cached_equals_uncached_in_each_precision(
    name: str, precision: str, folder_of: Callable[[str], Path]
) -> None:
    if precision in QUANTIZED:
        pytest.importorskip("bitsandbytes")
    policy, posterior = run(folder_of(name), precision, max_steps=3, max_tokens_per_step=12)
    assert deviation(policy, posterior) < CACHED_TOLERANCE[precision]
    if precision == "bfloat16":
        assert policy.model.dtype == torch.bfloat16
    else:
        kinds = {type(module).__name__ for module in policy.model.modules()}
        assert ("Linear8bitLt" if precision == "int8" else "Linear4bit") in kinds


@pytest.mark.parametrize(
    "name", [name for name in ARCHITECTURES if "window" in name or "3" in name]
)
def test_texts_longer_than_the_window(name: str, folder_of: Callable[[str], Path]) -> None:
    policy = LanguageModel.from_pretrained(folder_of(name))
    policy.eos_ids = ()
    model = Reasoning(policy, None, QUESTION, step=17, max_steps=8)
    particles = model.sample_initial(3, generator=Generator().manual_seed(0))
    for t in range(1, 5):
        chosen = particles[torch.tensor([2, 0, 0])]
        particles = model.sample_transition(t, chosen, generator=Generator().manual_seed(t))
    assert int(particles.num_tokens.min()) > 3 * WINDOW
    for n, particle in enumerate(particles):
        exact = policy.log_probs(model.prompt_ids, particle.token_ids)
        torch.testing.assert_close(particles.log_probs[n], exact, rtol=0.0, atol=1e-4)
    # Scored in one pass, from a cache that ends before.
    short = model.rewind(particles, torch.tensor([1, 2, 3]))
    joined = model.splice(short, 3, particles)
    for n, particle in enumerate(joined):
        exact = policy.log_probs(model.prompt_ids, particle.token_ids)
        found = joined.log_probs[n, : len(exact)]
        torch.testing.assert_close(found, exact, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("name", ["mistral-window", "gemma3", "gemma2"])
def test_a_wrong_mask_is_noticed(
    name: str, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full attention in place of a window; truth values where numbers are added."""
    policy = LanguageModel.from_pretrained(folder_of(name))

    def everything(self: Attention, slots: Slots) -> torch.Tensor | dict[str, torch.Tensor]:
        mask = slots.attention_mask
        kinds = ("full_attention", "sliding_attention")
        return mask if "mistral" in name else dict.fromkeys(kinds, mask)

    monkeypatch.setattr(Attention, "masks", everything)
    policy.eos_ids = ()
    model = Reasoning(policy, None, QUESTION, step=40)
    particles = model.sample_initial(1, generator=Generator().manual_seed(0))
    exact = policy.log_probs(model.prompt_ids, particles[0].token_ids)
    assert float((particles.log_probs[0] - exact).abs().max()) > 0.01


def test_soft_capped_attention_is_not_left_out(folder_of: Callable[[str], Path]) -> None:
    policy = LanguageModel.from_pretrained(folder_of("gemma2"))
    assert policy.model.config._attn_implementation == "eager"
    before = policy.log_probs([], list(range(5, 40)))
    for layer in policy.model.model.layers:
        layer.self_attn.attn_logit_softcapping = 1000.0
    assert not torch.allclose(before, policy.log_probs([], list(range(5, 40))), atol=1e-3)


def test_prompts_of_the_families() -> None:
    policy_of = {family: tokenizer_of(family) for family in ("llama3", "gemma", "mistral", "phi3")}
    messages = [{"role": "user", "content": "  What is 7?\n\n"}]
    text = chat_text(policy_of["llama3"], messages)
    assert "Today Date: 01 Jan 2025" in text  # and not that of the day of the run
    assert "\n\nWhat is 7?<|eot_id|>" in text  # trimmed
    assert chat_text(policy_of["gemma"], messages).startswith(
        "<bos><start_of_turn>user\nWhat is 7?<"
    )
    assert "[INST]   What is 7?\n\n [/INST]" in chat_text(policy_of["mistral"], messages)
    for tokenizer in policy_of.values():
        ids = chat_ids(tokenizer, messages)
        assert ids.count(tokenizer.bos_token_id) <= 1


def test_a_system_prompt_reaches_the_policy(folder_of: Callable[[str], Path]) -> None:
    policy = LanguageModel.from_pretrained(folder_of("llama"))
    ids = policy.prompt_ids(QUESTION, "Answer is 14.")
    assert "Answer is 14." in policy.tokenizer.decode(list(ids))
    assert ids != policy.prompt_ids(QUESTION)


def test_rotations_that_change_with_the_length(folder_of: Callable[[str], Path]) -> None:
    """Beyond the first length of "longrope" all keys change: a text ends there."""
    policy = LanguageModel.from_pretrained(folder_of("phi3-longrope"))
    assert policy.context_length == 160
    assert LanguageModel.from_pretrained(folder_of("llama3-scaled")).context_length == 512
    ids = torch.arange(5, 5 + 200)[None]
    with torch.no_grad():
        short = policy.model(ids[:, :100]).logits[0, 50]
        long = policy.model(ids).logits[0, 50]
    assert float((short - long).abs().max()) > 1e-3  # what would happen
    policy.eos_ids = ()
    model = Reasoning(policy, None, QUESTION, step=50, max_steps=9, max_tokens_per_step=50)
    posterior = BootstrapFilter(2).run(replace(model, reward=scores), seed=0)
    total = len(model.prompt_ids) + posterior.particles.num_tokens
    assert total.tolist() == [160, 160]
    assert {p.finish_reason for p in posterior.particles} == {"length"}
    assert deviation(policy, posterior) < CACHED_TOLERANCE["float32"]


def test_states_that_are_overwritten_are_refused(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("qwen")
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=16, state_size=4, num_hidden_layers=1
    )
    MambaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="overwritten by each token.*Got layers of type"):
        LanguageModel.from_pretrained(tmp_path)


def test_positions_that_come_from_the_mask_are_refused(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("qwen")
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="BloomForCausalLM|cannot be run step by step"):
        LanguageModel.from_pretrained(tmp_path)


def test_a_model_that_forgets_is_refused(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    update = RowCache.update

    def forgetful(self: RowCache, keys: torch.Tensor, *rest: object, **options: object) -> object:
        kept, values = update(self, keys, *rest, **options)  # type: ignore[arg-type]
        return kept * 0, values

    monkeypatch.setattr(RowCache, "update", forgetful)
    with pytest.raises(InputError, match="cannot be run step by step.*total variation"):
        LanguageModel.from_pretrained(folder_of("qwen2"))


def test_layers_on_several_devices() -> None:
    """Keys live where their layer computes; who they belong to is known elsewhere."""
    cache = RowCache(2)
    cache.prepare(5)
    new = torch.zeros(2, 1, 5, 4, device="meta")
    keys, _ = cache.update(new, new, 0)
    cache.commit(torch.tensor([5, 3]))
    assert keys.device.type == "meta" and keys.shape == (2, 1, 5, 4)
    gathered = RowCache.gathered([(cache, torch.tensor([1, 1, 0]))])
    assert gathered.buffers[0].device.type == "meta" and len(gathered.buffers[0]) == 3
    cache.append(cache, torch.tensor([1]), torch.tensor([3]))
    assert cache.buffers[0].shape[0] >= 3
    cache.put_in_front(torch.tensor([2]))
    cache.keep(torch.tensor([0, 2]))
    cache.wipe(torch.tensor([1]))
    assert cache.buffers[1].device.type == "meta"


def test_device_map(folder_of: Callable[[str], Path]) -> None:
    policy = LanguageModel.from_pretrained(folder_of("qwen2"), device_map={"": "cpu"})
    assert policy.device == torch.device("cpu")
    posterior = llmsmc.solve(
        QUESTION, "bootstrap", seed=0, particles=3, policy=policy, reward=scores, max_steps=2
    )
    assert deviation(policy, posterior) < CACHED_TOLERANCE["float32"]
    with pytest.raises(InputError, match="device='cpu' beside device_map='auto'"):
        LanguageModel.from_pretrained(folder_of("qwen2"), device="cpu", device_map="auto")


def test_context_lengths(folder_of: Callable[[str], Path]) -> None:
    policy = LanguageModel.from_pretrained(folder_of("mistral-window"))
    assert context_length(policy.model.config) == policy.context_length == 512
