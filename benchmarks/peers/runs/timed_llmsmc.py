"""llmsmc: the bootstrap filter, and systematic resampling alone."""

import json
import sys

import torch
from timing import serve

from llmsmc.inference import Adaptive, BootstrapFilter, systematic
from llmsmc.models import LinearGaussian

torch.set_num_threads(1)
SETTING = json.loads(sys.stdin.readline())
MODEL = LinearGaussian(**SETTING["model"])
OBSERVATIONS = [torch.tensor([y], dtype=torch.float64) for y in SETTING["observations"]]


def filtered(size, threshold, seed):
    """Run the filter; its value is the log-evidence."""
    resampler = systematic if threshold == 1 else Adaptive(systematic, threshold)
    algorithm = BootstrapFilter(size, resampler, record=False)
    return lambda: algorithm.run(MODEL, OBSERVATIONS, seed=seed).log_evidence


def resampled(size, seed):
    """Resample weights that have not been looked at before."""
    source = torch.Generator().manual_seed(seed)
    log_weights = torch.randn(size, generator=source, dtype=torch.float64)
    return lambda: systematic(log_weights, generator=source).ancestors[-1].item()


serve({"check": filtered, "filter": filtered, "resample": resampled})
