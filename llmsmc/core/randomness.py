"""Randomness as an argument: one seed, one stream for each step and purpose, no global state.

A stream is keyed by a hash of (seed, step, purpose). The draws for one purpose therefore do not
depend on the number of draws for another, and a run can be resumed at any step.
"""

import hashlib
import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from llmsmc.errors import InputError

_SEED_BITS = 63
_BLOCK = 16
_MANY = 4096  # below, the calls cost more than the numbers


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


def standard_normal(shape: Sequence[int], generator: Generator) -> Tensor:
    """Draw float64 numbers from N(0, 1), those of `torch.randn`; consumes `generator`.

    For many numbers this applies the Box-Muller transformation of torch, in blocks of 16, to whole
    vectors. It is twice as fast and gives the same numbers up to rounding.
    """
    count = math.prod(shape)
    if count < _MANY:
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    numbers = torch.rand(count, generator=generator, dtype=torch.float64)
    _box_muller_(numbers[: count - count % _BLOCK])
    if count % _BLOCK:
        rest = torch.rand(_BLOCK, generator=generator, dtype=torch.float64)
        _box_muller_(rest)
        numbers[-_BLOCK:] = rest
    return numbers.view(*shape)


def _box_muller_(numbers: Tensor) -> None:
    """Map the uniform halves of each block to radii and angles, and these to normal numbers."""
    halves = numbers.view(-1, _BLOCK // 2)
    first = torch.arange(0, len(halves), 2)
    radii, angles = halves.index_select(0, first), halves.index_select(0, first + 1)
    radii.neg_().add_(1.0).log_().mul_(-2.0).sqrt_()
    angles.mul_(2 * math.pi)
    cosines = angles.cos().mul_(radii)
    sines = angles.sin_().mul_(radii)
    torch.cat([cosines[:, None], sines[:, None]], 1, out=halves.view(-1, 2, _BLOCK // 2))


@contextmanager
def global_generators(generator: Generator) -> Iterator[None]:
    """Make draws from the global generators depend on `generator` alone; consumes `generator`.

    Distributions of torch and Pyro draw from the global generators. Within the block these are
    seeded from `generator`; after it they have exactly their previous states.
    """
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    seed = draw_seed(generator)
    with torch.random.fork_rng(range(torch.cuda.device_count()) if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        yield
