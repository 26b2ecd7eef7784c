"""The common part of the programs: pairs come in as JSON, a line goes out for each grader."""

import json
import sys
import time


def ask(version, graders):
    """Print what each grader says of each pair that stands in the input.

    A grader is `(function of answer and reference, seconds of its own time limit)`. What it raises
    is an error; what is not right after its limit is a timeout; all else that it swallows is wrong.
    """
    pairs = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is no answer
    for name, (grader, limit) in graders.items():
        verdicts = [_verdict(grader, limit, *pair) for pair in pairs]
        line = {"grader": name, "version": version, "verdicts": verdicts}
        print(json.dumps(line), file=out, flush=True)


def _verdict(grader, limit, answer, reference):
    begun = time.perf_counter()
    try:
        if grader(answer, reference):
            return "right"
    except Exception:
        return "error"
    return "wrong" if time.perf_counter() - begun < limit else "timeout"
