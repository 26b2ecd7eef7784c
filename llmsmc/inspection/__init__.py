"""What a policy writes, and which settings suit it: a few solutions, cut under step rules."""

from llmsmc.inspection.inspecting import inspect_policy as inspect_policy
from llmsmc.inspection.report import Inspection as Inspection

__all__ = ["Inspection", "inspect_policy"]
