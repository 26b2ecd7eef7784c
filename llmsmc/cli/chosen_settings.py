"""From what a command was given to the settings of a run."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from llmsmc.solving.settings import Settings
from llmsmc.solving.step_notation import parse_step, parse_thinking


def chosen_settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings among the arguments of a command.

    Options have the names of the fields of `Settings`; where a step ends, and what is known of
    thinking, are still to be read.

    Args:
        given: all arguments of the command by name, as in `locals()` before its first statement.

    Raises:
        InputError: a setting cannot be used.
    """
    values = {each.name: given[each.name] for each in fields(Settings) if each.name in given}
    values["step"] = parse_step(given["step"])
    values["thinking"] = parse_thinking(
        given["thinking"],
        given["thinking_step"],
        given["max_thinking_tokens"],
        given["score_thinking"],
    )
    return Settings(**values)
