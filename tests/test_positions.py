"""What a generated token costs may not grow: positions computed, and time outside the models."""

import json
import subprocess
import sys

MOST_POLICY, MOST_REWARD = 1.05, 1.15  # positions for a generated token
MOST_PADDED = 1.2  # positions of the reward model for a token that it has to read
MOST_OUTSIDE = 0.45  # of the processor's time


def test_cost_of_a_token() -> None:
    """In a process of its own: checks of shapes at every call would count as time outside."""
    options = ["--particles", "32", "--levels", "5", "--limit", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.positions", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = json.loads(done.stdout)
    assert row["generated_tokens"] > 10_000
    assert row["policy_positions"] < MOST_POLICY
    assert row["reward_positions"] < MOST_REWARD
    assert row["reward_positions"] * row["generated_tokens"] / row["scored_tokens"] < MOST_PADDED
    assert row["outside"] < MOST_OUTSIDE
