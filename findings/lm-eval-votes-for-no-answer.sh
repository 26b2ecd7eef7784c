#!/usr/bin/env bash
# Where a vote is taken among samples, those without an answer vote together, and may win.
#
# lm-eval 0.4.13, the filters of the tasks gsm8k_cot_self_consistency. Samples in which no number
# is found become the text `[invalid]`, and `majority_vote` counts it as an answer like others:
# of eight samples of which three say 18, two say other numbers and three are cut off before their
# answer, the vote is `[invalid]` if one of these comes first, and 18 if not. The same filters
# hold `1,000` and `1000` to be two answers, though the metric that follows ignores commas.
#
# Expected: the answer that most of the samples that have one agree upon.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check --no-deps \
    lm-eval==0.4.13 pyyaml==6.0.3
"$folder/bin/python" - <<'END'
import importlib.metadata

import yaml
from lm_eval.filters.extraction import RegexFilter
from lm_eval.filters.selection import MajorityVoteFilter

FILE = "lm_eval/tasks/gsm8k/gsm8k-cot-self-consistency.yaml"
path = importlib.metadata.distribution("lm-eval").locate_file(FILE)
task = yaml.safe_load(path.read_text())
steps = {entry["name"]: entry["filter"] for entry in task["filter_list"]}["maj@64"]
functions = [step["function"] for step in steps]
print("filters of the task:", functions)
assert functions == ["regex", "majority_vote", "take_first"], "this has changed"


def vote(samples):
    found = RegexFilter(regex_pattern=steps[0]["regex_pattern"]).apply([samples], [{}])
    return list(MajorityVoteFilter().apply(found, [{}]))[0][0]


says = "She sells the rest. The answer is {}.".format
cut = "She sells the rest for $2 each, so that she makes"
seen = [
    vote([cut, *map(says, (18, 26, 18, 9, 18)), cut, cut]),
    vote([*map(says, (18, 26, 18, 9, 18)), cut, cut, cut]),
    vote([*map(says, ("1,000", 20, "1000", 20, "1,000", "1000", 20))]),
]
print("votes:", seen)
assert seen == ["[invalid]", "18", "20"], "this has changed"
END
