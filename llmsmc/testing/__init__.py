"""Tests for models and algorithms: laws, and instances with known answers."""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports

if TYPE_CHECKING:
    from llmsmc.testing.algorithm_checks import check_algorithm as check_algorithm
    from llmsmc.testing.instances import Instance as Instance
    from llmsmc.testing.instances import exact_instances as exact_instances
    from llmsmc.testing.model_checks import check_model as check_model
    from llmsmc.testing.replicates import Replicates as Replicates
    from llmsmc.testing.replicates import replicate as replicate

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "llmsmc.testing.model_checks": ["check_model"],
        "llmsmc.testing.algorithm_checks": ["check_algorithm"],
        "llmsmc.testing.instances": ["Instance", "exact_instances"],
        "llmsmc.testing.replicates": ["Replicates", "replicate"],
    },
)
