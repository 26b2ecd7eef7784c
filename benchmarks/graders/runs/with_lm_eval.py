"""The graders of lm-eval: strings (hendrycks_math), sympy and Math-Verify (minerva_math)."""

from importlib.metadata import version

from asking import ask
from lm_eval.tasks.hendrycks_math import utils as hendrycks
from lm_eval.tasks.minerva_math import utils as minerva


def by_sympy(answer, reference):
    """Compare as the task does, both answers normalized."""
    sides = [minerva.normalize_final_answer(text) for text in (answer, reference)]
    return minerva.is_equiv(*sides)


def by_math_verify(answer, reference):
    """Compare as the task does: both are boxed, and read as it is set by default."""
    gold, target = (minerva.parse(rf"\boxed{{{text}}}") for text in (reference, answer))
    return minerva.verify(gold=gold, target=target)


ask(
    version("lm-eval"),
    {
        "lm-eval, hendrycks_math": (hendrycks.is_equiv, 5),
        "lm-eval, minerva_math": (by_sympy, 5),
        "lm-eval, math_verify": (by_math_verify, 5),
    },
)
