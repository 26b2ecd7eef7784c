"""How process reward models lay a solution out, and where they say what they think of it."""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports

if TYPE_CHECKING:
    from llmsmc.models.conventions.convention import Convention as Convention
    from llmsmc.models.conventions.convention import layout_of_pieces as layout_of_pieces
    from llmsmc.models.conventions.math_shepherd import (
        MathShepherdConvention as MathShepherdConvention,
    )
    from llmsmc.models.conventions.pqm import PqmConvention as PqmConvention
    from llmsmc.models.conventions.pure import PureConvention as PureConvention
    from llmsmc.models.conventions.qwen import QwenConvention as QwenConvention
    from llmsmc.models.conventions.recognition import CONVENTIONS as CONVENTIONS
    from llmsmc.models.conventions.rlhflow import RlhflowConvention as RlhflowConvention
    from llmsmc.models.conventions.skywork import SkyworkConvention as SkyworkConvention
    from llmsmc.models.conventions.trl import TrlConvention as TrlConvention
    from llmsmc.models.conventions.versa import VersaConvention as VersaConvention

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "llmsmc.models.conventions.convention": ["Convention", "layout_of_pieces"],
        "llmsmc.models.conventions.math_shepherd": ["MathShepherdConvention"],
        "llmsmc.models.conventions.pqm": ["PqmConvention"],
        "llmsmc.models.conventions.pure": ["PureConvention"],
        "llmsmc.models.conventions.qwen": ["QwenConvention"],
        "llmsmc.models.conventions.recognition": ["CONVENTIONS"],
        "llmsmc.models.conventions.rlhflow": ["RlhflowConvention"],
        "llmsmc.models.conventions.skywork": ["SkyworkConvention"],
        "llmsmc.models.conventions.trl": ["TrlConvention"],
        "llmsmc.models.conventions.versa": ["VersaConvention"],
    },
)
