#!/usr/bin/env bash
# Reading an answer cancels the time limit of the caller.
#
# Math-Verify 0.9.0, on systems with signals. `parse` and `verify` limit their time by SIGALRM.
# They put the handler of the caller back, but not the alarm that was pending: after one call,
# which takes milliseconds, a limit of the caller (of a test, a worker or a task, set by
# `signal.alarm`) never comes. `parsing_timeout=None` and `timeout_seconds=None` leave it alone.
#
# Expected: what is left of the alarm of the caller is set again.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2
"$folder/bin/python" - <<'END'
import signal
import time

from math_verify import parse, verify


class Late(Exception):
    pass


def limit(signum, frame):
    raise Late


def comes(call):
    """Whether a limit of two seconds comes when `call` is made within it."""
    signal.signal(signal.SIGALRM, limit)
    signal.alarm(2)
    try:
        call()
        time.sleep(3)
    except Late:
        return True
    finally:
        signal.alarm(0)
    return False


one = parse("$1$")
seen = {
    "nothing": comes(lambda: None),
    "parse": comes(lambda: parse("$1$")),
    "verify": comes(lambda: verify(one, one)),
    "verify without a limit": comes(lambda: verify(one, one, timeout_seconds=None)),
}
print("the limit of the caller comes after", seen)
assert list(seen.values()) == [True, False, False, True], "this has changed"
END
