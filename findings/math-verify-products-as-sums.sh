#!/usr/bin/env bash
# Numbers side by side are added instead of multiplied.
#
# Math-Verify 0.9.0 with latex2sympy2_extended 1.11.0. A number before brackets, and binomial
# coefficients side by side, are read as a mixed number is, whole part plus fraction: `(2)(3)` is
# read as 5, `2\binom{6}{2}` as 17, `\binom{4}{1}\binom{5}{2}` as 14. The right answers 6, 30 and
# 40 are graded as wrong, and 5, 17 and 14 as right. With `\cdot` between the factors all is
# well.
#
# Expected: products, 6, 30 and 40, as everywhere in counting and probability.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2
"$folder/bin/python" - <<'END'
from math_verify import parse, verify

CASES = [
    # answer, its value, what it is held to be
    (r"(2)(3)", 6, 5),
    (r"2\binom{6}{2}", 30, 17),
    (r"\binom{4}{1}\binom{5}{2}", 40, 14),
    (r"\frac{\binom{4}{1}\binom{5}{2}}{\binom{9}{3}}", r"\frac{10}{21}", r"\frac{1}{6}"),
]
for answer, value, other in CASES:
    read = parse(f"${answer}$")
    seen = [verify(parse(f"${gold}$"), read) for gold in (value, other)]
    print(f"{answer} is read as {read[0]}: equal to {value}? {seen[0]}; to {other}? {seen[1]}")
    assert seen == [False, True], "this has changed"
assert verify(parse("$40$"), parse(r"$\binom{4}{1}\cdot\binom{5}{2}$")), "this has changed"
END
