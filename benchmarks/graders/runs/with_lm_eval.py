"""The two graders of lm-eval: strings (hendrycks_math), and sympy's LaTeX (minerva_math)."""

from importlib.metadata import version

from asking import ask
from lm_eval.tasks.hendrycks_math import utils as hendrycks
from lm_eval.tasks.minerva_math import utils as minerva


def by_sympy(answer, reference):
    """Compare as the task does, both answers normalized."""
    sides = [minerva.normalize_final_answer(text) for text in (answer, reference)]
    return minerva.is_equiv(*sides)


ask(
    version("lm-eval"),
    {
        "lm-eval, hendrycks_math": (hendrycks.is_equiv, 5),
        "lm-eval, minerva_math": (by_sympy, 5),
    },
)
