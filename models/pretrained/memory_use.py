"""How much memory the process has held."""

import sys

import torch


def peak_memory_bytes(device: torch.device) -> int:
    """Return the largest amount of memory held so far: on the CUDA device, else in the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on this platform
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
