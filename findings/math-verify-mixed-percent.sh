#!/usr/bin/env bash
# A mixed number of percent loses its whole part, or its fraction.
#
# Math-Verify 0.9.0 with latex2sympy2_extended 1.11.0. `\boxed{33\frac{1}{3}\%}` is read as a
# third of one percent: it is held to be 1/300 and not 1/3, and equal to `66\frac{1}{3}\%`.
# Between dollars the same answer is 33. Without the sign of percent, `33\frac{1}{3}` is 100/3,
# as it should be.
#
# Expected: 33 1/3 % is 1/3, and no other number.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2
"$folder/bin/python" - <<'END'
from math_verify import parse, verify

CASES = [
    # answer, gold, whether they are held to be equal
    (r"\boxed{33\frac{1}{3}\%}", r"\boxed{\frac{1}{3}}", False),
    (r"\boxed{33\frac{1}{3}\%}", r"\boxed{\frac{1}{300}}", True),
    (r"\boxed{33\frac{1}{3}\%}", r"\boxed{66\frac{1}{3}\%}", True),
    (r"$33\frac{1}{3}\%$", r"$33$", True),
    (r"\boxed{33\frac{1}{3}}", r"\boxed{\frac{100}{3}}", True),
]
for answer, gold, expected in CASES:
    seen = verify(parse(gold), parse(answer))
    print(f"{answer} equal to {gold}? {seen}")
    assert seen == expected, "this has changed"
END
