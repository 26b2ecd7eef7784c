#!/usr/bin/env bash
# Derivatives are compared without their primes.
#
# Math-Verify 0.9.0 with latex2sympy2_extended 1.11.0. Primes are dropped when an answer is read,
# so the differential equation of an oscillation is held to be that of a decay, and a derivative
# to be the function itself.
#
# Expected: the equations differ; an answer that cannot be read is graded as wrong.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2
"$folder/bin/python" - <<'END'
from math_verify import parse, verify

CASES = [
    # gold, another answer
    ("y''=-y", "y'=-y"),
    ("f'(x)=2x", "f(x)=2x"),
    ("f''(0)", "f(0)"),
]
for gold, answer in CASES:
    read = parse(f"${answer}$")
    seen = verify(parse(f"${gold}$"), read)
    print(f"{answer}, read as {read[0]}, equal to {gold}? {seen}")
    assert seen, "this has changed"
END
