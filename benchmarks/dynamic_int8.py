"""Products in 8 bits on a processor: of single layers, and in the steps of a whole policy.

    OMP_NUM_THREADS=1 python -m benchmarks.dynamic_int8 MODEL

where MODEL is a policy in bfloat16, a folder or a GGUF file. First each way to multiply by the
weights of a layer, with the shapes of Qwen2.5-0.5B; then the forward pass of one token of each row
behind 250 shared ones; then the memory of the weights, and the Kullback-Leibler divergence of the
law of a token from that of the policy in bfloat16, along texts of the latter. Ways and kinds take
turns, and times are those of the process: ratios hold on a machine that does other things.
"""

import argparse
import copy
import functools
import importlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from itertools import chain
from statistics import fmean, median
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmarks.quantization import divergences
from llmsmc.models import LanguageModel
from llmsmc.models.minimath.datasets import minimath_dev
from llmsmc.models.pretrained.dynamic_int8 import NAME, DynamicInt8Linear, rounded
from llmsmc.models.pretrained.packing import PackedLinear

SHAPES: Final = ((896, 128), (896, 896), (896, 4864), (4864, 896), (896, 151_936))
"""Inputs and outputs of the layers; the last are the output embeddings."""

ROWS: Final = (1, 8, 32, 128)
NUM_CACHED: Final = 250
KINDS: Final = ("none", NAME, "int8")

Way = Callable[[Tensor], Any]


def main() -> None:
    """Measure and print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=10, help="of 60 tokens, for the divergence")
    parser.add_argument("--no-layers", action="store_true", help="only the policy")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with torch.no_grad():
        if not arguments.no_layers:
            print("\n".join(layers_table(arguments.rounds)), flush=True)
        print("\n".join(policy_table(arguments.model, arguments.rounds, arguments.texts)))


def layers_table(num_rounds: int) -> Iterator[str]:
    """Yield the lines of the table of layers: times over those of packed bfloat16."""
    for number, (width, out) in enumerate(SHAPES):
        found = ways(nn.Linear(width, out, bias=False, dtype=torch.bfloat16).requires_grad_(False))
        if not number:
            yield f"| layer | rows | {' | '.join(found)} |"
            yield f"| {' | '.join(['---'] * (2 + len(found)))} |"
        for num_rows in ROWS:
            rows = torch.randn(num_rows, width, dtype=torch.bfloat16)
            calls = {name: functools.partial(way, rows) for name, way in found.items()}
            ratios = in_turns(calls, num_rounds)
            cells = [f"{ratio:.2f}" for ratio in ratios.values()]
            yield f"| {width} to {out} | {num_rows} | {' | '.join(cells)} |"


def ways(layer: nn.Linear) -> dict[str, Way]:
    """Return the ways to multiply by a layer, the first in bfloat16."""
    found: dict[str, Way] = {"bfloat16": PackedLinear(layer), NAME: DynamicInt8Linear(layer)}
    found["torch._int_mm"] = _int_mm(layer)
    single = copy.deepcopy(layer).float()
    single.qconfig = torch.ao.quantization.per_channel_dynamic_qconfig  # type: ignore[assignment]
    quantized: Any = torch.ao.nn.quantized.dynamic.Linear
    fbgemm = quantized.from_float(single)
    found["fbgemm"] = lambda rows: fbgemm(rows.float()).bfloat16()
    if find_spec("torchao"):
        from torchao import quantization  # type: ignore[import-not-found]

        network = nn.Sequential(copy.deepcopy(layer))
        quantization.quantize_(network, quantization.Int8DynamicActivationInt8WeightConfig())
        found["torchao"] = network
    if find_spec("bitsandbytes"):
        bitsandbytes: Any = importlib.import_module("bitsandbytes")
        kept: Any = bitsandbytes.nn.Linear8bitLt(
            layer.in_features, layer.out_features, bias=False, has_fp16_weights=False
        )
        kept.weight = bitsandbytes.nn.Int8Params(
            layer.weight.clone(), requires_grad=False, has_fp16_weights=False
        )
        found["bitsandbytes"] = kept.to("cpu").eval()
    return found


def _int_mm(layer: nn.Linear) -> Way:
    numbers, scale = rounded(layer.weight)

    def way(rows: Tensor) -> Tensor:
        of_row = rows.abs().amax(-1, keepdim=True).float().div_(127).clamp_min_(1e-30)
        near = rows.div(of_row).round_().to(torch.int8)
        return torch._int_mm(near, numbers.T).float().mul_(scale).mul_(of_row).bfloat16()

    return way


def in_turns(calls: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Return the median over rounds of the time of each call over that of the first."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(num_rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if number:  # the first round warms up
                times[name].append(time.process_time() - start)
    first = times[next(iter(calls))]
    return {
        name: median(a / b for a, b in zip(found, first, strict=True))
        for name, found in times.items()
    }


def policy_table(source: str, num_rounds: int, num_texts: int) -> Iterator[str]:
    """Yield the lines of the table of the kinds: times over those without quantization."""
    policies = {
        kind: LanguageModel.from_pretrained(source, kind, dtype="bfloat16") for kind in KINDS
    }
    steps = {
        rows: in_turns({k: _step(p, rows) for k, p in policies.items()}, num_rounds)
        for rows in ROWS
    }
    full, texts = policies["none"], []
    for number, problem in enumerate(minimath_dev(-(-num_texts // 5))[:num_texts]):
        torch.manual_seed(number)
        prompt, network = list(full.prompt_ids(problem.question)), full.model
        drawn: Any = network.generate(
            torch.tensor([prompt]),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            repetition_penalty=1.0,
            max_new_tokens=60,
        )  # type: ignore[operator]
        texts.append((prompt, drawn[0, len(prompt) :].tolist()))
    heads = [*(f"{rows} rows" for rows in ROWS), "weights, MB", "KL a token, nats"]
    yield f"| quantization | {' | '.join(heads)} |"
    yield f"| {' | '.join(['---'] * (1 + len(heads)))} |"
    for kind, policy in policies.items():
        found = list(chain(*divergences(full, policy, texts)))
        held = chain(policy.model.parameters(), policy.model.buffers())
        cells = [f"{steps[rows][kind]:.2f}" for rows in ROWS]
        cells += [f"{sum(each.nbytes for each in held) / 1e6:.0f}", f"{fmean(found):.5f}"]
        yield f"| {kind} | {' | '.join(cells)} |"


def _step(policy: LanguageModel, num_rows: int) -> Callable[[], object]:
    """Return a forward pass of one token of each row, behind cached ones."""
    torch.manual_seed(0)
    row = policy.new_rows(1)
    policy.forward(row, torch.randint(0, 1000, (1, NUM_CACHED)), num_logits=0)
    rows = row.select(torch.zeros(num_rows, dtype=torch.long))
    ids = torch.randint(0, 1000, (num_rows, 1))
    return lambda: policy.forward(rows, ids)


if __name__ == "__main__":
    main()
