"""No cache is held twice while particles are extended and scored."""

import json
import subprocess
import sys

import pytest

MOST = 1.25  # times the weights and the live caches; with a second copy of them it would be 1.6


@pytest.mark.quick
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of the process from /proc")
def test_peak_of_memory() -> None:
    options = ["--particles", "32", "--tokens", "512", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peak_memory", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    peak = json.loads(done.stdout)
    assert peak["tokens"] == 512
    assert peak["caches"] > 2**27 and peak["caches"] > 100 * peak["weights"]
    assert peak["ratio"] < MOST
