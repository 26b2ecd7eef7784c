#!/usr/bin/env bash
# Numbers as large as 10^127 that differ by a factor of two are held to be equal.
#
# Math-Verify 0.9.0 with sympy 1.14.0. Where neither side is a plain number, the difference is
# computed by `evalf(chop=True)`, and sympy cuts off small *parts* of an expression, not a small
# result: the factor 2^-100 is set to zero, and with it 100!/2^100 and all that it is compared
# with. The documentation of Math-Verify asks for more digits where the expressions are small;
# these are not. That of sympy speaks of small parts of subresults; that 10^40 exp(-90) = 8.19
# becomes zero it does not say.
#
# Expected: different numbers; no cut by an absolute size, or one of the result.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2
"$folder/bin/python" - <<'END'
import sympy
from math_verify import parse, verify

CASES = [
    # gold, another answer
    (r"\frac{100!}{2^{100}}", r"\frac{100!}{2^{99}}"),
    (r"\frac{60!}{7^{30}}", r"-\frac{60!}{7^{30}}"),
]
for gold, answer in CASES:
    seen = verify(parse(f"${gold}$"), parse(f"${answer}$"))
    print(f"{answer} equal to {gold}? {seen}")
    assert seen, "this has changed"

number = 10**40 * sympy.exp(-90)
print("10^40 exp(-90):", number.evalf(), "and with chop=True:", number.evalf(chop=True))
assert number.evalf(chop=True) == 0 and number.evalf() > 8, "this has changed"
END
