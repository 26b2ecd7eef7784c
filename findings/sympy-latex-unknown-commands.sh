#!/usr/bin/env bash
# Commands that the reader of LaTeX does not know become factors, also where it is strict.
#
# sympy 1.14.0, `sympy.parsing.latex.parse_latex` with the default backend. `x \ne 3` is read as
# a product, x times a symbol "ne" times 3, while `x \neq 3` is an inequality; so are `\pm 3`, `x
# \in A` and `\lvert x \rvert`, and 90 degrees are 90 to the power "circ". `strict=True` does the
# same. Programs that subtract two such readings hold `\pm 3` and `3 \pm` to be equal. The other
# backend, lark, refuses these, but gives a tuple for `\frac{dx}{dt}` and 0 for `1 000`, which
# the default one reads as a derivative and 1000.
#
# Expected: an error where a command is not known.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    sympy==1.14.0 antlr4-python3-runtime==4.11.0 lark==1.3.1
"$folder/bin/python" - <<'END'
from sympy.parsing.latex import parse_latex

for text in (r"x \ne 3", r"\pm 3", r"x \in A", r"\lvert x \rvert", r"90^\circ"):
    read, strict = parse_latex(text), parse_latex(text, strict=True)
    print(f"{text} is read as {read}, strictly as {strict}: a {type(read).__name__}")
    assert read == strict and (read.is_Mul or read.is_Pow), "this has changed"
    assert read.free_symbols - parse_latex("x A").free_symbols, "this has changed"
print(r"x \neq 3 is read as", parse_latex(r"x \neq 3"))

for text, default, lark in (
    (r"\frac{dx}{dt}", "Derivative(x, t)", "('derivative', t)"),
    ("1 000", "1000", "0"),
):
    seen = [str(parse_latex(text, backend=name)) for name in ("antlr", "lark")]
    print(f"{text} is read as {seen[0]}, by lark as {seen[1]}")
    assert seen == [default, lark], "this has changed"
END
