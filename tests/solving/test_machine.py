"""How a policy is computed, as reports say it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from llmsmc.inference import BootstrapFilter, Greedy
from llmsmc.models import LanguageModel
from llmsmc.models.pretrained import precision
from llmsmc.solving.machine import machine_line, machine_of
from llmsmc.solving.settings import Settings
from tests.models.conftest import policy, policy_folder, tokenizer  # noqa: F811, F401 - fixtures


@pytest.mark.parametrize(
    ("given", "large", "chosen"),
    [
        ({}, False, "by default"),
        ({}, True, "by processor"),
        ({"dtype": "float32"}, True, "as asked"),
        (None, True, "as loaded"),
    ],
)
def test_who_chose_the_precision(
    given: dict[str, Any] | None,
    large: bool,
    chosen: str,
    policy: LanguageModel,  # noqa: F811
    policy_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "LARGE", 1 if large else 2**40)
    settings = Settings(policy=policy) if given is None else Settings(policy=policy_folder, **given)
    machine = machine_of(policy, settings, BootstrapFilter(4))
    assert machine is not None and machine["chosen"] == chosen
    assert machine_line(machine).startswith(f"Policy: float32 {chosen}; {torch.get_num_threads()} ")


@pytest.mark.parametrize(
    ("algorithm", "in_flight", "rows"),
    [
        (BootstrapFilter(16), 1, "16 rows"),
        (BootstrapFilter(16), 8, "128 rows"),
        (BootstrapFilter(500), 8, "1,024 rows"),
        (BootstrapFilter(2000), 8, "2,000 rows"),
        (Greedy(), 1, "1 row,"),
    ],
)
def test_rows_side_by_side(
    algorithm: Any,
    in_flight: int,
    rows: str,
    policy: LanguageModel,  # noqa: F811
) -> None:
    machine = machine_of(policy, Settings(policy=policy), algorithm, in_flight)
    assert machine is not None and f", {rows}" in machine_line(machine)
    size = sum(each.numel() * each.element_size() for each in policy.model.parameters())
    assert machine["weight_bytes"] == size
    assert len(machine_line(machine)) <= 80


def test_a_policy_on_a_server_says_nothing() -> None:
    assert machine_of(object(), Settings(), BootstrapFilter(2)) is None  # type: ignore[arg-type]
