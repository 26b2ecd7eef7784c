"""What an author of an algorithm needs, from one place: see docs/write_an_algorithm.md.

Everything here is public. A step consists of `init`, `resample`, `extend` and their guided forms;
`take`, `where` and `concatenate` work on the particles of a population; `Run.supports` tells the
capabilities of a model.
"""

from llmsmc.core.capabilities import (
    DrawsProposals,
    Fails,
    Finishes,
    LooksAhead,
    Proposes,
    RemembersPath,
    Rewinds,
    Splices,
    Twists,
)
from llmsmc.core.checks import require_choice, require_count, require_fraction
from llmsmc.core.particles import concatenate, take, where
from llmsmc.core.state_space_model import Observations, StateSpaceModel, Truncated
from llmsmc.core.weights import (
    LogWeights,
    effective_sample_size,
    log_evidence,
    normalize,
    uniform,
)
from llmsmc.errors import DegenerateWeightsError, InputError, NumericalError
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.inference.loop.guided import extend_guided, init_guided
from llmsmc.inference.loop.loop import (
    Population,
    Run,
    Stepwise,
    descended,
    extend,
    init,
    propagate,
    resample,
    weigh,
)
from llmsmc.inference.moves.move import Move, Moved
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import (
    Resampled,
    Resampler,
    Scheme,
    inverse_cdf,
    inverse_cdf_of_strata,
    uniforms,
)
from llmsmc.inference.resampling.systematic import systematic
from llmsmc.results.estimates import Guarantee
from llmsmc.results.posterior import Posterior

__all__ = [
    "Adaptive",
    "Algorithm",
    "DegenerateWeightsError",
    "DrawsProposals",
    "Fails",
    "Finishes",
    "Guarantee",
    "InputError",
    "LogWeights",
    "LooksAhead",
    "Move",
    "Moved",
    "NumericalError",
    "Observations",
    "Population",
    "Posterior",
    "Proposes",
    "RemembersPath",
    "Resampled",
    "Resampler",
    "Rewinds",
    "Run",
    "Scheme",
    "Splices",
    "StateSpaceModel",
    "Stepwise",
    "Truncated",
    "Twists",
    "concatenate",
    "descended",
    "effective_sample_size",
    "extend",
    "extend_guided",
    "init",
    "init_guided",
    "inverse_cdf",
    "inverse_cdf_of_strata",
    "log_evidence",
    "normalize",
    "propagate",
    "require_choice",
    "require_count",
    "require_fraction",
    "resample",
    "systematic",
    "take",
    "uniform",
    "uniforms",
    "weigh",
    "where",
]
