"""Probabilistic inference over the reasoning of language models.

Reasoning is a state-space model whose transition is a language model and whose observation is a
process reward model saying "accepted"; any algorithm of sequential Monte Carlo runs on it.
"""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports
from llmsmc._version import __version__ as __version__

if TYPE_CHECKING:
    from llmsmc.core.cost import Cost as Cost
    from llmsmc.core.history import StepRecord as StepRecord
    from llmsmc.core.state_space_model import StateSpaceModel as StateSpaceModel
    from llmsmc.errors import DegenerateWeightsError as DegenerateWeightsError
    from llmsmc.errors import InputError as InputError
    from llmsmc.errors import LlmsmcError as LlmsmcError
    from llmsmc.errors import NumericalError as NumericalError
    from llmsmc.evaluation.evaluating import Evaluation as Evaluation
    from llmsmc.evaluation.evaluating import evaluate as evaluate
    from llmsmc.inspection import Inspection as Inspection
    from llmsmc.inspection import inspect_policy as inspect_policy
    from llmsmc.models.batching.scheduler import run_together as run_together
    from llmsmc.results.posterior import Posterior as Posterior
    from llmsmc.solving.solver import solve as solve
    from llmsmc.solving.solver import solve_many as solve_many
    from llmsmc.testing import check_algorithm as check_algorithm
    from llmsmc.testing import check_model as check_model

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "llmsmc.core.cost": ["Cost"],
        "llmsmc.errors": ["DegenerateWeightsError", "InputError", "LlmsmcError", "NumericalError"],
        "llmsmc.core.history": ["StepRecord"],
        "llmsmc.evaluation.evaluating": ["Evaluation", "evaluate"],
        "llmsmc.inspection": ["Inspection", "inspect_policy"],
        "llmsmc.results.posterior": ["Posterior"],
        "llmsmc.models.batching.scheduler": ["run_together"],
        "llmsmc.solving.solver": ["solve", "solve_many"],
        "llmsmc.core.state_space_model": ["StateSpaceModel"],
        "llmsmc.testing": ["check_algorithm", "check_model"],
    },
)
