"""The formula against what models really take."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.memory import POLICIES, REWARD, reward_size, run_table, weights_table
from benchmarks.memory_needs import model_size
from llmsmc import InputError
from llmsmc.models.caches.row_cache import RowCache
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.pretrained.loading import Placement

FREES = """
import gc, sys
import psutil, torch
from llmsmc.models.pretrained.memory import give_back
pieces = [torch.ones(8_000) for _ in range(10_000)]
last = pieces[-1]
del pieces
gc.collect()
before = psutil.Process().memory_info().rss
give_back()
print(before - psutil.Process().memory_info().rss)
"""
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep nothing")
def test_what_was_freed_is_given_back() -> None:
    found = subprocess.run(
        [sys.executable, "-c", FREES], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) > 150e6  # of 320 million bytes


@pytest.mark.filterwarnings("ignore")  # of the kernels
@pytest.mark.parametrize("kind", ["none", "int8", "nf4", "fp4", "nf4-double"])
def test_weights_are_those_of_a_loaded_model(kind: str, wide_policy_folder: Path) -> None:
    if kind != "none":
        pytest.importorskip("bitsandbytes")
    name, _, nested = kind.partition("-")
    placement = Placement("cpu", "bfloat16", name, double_quantization=bool(nested))
    model: Any = placement.load(AutoModelForCausalLM, str(wide_policy_folder))
    size = model_size(model.config)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        state = getattr(weight, "quant_state", None)
        if state is not None:  # the scales are kept beside the weights
            held += state.absmax.nbytes
            held += state.state2.absmax.nbytes if state.nested else 0
        if getattr(weight, "SCB", None) is not None:
            held += weight.SCB.nbytes
    assert size.weights(kind, 2) == pytest.approx(held, rel=0.01)


def test_the_cache_is_that_of_a_run(policy: LanguageModel) -> None:
    cache = RowCache(3)
    with torch.no_grad():
        policy.forward(cache, torch.arange(3 * 10).reshape(3, 10))
    keys = cache.buffers[0]
    per_token = cache.num_bytes / (keys.shape[0] * keys.shape[2])
    size = model_size(policy.model.config)
    assert size.cache(1, 1, bytes_per_number=4) == per_token
    assert size.cache(3, 10, 4) == 30 * per_token
    with pytest.raises(InputError, match="quantization"):
        size.weights("int3")


def test_the_tables_of_the_documentation() -> None:
    sizes = {name: model_size(cls(**config)) for name, (cls, config) in POLICIES.items()}
    sizes[REWARD] = reward_size()
    # The numbers of parameters that the checkpoints are known for.
    millions = {name: size.num_parameters / 1e6 for name, size in sizes.items()}
    assert millions["Qwen/Qwen2.5-Math-1.5B-Instruct"] == pytest.approx(1543.7, abs=0.1)
    assert millions["Qwen/Qwen2.5-Math-7B-Instruct"] == pytest.approx(7615.6, abs=0.1)
    assert millions["meta-llama/Llama-3.2-1B-Instruct"] == pytest.approx(1235.8, abs=0.1)
    assert millions["meta-llama/Llama-3.1-8B-Instruct"] == pytest.approx(8030.3, abs=0.1)
    page = (ROOT / "docs" / "run_the_paper.md").read_text()
    for line in [*weights_table(sizes), *run_table(sizes, 16, 1024)]:
        assert line in page
