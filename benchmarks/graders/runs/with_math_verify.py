"""Math-Verify alone: both texts boxed, read as LaTeX and as expressions, compared as its README."""

from importlib.metadata import version

from asking import ask
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

CONFIG = [LatexExtractionConfig(), ExprExtractionConfig()]


def read(text):
    """Return the expressions in a boxed text."""
    return parse(rf"\boxed{{{text}}}", extraction_config=CONFIG)


def grade(answer, reference):
    """Compare, the reference first."""
    return verify(read(reference), read(answer))


ask(version("math-verify"), {"Math-Verify": (grade, 5)})
