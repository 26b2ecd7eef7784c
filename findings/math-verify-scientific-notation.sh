#!/usr/bin/env bash
# Scientific notation is the integer that it writes out, or not, depending on binary rounding.
#
# Math-Verify 0.9.0 with latex2sympy2_extended 1.11.0 and sympy 1.14.0. `4.6 \times 10^{5}` is
# graded as wrong where the answer is `460000`, `2.5 \times 10^{5}` as right where it is
# `250000`: the mantissa becomes a binary float, the product (459999.99999999994) is compared
# exactly, and the rounding to six places, which is meant for floats, is not reached because
# neither side is a bare float. Of mantissas of two digits with exponents 1 to 8, 51 of 712 are
# refused. Against `460000.0` the answer is right.
#
# Expected: equal, all 712.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2
"$folder/bin/python" - <<'END'
from math_verify import parse, verify


def equal(mantissa, exponent, gold):
    return verify(parse(f"${gold}$"), parse(rf"${mantissa} \times 10^{{{exponent}}}$"))


refused = []
for digits in range(11, 100):
    for exponent in range(1, 9):
        mantissa = f"{digits // 10}.{digits % 10}"
        if not equal(mantissa, exponent, digits * 10 ** (exponent - 1)):
            refused.append(f"{mantissa}e{exponent}")
print(f"refused: {len(refused)} of 712:", *refused)
print("4.6e5 and 460000.0:", equal("4.6", 5, "460000.0"))
assert "4.6e5" in refused and "2.5e5" not in refused, "this has changed"
assert equal("4.6", 5, "460000.0"), "this has changed"
END
