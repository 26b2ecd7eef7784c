"""How process reward models lay a solution out, and where they say what they think of it."""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports
from llmsmc.registry import CONVENTIONS as CONVENTIONS_BY_NAME
from llmsmc.registry import homes

if TYPE_CHECKING:
    from llmsmc.models.rewards.conventions.convention import Convention as Convention
    from llmsmc.models.rewards.conventions.convention import layout_of_pieces as layout_of_pieces
    from llmsmc.models.rewards.conventions.math_shepherd import (
        MathShepherdConvention as MathShepherdConvention,
    )
    from llmsmc.models.rewards.conventions.pqm import PqmConvention as PqmConvention
    from llmsmc.models.rewards.conventions.pure import PureConvention as PureConvention
    from llmsmc.models.rewards.conventions.qwen import QwenConvention as QwenConvention
    from llmsmc.models.rewards.conventions.rlhflow import RlhflowConvention as RlhflowConvention
    from llmsmc.models.rewards.conventions.skywork import SkyworkConvention as SkyworkConvention
    from llmsmc.models.rewards.conventions.trl import TrlConvention as TrlConvention
    from llmsmc.models.rewards.conventions.versa import VersaConvention as VersaConvention
    from llmsmc.registry import CONVENTIONS as CONVENTIONS

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **homes(CONVENTIONS_BY_NAME),
        "llmsmc.models.rewards.conventions.convention": ["Convention", "layout_of_pieces"],
        "llmsmc.registry": ["CONVENTIONS"],
    },
)
