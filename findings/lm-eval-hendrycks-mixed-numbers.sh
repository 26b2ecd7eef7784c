#!/usr/bin/env bash
# 3 1/4 is 31/4, and of two boxes the first may be graded.
#
# lm-eval 0.4.13, the tasks hendrycks_math. Before answers are compared letter by letter all
# blanks are removed: the mixed number `3 1/4`, which is 13/4, equals `31/4`, `2 1/2` equals
# `21/2` and `1 2` equals `12`, while `13/4` and `3 1/4` differ. In a solution with a box without
# braces, `\boxed 3`, and one with braces after it, it is the first one that counts as the last.
#
# Expected: a mixed number is none of these, and the last box is the last.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check --no-deps \
    lm-eval==0.4.13
"$folder/bin/python" - <<'END'
import importlib.metadata
import importlib.util
import sys
import types

FILE = "lm_eval/tasks/hendrycks_math/utils.py"
path = importlib.metadata.distribution("lm-eval").locate_file(FILE)
sys.modules["datasets"] = types.ModuleType("datasets")  # named in an annotation alone
sys.modules["datasets"].Dataset = object
spec = importlib.util.spec_from_file_location("utils", path)
task = importlib.util.module_from_spec(spec)
spec.loader.exec_module(task)

CASES = [
    # reference, answer, whether it is right
    ("31/4", "3 1/4", 1),
    ("21/2", "2 1/2", 1),
    ("12", "1 2", 1),
    ("13/4", "3 1/4", 0),
]
for gold, answer, expected in CASES:
    doc = {"solution": rf"It is $\boxed{{{gold}}}$."}
    seen = task.process_results(doc, [f"The answer is ${answer}$"])["exact_match"]
    print(f"{answer} right where the reference is {gold}? {seen}")
    assert seen == expected, "this has changed"

solution = r"The first root is $\boxed 3$. The sum of both is $\boxed{5}$."
seen = task.remove_boxed(task.last_boxed_only_string(solution))
print("last box:", seen)
assert seen == "3", "this has changed"
END
