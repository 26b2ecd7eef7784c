"""A process that measures one contender: settings come first, then tasks, one JSON object a line.

The settings name the models, `{"policy": FOLDER, "reward": FOLDER, "dtype": NAME, ...}`. A task is
`{"questions": [...], "particles": N, "seed": S, "seconds": ..., "max_steps": T, ...}`, and its
answer `{"units": [{"seconds": ..., "generated_tokens": ..., "policy_positions": ...,
"reward_positions": ...}, ...]}`, a unit for each problem or for all that were solved together. No
unit is begun after the seconds of the task.

The environment needs only torch for this: every contender is measured by these lines.
"""

import json
import os
import sys
import time
import traceback
from importlib.metadata import version

import torch


class Traffic:
    """The positions that have gone through a network."""

    def __init__(self, network):
        """Count the positions from now on."""
        self.positions = 0
        network.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, network, arguments, keywords):
        ids = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
        self.positions += ids.numel()


def serve(load):
    """Load a contender and measure it as often as asked.

    Args:
        load: takes the settings; returns the two networks and a function of a task that yields the
            number of generated tokens of each unit of its work as soon as it is done, alone or with
            a function that returns more to say of the unit, whose time does not count.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    torch.set_num_threads(1)
    settings = json.loads(sys.stdin.readline())
    policy, reward, solve = load(settings)
    traffics = [Traffic(policy), Traffic(reward)]
    ready = {"versions": {package: version(package) for package in settings["packages"]}}
    print(json.dumps(ready), file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = measured(solve(task), traffics, task["seconds"])
        except Exception as error:  # the next task may fare better
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), file=answers, flush=True)


def measured(work, traffics, enough):
    """Do the units of work that begin within so many seconds; return the cost of each."""
    units = []
    while sum(unit["seconds"] for unit in units) < enough:
        before = [traffic.positions for traffic in traffics]
        started, busy = time.perf_counter(), time.process_time()
        done = next(work, None)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        if done is None:
            break
        tokens, describe = done if isinstance(done, tuple) else (done, dict)
        policy, reward = (t.positions - b for t, b in zip(traffics, before, strict=True))
        units.append(
            {
                "seconds": seconds,
                "processor_seconds": busy,
                "generated_tokens": tokens,
                "policy_positions": policy,
                "reward_positions": reward,
                **describe(),
            }
        )
    return {"units": units}
