"""The back end of genlm for transformers, for tokenizers that know no more than their own language.

Both peers that use it ask tokenizers to write any text back as it was, which that of MiniMath, with
a few hundred tokens, cannot. Its tokens have bytes all the same, so this one check is left out. The
batches are as large as there are particles, and nothing waits for a batch to fill: both are better
here than what the back end has by default (20, and 0.02 s).
"""

import asyncio

import numpy as np
import torch
from genlm.backend.llm import AsyncTransformer
from genlm.backend.tokenization import bytes as checks


def load_back_end(model, tokenizer):
    """Return the model behind the back end."""
    checks._check_complex_roundtrip = lambda tokenizer, decoder: None
    return AsyncTransformer(model, tokenizer, timeout=0.0)


def solver(back_end, posterior):
    """Return the function of a task that solves its questions in turn.

    Args:
        back_end: the model behind the back end.
        posterior: a coroutine of the task and a question; returns how many tokens it generated.
    """

    def solve(task):
        np.random.seed(task["seed"])
        torch.manual_seed(task["seed"])
        back_end.batch_size = task["particles"]
        for question in task["questions"]:
            yield asyncio.run(posterior(task, question))

    return solve
