#!/usr/bin/env bash
# The values of two unknowns in the wrong order are right, and in the right order wrong.
#
# Math-Verify 0.9.0. The reference `x=5, y=3` is taken for the set {5, 3}. In the default mode,
# "strict", which is documented not to compare sets with tuples, the pair (3, 5) is graded as
# right for it, as is (5, 3). The other way round, with the reference (3, 5), the answer `x=5,
# y=3` is wrong, and with the set {3, 7} as the reference the pair (7, 3) is right, but not the
# set for the pair.
#
# Expected: (5, 3) alone, or no pair at all.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2
"$folder/bin/python" - <<'END'
from math_verify import parse, verify

CASES = [
    # gold, answer, whether they are held to be equal
    ("x=5, y=3", "(5, 3)", True),
    ("x=5, y=3", "(3, 5)", True),
    ("(3, 5)", "x=5, y=3", False),
    (r"\{3, 7\}", "(7, 3)", True),
    ("(7, 3)", r"\{3, 7\}", False),
]
for gold, answer, expected in CASES:
    seen = verify(parse(f"${gold}$"), parse(f"${answer}$"))
    print(f"{answer} right where the reference is {gold}? {seen}")
    assert seen == expected, "this has changed"
END
