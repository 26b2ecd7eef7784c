"""Probabilistic inference over the reasoning of language models.

Reasoning is a state-space model whose transition is a language model and whose observation is a
process reward model saying "accepted"; any algorithm of sequential Monte Carlo runs on it.
"""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports

if TYPE_CHECKING:
    from llmsmc.cost import Cost as Cost
    from llmsmc.errors import DegenerateWeightsError as DegenerateWeightsError
    from llmsmc.errors import InputError as InputError
    from llmsmc.errors import LlmsmcError as LlmsmcError
    from llmsmc.errors import NumericalError as NumericalError
    from llmsmc.history import StepRecord as StepRecord
    from llmsmc.models.sharing.together import run_together as run_together
    from llmsmc.posterior import Posterior as Posterior
    from llmsmc.solving import solve as solve
    from llmsmc.solving import solve_many as solve_many
    from llmsmc.state_space_model import StateSpaceModel as StateSpaceModel
    from llmsmc.testing import check_algorithm as check_algorithm
    from llmsmc.testing import check_model as check_model

__version__ = "0.1.0"

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "llmsmc.cost": ["Cost"],
        "llmsmc.errors": ["DegenerateWeightsError", "InputError", "LlmsmcError", "NumericalError"],
        "llmsmc.history": ["StepRecord"],
        "llmsmc.posterior": ["Posterior"],
        "llmsmc.models.sharing.together": ["run_together"],
        "llmsmc.solving": ["solve", "solve_many"],
        "llmsmc.state_space_model": ["StateSpaceModel"],
        "llmsmc.testing": ["check_algorithm", "check_model"],
    },
)
