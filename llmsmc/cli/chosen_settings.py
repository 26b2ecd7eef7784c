"""From the options of a command to the algorithm and the settings of a run."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from llmsmc.registry import ALGORITHMS, split_options
from llmsmc.solving.settings import Settings

if TYPE_CHECKING:
    from llmsmc.inference import Algorithm


def chosen(given: Mapping[str, Any], debug: bool) -> "tuple[Algorithm, Settings]":
    """Return the algorithm and the settings among the options of a command.

    Names are checked first, so that a misspelled one costs no imports.

    Raises:
        InputError: an option cannot be used.
    """
    ALGORITHMS.check(split_options(ALGORITHMS, given["algorithm"])[0])
    settings = chosen_settings(given)

    from llmsmc.cli.quiet import quiet_libraries
    from llmsmc.solving.algorithms import parse_algorithm

    quiet_libraries(debug)
    return parse_algorithm(given["algorithm"], given["particles"]), settings


def chosen_settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings among the options of a command.

    An option has the name of a field of `Settings`; step rules and thinking are parsed.

    Raises:
        InputError: a setting cannot be used.
    """
    names = {each.name for each in fields(Settings)} - {"step", "thinking"}
    settings = Settings(**{name: value for name, value in given.items() if name in names})

    from llmsmc.solving.step_notation import parse_step, parse_thinking

    thinking = ("thinking", "thinking_step", "max_thinking_tokens", "score_thinking")
    return replace(
        settings,
        step=parse_step(given["step"]),
        thinking=parse_thinking(*(given[name] for name in thinking)),
    )
