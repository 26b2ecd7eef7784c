"""How the policy of a run is computed, as reports say it."""

from typing import Any

import torch

from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.text.chat import takes_system
from llmsmc.solving.settings import Settings


def machine_of(policy: Policy) -> dict[str, Any]:
    """Return the precision, the device and the number of threads of a policy in this process."""
    if not isinstance(policy, LanguageModel):
        return {}
    on = {"precision": policy.precision, "device": str(policy.device)}
    return on | ({"threads": torch.get_num_threads()} if policy.device.type == "cpu" else {})


def remarks_on(policy: Policy, settings: Settings) -> list[str]:
    """Return what there is to know of how a policy is used."""
    tokenizer = getattr(policy, "tokenizer", None)
    if settings.system is None or tokenizer is None or takes_system(tokenizer):
        return []
    return [
        "The chat template of the policy has no place for a system prompt: its text stands at the "
        "start of the question."
    ]
