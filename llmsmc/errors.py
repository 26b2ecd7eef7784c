"""The exceptions of the library.

* `LlmsmcError`
    * `InputError` (a `ValueError`): something the caller gave cannot be used.
    * `NumericalError` (an `ArithmeticError`): a number that must not occur has occurred.
        * `DegenerateWeightsError`: every particle has weight zero.
    * `ModelLawError` (an `AssertionError`): a model breaks a law that algorithms rely on.
    * `AlgorithmLawError` (an `AssertionError`): an algorithm breaks what it promises.
    * `ServerError`: a server that runs a model refuses a request, or does not answer.
    * `MissingExtraError` (an `ImportError`): an optional package is not installed.
"""

from typing import Any


class LlmsmcError(Exception):
    """Root of every exception that the library raises on purpose."""


class InputError(LlmsmcError, ValueError):
    """Input that cannot be used; says what is wrong, what was got and what is accepted."""


class NumericalError(LlmsmcError, ArithmeticError):
    """A NaN, or an infinity of the wrong sign, in a weight, a potential or a logit."""


class DegenerateWeightsError(NumericalError):
    """Every particle has weight zero.

    Attributes:
        posterior: the `Posterior` of the run when its last particle died: the particles,
            log-weights that are all `-inf` and the history; None outside of a run.
    """

    posterior: Any  # errors stand below results, and do not know their types

    def __init__(self, message: str, posterior: Any = None) -> None:
        """Create the error; `posterior` is the state of the run it ended."""
        super().__init__(message)
        self.posterior = posterior


class AlgorithmLawError(LlmsmcError, AssertionError):
    """An algorithm that `check_algorithm` has found wrong.

    Attributes:
        law: which law is broken.
        instance: where.
    """

    def __init__(self, algorithm: str, law: str, instance: str, violation: str) -> None:
        """Create the error from the names, and from how the law is broken."""
        super().__init__(f"{algorithm} breaks {law!r} on {instance}: {violation}")
        self.law, self.instance = law, instance


class ModelLawError(LlmsmcError, AssertionError):
    """A model that `check_model` has found wrong.

    Attributes:
        violations: for each law that is broken, how and by how much.
    """

    def __init__(self, model: str, violations: dict[str, str]) -> None:
        """Create the error from the name of the model and its violations."""
        lines = [f"  {law}: {violation}" for law, violation in violations.items()]
        super().__init__(
            "\n".join([f"{model} breaks {len(lines)} of the laws of a model:", *lines])
        )
        self.violations = violations


class ServerError(LlmsmcError, RuntimeError):
    """A server that runs a model refuses a request, or does not answer.

    Attributes:
        is_down: whether it did not answer, or had no time to, so that later it may.
        status: the number of its answer, None if there was none.
        wait: the seconds that it asks to be left alone, None if it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        is_down: bool = False,
        status: int | None = None,
        wait: float | None = None,
    ) -> None:
        """Create the error; the defaults are for copies, which have their attributes set later."""
        super().__init__(message)
        self.is_down, self.status, self.wait = is_down, status, wait


class MissingExtraError(LlmsmcError, ImportError):
    """An optional package is needed and not installed; says how to install it."""
