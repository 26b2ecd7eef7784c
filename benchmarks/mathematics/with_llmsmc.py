"""llmsmc: the bootstrap filter, and systematic resampling alone."""

import json
import sys
import time

import torch

from llmsmc.inference import Adaptive, BootstrapFilter, systematic
from llmsmc.models import LinearGaussian

torch.set_num_threads(1)
SETTING = json.loads(sys.stdin.readline())
MODEL = LinearGaussian(**SETTING["model"])
OBSERVATIONS = [torch.tensor([y], dtype=torch.float64) for y in SETTING["observations"]]


def filtered(size, threshold, seed):
    """Run the filter; return its log-evidence."""
    resampler = systematic if threshold == 1 else Adaptive(systematic, threshold)
    algorithm = BootstrapFilter(size, resampler, record=False)
    return algorithm.run(MODEL, OBSERVATIONS, seed=seed).log_evidence


def resampled(size, seed):
    """Return the time of one resampling, of weights that have not been looked at before."""
    source = torch.Generator().manual_seed(seed)
    log_weights = torch.randn(size, generator=source, dtype=torch.float64)
    return timed(lambda: systematic(log_weights, generator=source).ancestors[-1].item())


def timed(work):
    """Return the processor time and the wall-clock time of the work, and its value."""
    processor, wall = time.process_time(), time.perf_counter()
    value = work()
    return {
        "processor": time.process_time() - processor,
        "wall": time.perf_counter() - wall,
        "value": value,
    }


for line in sys.stdin:
    task = json.loads(line)
    if task["task"] == "resample":
        result = resampled(task["size"], task["seed"])
    else:
        result = timed(lambda task=task: filtered(task["size"], task["threshold"], task["seed"]))
    print(json.dumps(result), flush=True)
