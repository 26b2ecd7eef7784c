#!/usr/bin/env bash
# Of lists the first member is graded, of equations the right-hand side, of periods one digit.
#
# lm-eval 0.4.13, `exact_match` of the tasks minerva_math. What stands before the last sign of
# equality is cut off, so a hyperbola is right where a circle is asked for. A list is read by
# sympy up to its first comma, without an error, so `3, 5` is right where it is `3, 8`. The line
# over a period is removed, so 0.6 is right where it is two thirds. The other metric of these
# tasks, `math_verify`, grades the same answers as wrong.
#
# Expected: wrong.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check --no-deps \
    lm-eval==0.4.13 math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 \
    mpmath==1.3.0 antlr4-python3-runtime==4.11.0
"$folder/bin/python" - <<'END'
import importlib.metadata
import importlib.util

FILE = "lm_eval/tasks/minerva_math/utils.py"
path = importlib.metadata.distribution("lm-eval").locate_file(FILE)
spec = importlib.util.spec_from_file_location("utils", path)
task = importlib.util.module_from_spec(spec)
spec.loader.exec_module(task)

CASES = [
    # reference, another answer
    ("x^2+y^2=25", "x^2-y^2=25"),
    ("3, 8", "3, 5"),
    (r"0.\overline{6}", "0.6"),
]
for gold, answer in CASES:
    solution = rf"The answer is $\boxed{{{gold}}}$."
    reference = task.remove_boxed(task.last_boxed_only_string(solution))
    reference = task.normalize_final_answer(reference)
    doc = {"problem": "", "solution": solution, "answer": reference}
    text = f"Final Answer: The final answer is ${answer}$. I hope it is correct."
    seen = task.process_results(doc, [text])
    print(f"{answer} where the reference is {gold}: {seen}")
    assert seen == {"exact_match": 1, "math_verify": 0}, "this has changed"
END
