"""From the options of a command to the algorithm and the settings of a run."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from llmsmc.registry import ALGORITHMS, split_options
from llmsmc.solving.reward_notation import joined
from llmsmc.solving.settings import Settings

if TYPE_CHECKING:
    from llmsmc.inference import Algorithm


def chosen(
    given: Mapping[str, Any], debug: bool, *, has_answers: bool = False, tokens_meanwhile: int = 0
) -> "tuple[Algorithm, Settings]":
    """Return the algorithm and the settings among the options of a command.

    Names are checked first, so that a misspelled one costs no imports. For the arguments by name
    see `llmsmc.solving.reward_loading.check_reward`.

    Raises:
        InputError: an option cannot be used.
    """
    ALGORITHMS.check(split_options(ALGORITHMS, given["algorithm"])[0])
    settings = chosen_settings(given)

    from llmsmc.cli.quiet import quiet_libraries
    from llmsmc.solving.algorithms import parse_algorithm
    from llmsmc.solving.reward_loading import check_reward

    quiet_libraries(debug)
    algorithm = parse_algorithm(given["algorithm"], given["particles"])
    check_reward(settings, algorithm, has_answers=has_answers, tokens_meanwhile=tokens_meanwhile)
    return algorithm, settings


def chosen_settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings among the options of a command.

    An option has the name of a field of `Settings`; step rules and thinking are parsed, and several
    rewards are joined.

    Raises:
        InputError: a setting cannot be used.
    """
    names = {each.name for each in fields(Settings)} - {"step", "thinking"}
    values = {name: value for name, value in given.items() if name in names}
    if values.get("reward") is not None:
        values["reward"] = joined(values["reward"])
    settings = Settings(**values)

    from llmsmc.solving.step_notation import parse_step, parse_thinking

    thinking = ("thinking", "thinking_step", "max_thinking_tokens", "score_thinking")
    return replace(
        settings,
        step=parse_step(given["step"]),
        thinking=parse_thinking(*(given[name] for name in thinking)),
    )
