"""Options are the settings of a run, by name."""

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from llmsmc.cli.chosen_settings import chosen_settings
from llmsmc.cli.evaluate import evaluate
from llmsmc.cli.solve import solve
from llmsmc.models.text.stopping import TokenCount
from llmsmc.models.text.thinking import Thinking
from llmsmc.solving.settings import Settings

COMMANDS = (solve, evaluate)
NAMES = {field.name for field in fields(Settings)}


def defaults(command: Callable[..., None]) -> dict[str, Any]:
    return {name: each.default for name, each in inspect.signature(command).parameters.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_has_an_option_with_its_default(command: Callable[..., None]) -> None:
    given = defaults(command)
    assert NAMES - set(given) == ({"selection"} if command is solve else set())
    assert chosen_settings(given).config() == Settings().config()


def test_both_commands_have_the_same_options() -> None:
    of_solve, of_evaluate = (inspect.signature(command).parameters for command in COMMANDS)
    own = {"question", "sample_problem", "dataset", "dataset_file"}
    own |= {"out", "limit", "in_flight", "tokens_meanwhile", "selection", "retry_errors"}
    own |= {"range", "solutions"}
    assert set(of_solve) - own == set(of_evaluate) - own
    for name in set(of_solve) - own:
        assert of_solve[name] == of_evaluate[name]


def test_what_is_given_is_what_is_set() -> None:
    given = {"max_steps": 7, "dtype": "bfloat16", "system": "Be brief.", "selection": "argmax"}
    chosen = chosen_settings(defaults(evaluate) | given | {"step": "tokens:3"})
    assert chosen == replace(Settings(**given), step=TokenCount(3))  # type: ignore[arg-type]
    thinking = {"thinking": True, "thinking_step": "tokens:5", "max_thinking_tokens": 9}
    chosen = chosen_settings(defaults(solve) | thinking | {"score_thinking": False})
    assert chosen.thinking == Thinking(step=TokenCount(5), max_tokens=9, scored=False)
