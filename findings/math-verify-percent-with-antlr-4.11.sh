#!/usr/bin/env bash
# With the parser runtime 4.11 no percentage can be read, and nothing says so.
#
# Math-Verify 0.9.0 with latex2sympy2_extended 1.11.0. It may be installed with the runtimes
# 4.9.3, 4.11.0 and 4.13.2 of ANTLR, for each of which it has a parser of its own. With 4.11.0,
# the one that lm-eval 0.4.13 requires beside it, `35\%` is not read: it is equal to nothing but
# itself letter by letter. With 4.13.2 the same packages hold it equal to 0.35, to 35 and to
# 7/20.
#
# Expected: the same verdicts with every runtime that can be chosen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.11.0
"$folder/bin/python" - <<'END'
import subprocess
import sys
from importlib.metadata import version

PROGRAM = r"""
from importlib.metadata import version
from math_verify import parse, verify

read = parse(r"$\boxed{35\%}$")
golds = (r"35\%", "0.35", "35", r"\frac{7}{20}")
seen = [verify(parse(rf"$\boxed{{{gold}}}$"), read) for gold in golds]
print(version("antlr4-python3-runtime"), read, *zip(golds, seen))
"""


def run():
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(done.stdout.strip())
    return [word in done.stdout for word in ("True", "False")]


assert run() == [True, True], "this has changed"
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
subprocess.run([*pip, "antlr4-python3-runtime==4.13.2"], check=True)
assert run() == [True, False], "this has changed"
END
