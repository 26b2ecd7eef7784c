#!/usr/bin/env bash
# An 8-bit linear layer takes thousands of times as long for signed rows as for unsigned ones.
#
# torch 2.13.0, on a processor with AVX-512 VNNI and without AMX. `torch.ops.onednn.
# qlinear_pointwise` takes rows of either kind, and gives the same product for whole numbers x with
# zero point 0 and for x + 128 with zero point 128. Unsigned rows reach the kernel that the
# processor has instructions for; signed ones are multiplied one number at a time, which takes longer
# than the same layer in single precision, too. Nothing warns. Symmetric schemes for activations,
# which are the usual ones for language models, ask for signed rows.
#
# Expected: times of one order, or an error that names the kind that is supported.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    torch==2.13.0 numpy
OMP_NUM_THREADS=1 "$folder/bin/python" - <<'END'
import time

import torch

torch.manual_seed(0)
rows, inputs, outputs = 32, 896, 896
weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
packed = torch.ops.onednn.qlinear_prepack(weight, None)
scales, zeros = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int32)
signed = torch.randint(-127, 128, (rows, inputs), dtype=torch.int8)
unsigned = (signed.to(torch.int16) + 128).to(torch.uint8)


def product(numbers, zero):
    return torch.ops.onednn.qlinear_pointwise(
        numbers, 1.0, zero, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


def seconds(numbers, zero):
    product(numbers, zero)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        product(numbers, zero)
        times.append(time.perf_counter() - begun)
    return sorted(times)[2]


exact = signed.double() @ weight.double().T
same = all(torch.equal(product(*each).double(), exact) for each in ((signed, 0), (unsigned, 128)))
ratio = seconds(signed, 0) / seconds(unsigned, 128)
print(f"the same product, exact: {same}; signed rows take {ratio:.0f} times as long")
words = open("/proc/cpuinfo").read().split()
if "avx512_vnni" not in words or "amx_int8" in words:
    raise SystemExit("this processor has no AVX-512 VNNI, or AMX as well: nothing can be said")
assert same and ratio > 20, "this has changed"
END
