"""Weights in 8 bits, and rows that are rounded as they come: laws, what is rounded and held."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from torch import nn
from transformers import PreTrainedTokenizerFast

from llmsmc import InputError
from llmsmc.models.policies.fingerprint import fingerprints, is_same
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.pretrained import dynamic_int8, loading
from llmsmc.models.pretrained.dynamic_int8 import (
    NAME,
    DynamicInt8Linear,
    multiplies_in_int8,
    round_layers,
)
from llmsmc.models.pretrained.memory import memory_need
from llmsmc.models.pretrained.packing import unpack
from llmsmc.models.pretrained.tolerance import CACHED_TOLERANCE
from llmsmc.models.rewards.reward_model import RewardModel
from llmsmc.solving.settings import Settings
from tests.models import gguf_files
from tests.models.architectures import save_policy
from tests.models.policies.test_architectures import REQUIRED, deviation, run
from tests.models.pretrained.test_quantization import saved_adapter

QUESTION = "What is 3 + 4?"
IDS = [5, 6, 7, 8]

pytestmark = pytest.mark.filterwarnings("ignore")  # of other packages
needs_vnni = pytest.mark.skipif(
    not multiplies_in_int8(), reason="this processor does not multiply in 8 bits"
)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round the layers of small networks, too."""
    monkeypatch.setattr(dynamic_int8, "NARROW", 1)


def layer(out: int = 96, width: int = 80, dtype: torch.dtype = torch.bfloat16) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, out, dtype=dtype).requires_grad_(False)


def log_probs(model: LanguageModel) -> torch.Tensor:
    return model.log_probs(model.prompt_ids(QUESTION), IDS)


def rounded_names(model: LanguageModel) -> set[str]:
    modules = model.model.named_modules()
    return {name for name, each in modules if isinstance(each, DynamicInt8Linear)}


