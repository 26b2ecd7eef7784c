"""Randomness as an argument: one seed, one stream for each step and purpose, no global state.

A stream is keyed by a hash of (seed, step, purpose). The draws for one purpose therefore do not
depend on the number of draws for another, and a run can be resumed at any step.
"""

import hashlib
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from llmsmc.errors import InputError

ONE_THREAD: Final = threading.RLock()
"""Held by the thread that uses what a process has once: the global generators, and the handlers of
Pyro."""

_SEED_BITS = 63


class RandomStreams:
    """The random streams of one run.

    Attributes:
        seed: the given seed, or a seed drawn from the system's entropy.
    """

    def __init__(self, seed: int | None = None) -> None:
        """Open the streams of `seed`; None draws a fresh seed."""
        if seed is None:
            seed = secrets.randbits(_SEED_BITS)
        elif not isinstance(seed, int) or isinstance(seed, bool):
            raise InputError(f"seed names a run. Got {seed!r}; accepted: an integer or None.")
        self.seed = seed

    def generator(self, step: int, purpose: str) -> Generator:
        """Return a fresh CPU generator for `purpose` at `step`: equal keys, equal draws."""
        key = f"{self.seed}/{step}/{purpose}".encode()
        digest = hashlib.blake2b(key, digest_size=8).digest()
        return Generator().manual_seed(int.from_bytes(digest, "little") >> (64 - _SEED_BITS))

    def __repr__(self) -> str:
        """Show the seed."""
        return f"RandomStreams(seed={self.seed})"


def draw_seed(generator: Generator) -> int:
    """Draw a seed for another source of randomness; consumes `generator`."""
    return int(torch.randint(2**_SEED_BITS - 1, (), generator=generator, device=generator.device))


def sample(distribution: Distribution, shape: Sequence[int], generator: Generator) -> Tensor:
    """Draw from a distribution that takes no generator; consumes `generator` only."""
    with global_generators(generator):
        return distribution.sample(torch.Size(shape))


@contextmanager
def global_generators(generator: Generator) -> Iterator[None]:
    """Make draws from the global generators depend on `generator` alone; consumes `generator`.

    Distributions of torch and Pyro draw from the global generators. Within the block these are
    seeded from `generator`; after it they have exactly their previous states. Threads enter such
    blocks one after the other.
    """
    with seeded_globally(draw_seed(generator)):
        yield


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seed the global generators for the block, like `global_generators`."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if cuda else []
    with ONE_THREAD, torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        yield
