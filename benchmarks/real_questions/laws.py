"""The law of a quantized policy beside that of the full one: divergence, and what is left of N.

Two figures of a quantization of a policy:

* the Kullback-Leibler divergence of its law of the next token from that of the full policy, at the
  tokens of solutions of the full policy, at temperature 1, averaged within each solution first;
* the effective sample size over N of one step that it draws at the temperature of use and the full
  policy weighs, after each step of a guided filter in which nothing is judged.

The embedded policy is measured in the same way, for comparison.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Any, Final

import numpy as np

from benchmarks.quantization import divergences, shares_left
from llmsmc.ablations.intervals import mean_and_error
from llmsmc.models import LanguageModel
from llmsmc.models.minimath.datasets import minimath_dev
from llmsmc.models.minimath.training.samples import sample_solutions
from llmsmc.solving.prompts import system_prompt
from llmsmc.training.scoring import Labelled

NUM_SOLUTIONS: Final = 40  # of the divergence, one of each question
NUM_QUESTIONS: Final = 10  # of the filters
NUM_PARTICLES: Final = 16

Text = tuple[Sequence[int], Sequence[int]]
"""The tokens of a prompt, and those of a solution."""


def of_real(
    kind: str, solutions: Sequence[Labelled], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of a quantization of a policy, on the first questions of the samples.

    Args:
        kind: the quantization.
        solutions: the samples.
        settings: the policy, its precision, and how it is asked.
    """
    asked = dict(settings) | {"system": system_prompt(settings["system"])}
    policy, dtype = asked.pop("policy"), asked.pop("dtype", None)
    full = LanguageModel.from_pretrained(policy, dtype=dtype)
    other = LanguageModel.from_pretrained(policy, kind, dtype=dtype)
    first = {each.sample["question"]: each for each in reversed(solutions)}
    chosen = list(islice(reversed(first.values()), NUM_SOLUTIONS))
    texts = [
        (full.prompt_ids(each.sample["question"], asked["system"]), each.sample["token_ids"])
        for each in chosen
    ]
    questions = [each.sample["question"] for each in chosen[:NUM_QUESTIONS]]
    return figures(full, other, kind, texts, questions, **asked)


def of_embedded(kind: str) -> dict[str, Any]:
    """Return the figures of a quantization of the embedded policy."""
    full = LanguageModel.from_pretrained("minimath-policy")
    other = LanguageModel.from_pretrained("minimath-policy", kind)
    network: Any = full.model
    problems = minimath_dev(NUM_SOLUTIONS // 5)
    texts = [
        (
            full.prompt_ids(problem.question),
            full.tokenizer.encode("\n\n".join(steps), add_special_tokens=False),
        )
        for problem, steps in sample_solutions(network, full.tokenizer, problems, seed=2)
    ]
    questions = [problem.question for problem in minimath_dev(NUM_QUESTIONS // 5)]
    return figures(full, other, kind, texts, questions)


def figures(
    full: LanguageModel,
    other: LanguageModel,
    kind: str,
    texts: Sequence[Text],
    questions: Sequence[str],
    **settings: Any,
) -> dict[str, Any]:
    """Return the figures of two policies, as in a JSON file."""
    found = divergences(full, other, texts)
    mean, error = mean_and_error(np.array([fmean(each) for each in found if each]))
    shares = shares_left(full, other, questions, NUM_PARTICLES, **settings)
    return {
        "kind": kind,
        "solutions": len(texts),
        "tokens": sum(map(len, found)),
        "divergence": mean,
        "divergence_error": error,
        "particles": NUM_PARTICLES,
        "questions": len(questions),
        "steps": len(shares),
        "share_left": fmean(shares),
        "least_left": min(shares),
    }
