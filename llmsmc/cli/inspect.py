"""`llmsmc inspect POLICY`: what a policy writes, and which settings suit it."""

from typing import Annotated, Any, Final

import typer

from llmsmc import defaults
from llmsmc.cli import console, options
from llmsmc.cli.chosen_settings import chosen_settings
from llmsmc.cli.errors import reported

MAX_TOKENS: Final = 512
SAMPLES: Final = 2
LIMIT: Final = 8

_OF_MODELS: Final = (
    *("policy_model", "policy_tokenizer", "request_seconds", "retry_seconds", "max_answer_bytes"),
    *("quantization", "double_quantization", "adapter", "policy_revision", "chat_template"),
    *("device", "device_map", "dtype"),
)
_OF_REASONING: Final = ("temperature", "max_tokens_per_step", "system")


@options.taking(
    options.option(
        None, "dataset", "DATASET", options.DATASET, str, show_default="a few of its own"
    ),
    options.RANGE,
    options.option(None, "limit", "N", "Only the first N questions of these.", int, LIMIT, min=1),
    options.option(None, "samples", "N", "Solutions of each question.", int, SAMPLES, min=1),
    options.option(
        None,
        "max_tokens",
        "L",
        "Solutions are cut off after so many tokens.",
        int,
        MAX_TOKENS,
        min=1,
    ),
    options.option(
        None,
        "step",
        "RULE",
        "One more step rule to compare, as for `llmsmc solve`.",
        str,
        show_default="none",
    ),
    options.option(None, "json", None, "Print the report as JSON.", bool, False),
    options.SEED,
    *(each for each in options.OF_MODELS if each.name in _OF_MODELS),
    *(
        each
        for each in options.OF_REASONING
        if each.name in _OF_REASONING or "thinking" in each.name
    ),
    options.DEBUG,
)
def inspect(
    policy: Annotated[
        str,
        typer.Argument(
            help="The language model: an embedded one, a folder, a file, a name on the hub, or the "
            "address of a server."
        ),
    ] = defaults.DEFAULT_POLICY,
    *,
    dataset: str | None,
    range: str | None,
    limit: int,
    samples: int,
    max_tokens: int,
    step: str | None,
    json: bool,
    seed: int,
    debug: bool,
    **given: Any,
) -> None:
    """Draw a few solutions of a policy; show how they are cut into steps, and what suits it."""
    with reported(debug):
        settings = chosen_settings({**given, "policy": policy, "step": step or r"\n\n"})
        with console.waiting("Starting"):
            from llmsmc.cli import inspect_run
            from llmsmc.cli.quiet import quiet_libraries

        quiet_libraries(debug)
        asked = inspect_run.questions(dataset, range, limit)
        inspect_run.inspect(
            settings,
            asked,
            inspect_run.Drawing(samples, max_tokens, seed, step),
            as_json=json,
        )
