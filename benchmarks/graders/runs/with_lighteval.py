"""The two graders of lighteval: equal strings (MATH), and its extractive match (MATH-500)."""

from importlib.metadata import version

from asking import ask
from lighteval.metrics.metrics import Metrics
from lighteval.metrics.normalizations import math_normalizer
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc

STRINGS = Metrics.exact_match(
    sample_params={"normalize_gold": math_normalizer, "normalize_pred": math_normalizer}
)
EXTRACTIVE = Metrics.pass_at_k_math(sample_params={"k": 1, "n": 1})


def by(metric):
    """Return what a metric says of one answer, both boxed."""

    def grade(answer, reference):
        doc = Doc(query="", choices=[rf"\boxed{{{reference}}}"], gold_index=0)
        response = ModelResponse(text=[rf"\boxed{{{answer}}}"])
        return metric.sample_level_fn.compute(doc=doc, model_response=response) == 1

    return grade


ask(
    version("lighteval"),
    {
        "lighteval, math_normalizer": (by(STRINGS), 5),
        "lighteval, extractive match": (by(EXTRACTIVE), 5),
    },
)
