"""How the policy of a run is computed, as reports say it."""

from pathlib import Path
from typing import NotRequired, TypedDict

import torch

from llmsmc.core.counted import counted
from llmsmc.inference import Algorithm
from llmsmc.models.batching.shared import MAX_PARTICLES
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.policies.local_language_model import LocalLanguageModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.pretrained.memory import size_in_words
from llmsmc.models.pretrained.precision import is_large
from llmsmc.models.text.chat import takes_system
from llmsmc.solving.settings import Settings


class Machine(TypedDict):
    """How a policy is computed in this process.

    Attributes:
        precision: that of the computation, and of the weights where it is another one.
        chosen: who chose the precision of the computation.
        device: where the policy is.
        threads: how many a processor uses.
        rows: of how many particles tokens are drawn side by side, at most.
        weight_bytes: the memory of the weights.
    """

    precision: str
    chosen: str
    device: str
    threads: NotRequired[int]
    rows: NotRequired[int]
    weight_bytes: int


def machine_of(
    policy: Policy, settings: Settings, algorithm: Algorithm, in_flight: int = 1
) -> Machine | None:
    """Return how a policy is computed; None if it is not in this process.

    Args:
        policy: the policy, loaded.
        settings: the settings by which it was loaded.
        algorithm: what draws from it.
        in_flight: how many questions are under way at a time.
    """
    if not isinstance(policy, LocalLanguageModel):
        return None
    machine: Machine = {
        "precision": policy.precision,
        "chosen": _chosen(policy, settings),
        "device": str(policy.device),
        "weight_bytes": policy.weight_bytes,
    }
    if policy.device.type == "cpu":
        machine["threads"] = torch.get_num_threads()
    particles = getattr(algorithm, "num_particles", None)
    if isinstance(particles, int):
        machine["rows"] = max(particles, min(particles * in_flight, MAX_PARTICLES))
    return machine


def _chosen(policy: LocalLanguageModel, settings: Settings) -> str:
    """Return who chose the precision, in words that stand behind it."""
    if not isinstance(settings.policy, str | Path):
        return "as loaded"
    if not isinstance(policy, LanguageModel):
        return "as installed" if settings.engine == "auto" else "as asked"
    if settings.dtype is not None:
        return "as asked"
    if policy.device.type != "cpu":
        return "by checkpoint"
    return "by processor" if is_large(policy.model.config) else "by default"


def machine_line(machine: Machine) -> str:
    """Return how a policy is computed, in one line.

    >>> machine: Machine = {"precision": "bfloat16, read from Q4_K_M", "chosen": "by processor",
    ...     "device": "cpu", "threads": 2, "rows": 128, "weight_bytes": 1_260_000_000}
    >>> machine_line(machine)
    'Policy: bfloat16 by processor, read from Q4_K_M; 2 threads, 128 rows, 1.26 GB'
    """
    computed, comma, stored = machine["precision"].partition(",")
    threads, rows = machine.get("threads"), machine.get("rows")
    parts = [machine["device"] if threads is None else counted(threads, "thread")]
    if rows is not None:
        parts.append(counted(rows, "row"))
    parts.append(size_in_words(machine["weight_bytes"]))
    return f"Policy: {computed} {machine['chosen']}{comma}{stored}; {', '.join(parts)}"


def remarks_on(policy: Policy, settings: Settings) -> list[str]:
    """Return what there is to know of how a policy is used."""
    tokenizer = getattr(policy, "tokenizer", None)
    if settings.system is None or tokenizer is None or takes_system(tokenizer):
        return []
    return [
        "The chat template of the policy has no place for a system prompt: its text stands at the "
        "start of the question."
    ]