@needs_vnni
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (7,), (200,), (5, 3), (2, 0)])
@pytest.mark.parametrize("sizes", [(96, 80), (257, 4100), (1, 7)])
def test_products(sizes: tuple[int, int], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    plain = layer(*sizes, dtype=dtype)
    rows = torch.randn(*shape, sizes[1]).to(dtype) * 3
    with torch.no_grad():
        expected, found = plain(rows), DynamicInt8Linear(plain)(rows)
    assert found.shape == expected.shape and found.dtype == dtype
    # Both roundings are by at most half a step, and far less than that in the mean.
    error = (found - expected).float().square().mean().sqrt()
    assert (
        rows.numel() == 0 or error < 0.02 * (expected - plain.bias).float().square().mean().sqrt()
    )


@needs_vnni
def test_what_comes_of_a_row_depends_on_no_other_row() -> None:
    module = DynamicInt8Linear(layer())
    rows = torch.randn(40, 80).bfloat16() * torch.logspace(-3, 3, 40)[:, None].bfloat16()
    with torch.no_grad():
        together = module(rows)
        assert torch.equal(together, torch.cat([module(row[None]) for row in rows]))


@needs_vnni
def test_largest_numbers_do_not_saturate() -> None:
    plain = nn.Linear(4096, 8, bias=False).requires_grad_(False)
    plain.weight.fill_(1.0)
    with torch.no_grad():
        assert DynamicInt8Linear(plain)(torch.full((1, 4096), -2.0))[0, 0] == pytest.approx(-8192)
        assert not DynamicInt8Linear(plain)(torch.zeros(1, 4096)).any()


@needs_vnni
def test_gradients_pass_through_to_what_was_fed() -> None:
    plain = layer()
    module = DynamicInt8Linear(plain)
    torch.testing.assert_close(module.dense(), plain.weight.float(), rtol=0.0, atol=5e-4)
    fed = torch.randn(3, 80).bfloat16().requires_grad_()
    module(fed).float().sum().backward()
    assert fed.grad is not None
    expected = plain.weight.float().sum(0).expand(3, -1)
    torch.testing.assert_close(fed.grad.float(), expected, rtol=0.02, atol=0.02)


@needs_vnni
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_law_is_near_that_in_full_precision(
    dtype: str, wide_policy_folder: Path, narrow: None
) -> None:
    full = LanguageModel.from_pretrained(wide_policy_folder, device="cpu", dtype=dtype)
    model = LanguageModel.from_pretrained(wide_policy_folder, NAME, "cpu", dtype)
    assert model.quantization == NAME and f"quantised to {NAME}" in model.precision
    # Of a random network with a sharp law, at tokens that are not likely.
    assert 0 < float((log_probs(model) - log_probs(full)).abs().max()) < 0.3
    assert is_same(fingerprints(full.model), fingerprints(model.model))


@needs_vnni
@pytest.mark.parametrize("name", REQUIRED)
def test_cached_equals_uncached(name: str, tmp_path: Path, narrow: None) -> None:
    policy, posterior = run(save_policy(name, tmp_path), NAME, max_steps=3, max_tokens_per_step=12)
    assert rounded_names(policy)
    assert deviation(policy, posterior) < CACHED_TOLERANCE[NAME]


@needs_vnni
def test_weights_are_held_once(wide_policy_folder: Path, narrow: None) -> None:
    network: Any = LanguageModel.from_pretrained(wide_policy_folder, dtype="float32").model
    head, inner = network.get_output_embeddings(), network.model.layers[0].mlp.up_proj
    plain = weakref.ref(inner.weight)
    tied = head.weight is network.get_input_embeddings().weight
    round_layers(network)
    del inner
    assert plain() is None
    rounded = network.model.layers[0].mlp.up_proj
    assert rounded.weight.dtype == torch.int8 and rounded.weight.nbytes == 64 * 128
    assert isinstance(network.get_output_embeddings(), DynamicInt8Linear) == tied


@needs_vnni
@pytest.mark.parametrize("tied", [False, True])
def test_output_embeddings_are_rounded_where_they_are_a_copy(
    tied: bool, wide_policy_folder: Path, narrow: None
) -> None:
    network: Any = LanguageModel.from_pretrained(wide_policy_folder, dtype="float32").model
    first, last = network.get_input_embeddings(), network.get_output_embeddings()
    last.weight = first.weight if tied else nn.Parameter(last.weight.clone(), requires_grad=False)
    round_layers(network)
    assert isinstance(network.get_output_embeddings(), DynamicInt8Linear) == tied
    assert network.get_input_embeddings().weight.dtype == torch.float32
    unpack(network)
    assert isinstance(network.get_output_embeddings(), DynamicInt8Linear) == tied


@needs_vnni
def test_narrow_layers_stay_and_some_layer_is_wide(
    wide_policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="wide layers.*at least 256 inputs"):
        LanguageModel.from_pretrained(wide_policy_folder, NAME, device="cpu")
    monkeypatch.setattr(dynamic_int8, "NARROW", 64)
    names = rounded_names(LanguageModel.from_pretrained(wide_policy_folder, NAME, device="cpu"))
    assert "model.layers.0.mlp.up_proj" in names
    assert "model.layers.0.self_attn.k_proj" not in names


@needs_vnni
def test_an_adapter_is_merged_first(wide_policy_folder: Path, tmp_path: Path, narrow: None) -> None:
    plain = LanguageModel.from_pretrained(wide_policy_folder, device="cpu")
    folder = saved_adapter(plain, tmp_path / "adapter")
    merged = LanguageModel.from_pretrained(wide_policy_folder, device="cpu", adapter=folder)
    both = LanguageModel.from_pretrained(wide_policy_folder, NAME, "cpu", adapter=folder)
    round_layers(merged.model)
    assert rounded_names(both) == rounded_names(merged)
    assert torch.equal(log_probs(both), log_probs(merged))


@needs_vnni
def test_a_gguf_file(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, narrow: None) -> None:
    file = tmp_path / "tiny.gguf"
    network = gguf_files.network("qwen2", len(tokenizer), tied=True)
    gguf_files.write(file, network, tokenizer, {"": Kind.Q8_0})
    full = LanguageModel.from_pretrained(file, device="cpu")
    model = LanguageModel.from_pretrained(file, NAME, device="cpu")
    assert "again quantised to int8-dynamic" in model.precision
    assert 0 < float((log_probs(model) - log_probs(full)).abs().max()) < 0.2


@needs_vnni
def test_a_reward_keeps_its_head(wide_reward_folder: Path, narrow: None) -> None:
    steps = ["3 + 4 = 7.", "So \\boxed{7}."]
    exact = RewardModel.from_pretrained(wide_reward_folder, device="cpu")
    model = RewardModel.from_pretrained(wide_reward_folder, device="cpu", quantization=NAME)
    assert type(model.model.score[0]) is nn.Linear
    assert isinstance(model.model.model.layers[0].mlp.up_proj, DynamicInt8Linear)
    assert model.score(QUESTION, steps) == pytest.approx(exact.score(QUESTION, steps), abs=0.1)


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ({"device": "cuda"}, "the device cuda"),
        ({"device_map": "auto"}, "a device_map"),
        ({"device": "cpu", "dtype": "float16"}, "dtype torch.float16"),
    ],
)
def test_where_it_is_refused(
    settings: dict[str, Any], got: str, wide_policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_int8, "multiplies_in_int8", lambda: True)
    monkeypatch.setattr(loading, "_is_there", lambda device: True)
    with pytest.raises(InputError, match=f"{NAME}.*Got {got}; accepted"):
        LanguageModel.from_pretrained(wide_policy_folder, NAME, **settings)


def test_other_processors_are_refused(
    wide_policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with pytest.raises(InputError, match="Got a processor without .*; accepted: .*VNNI"):
        LanguageModel.from_pretrained(wide_policy_folder, NAME, device="cpu")


def test_the_name_is_a_setting() -> None:
    assert Settings(quantization=NAME, reward_quantization=NAME, proposal=NAME).quantization == NAME
    with pytest.raises(InputError, match="scales of 4-bit"):
        LanguageModel.from_pretrained("minimath-policy", NAME, double_quantization=True)


def test_the_memory_is_said_before_loading(policy: LanguageModel) -> None:
    config = policy.model.config
    need = memory_need(10**8, config, torch.bfloat16, NAME)
    full = memory_need(10**8, config, torch.bfloat16)
    assert 10**8 < need.weights < 1.1 * 10**8 < full.weights
    assert need.peak < memory_need(10**8, config, torch.bfloat16, "int8").peak
