"""`llmsmc ablate NAME`: an ablation of the paper, or one of one's own."""

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from llmsmc.ablations.names import PLANS
from llmsmc.cli import console, options
from llmsmc.cli.errors import reported

_size = functools.partial(options.option, "Size")
_general = functools.partial(options.option, None)
_OF_PLAN = "those of the plan"


@options.taking(
    _size("quick", None, "At a reduced size, in minutes.", bool, False),
    _size("limit", "N", "Only the first N problems.", int, min=1, show_default=_OF_PLAN),
    _size("seeds", "INTEGER,...", "The seeds.", str, show_default=_OF_PLAN),
    _size(
        "jobs",
        "N",
        "Processes side by side, each with its own models and one thread (or as many as "
        "OMP_NUM_THREADS says).",
        int,
        1,
        min=1,
    ),
    _size(
        "in_flight",
        "K",
        "Problems under way at a time in each process, sharing the batches of the models.",
        int,
        min=1,
        show_default="that of the plan, or 1",
    ),
    options.models(
        "policy",
        "MODEL",
        "The policy of all cells. Keys of servers, this one's as those of the plan, are read from "
        "LLMSMC_API_KEYS, as in 'http://host:port/v1=KEY'.",
        str,
    ),
    options.models("reward", "MODEL", "The reward model of all cells.", str),
    options.models("dataset", "NAME", "The data set, as `llmsmc eval` has it.", str),
    options.models("max_steps", "T", options.MAX_STEPS, int),
    options.models("max_tokens_per_step", "L", options.MAX_TOKENS_PER_STEP, int),
    options.models("max_tokens", "L", options.MAX_TOKENS, int),
    _general(
        "out",
        "DIR",
        "The folder of all results; what lies there is not run again.",
        Path,
        Path("runs/ablations"),
    ),
    _general("page", "FILE.md", "Write the page, its figure and its JSON here as well.", Path),
    _general(
        "show_plan",
        None,
        "Show the cells and what is left to run, and stop.",
        bool,
        False,
        flag="--plan",
    ),
    options.DEBUG,
)
def ablate(
    name: Annotated[str, typer.Argument(help=f"{', '.join(PLANS)}; or a .toml file like theirs.")],
    *,
    quick: bool,
    jobs: int,
    out: Path,
    page: Path | None,
    show_plan: bool,
    debug: bool,
    **given: Any,
) -> None:
    """Run an ablation and report it; can be interrupted, even killed, and taken up again."""
    with reported(debug):
        with console.waiting("Starting"):
            from llmsmc.ablations.reading import load_plan
            from llmsmc.cli import ablate_run

            plan = load_plan(name)
            command = ablate_run.command_line(name, quick, given | {"page": page})
            plan = ablate_run.changed(plan.reduced() if quick else plan, **given)
        if show_plan:
            ablate_run.show_plan(plan, out)
        else:
            ablate_run.ablate(plan, out, jobs, page, command, debug=debug)
