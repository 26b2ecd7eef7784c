"""`llmsmc ablate NAME`: an ablation of the paper, or one of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from llmsmc.cli import console, options
from llmsmc.cli.errors import reported

_SIZE, _MODELS = "Size", "Models"


def ablate(
    name: Annotated[
        str,
        typer.Argument(
            help="methods, particles, reward-model, aggregation, temperature, gibbs, islands, "
            "scale, quantization, algorithms, resampling, link, selection, calibration; or a .toml "
            "file like theirs.",
        ),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="At a reduced size, in minutes.", rich_help_panel=_SIZE)
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Only the first N problems.",
            show_default="those of the plan",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="INTEGER,...",
            help="The seeds.",
            show_default="those of the plan",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Processes side by side, each with its own models and one thread (or as many as "
            "OMP_NUM_THREADS says).",
            rich_help_panel=_SIZE,
        ),
    ] = 1,
    in_flight: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            help="Problems under way at a time in each process, sharing the batches of the models.",
            show_default="that of the plan, or 1",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The policy of all cells. Keys of servers, this one's as those of the plan, are "
            "read from LLMSMC_API_KEYS, as in 'http://host:port/v1=KEY'.",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="The reward model of all cells.", rich_help_panel=_MODELS
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The data set, as `llmsmc eval` has it.", rich_help_panel=_MODELS
        ),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(
            metavar="T", help="Solutions are cut off after so many steps.", rich_help_panel=_MODELS
        ),
    ] = None,
    max_tokens_per_step: Annotated[
        int | None,
        typer.Option(
            metavar="L", help="A step is cut off after so many tokens.", rich_help_panel=_MODELS
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="The folder of all results; what lies there is not run again.",
        ),
    ] = Path("runs/ablations"),
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md",
            help="Write the page, its figure and its JSON here as well.",
        ),
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="Show the cells and what is left to run, and stop.")
    ] = False,
    debug: options.DebugOption = False,
) -> None:
    """Run an ablation and report it; can be interrupted, even killed, and taken up again."""
    with reported(debug):
        with console.waiting("Starting"):
            from llmsmc.ablations.reading import load_plan
            from llmsmc.cli import ablate_run

            plan = load_plan(name)
            plan = plan.reduced() if quick else plan
            plan = plan.overridden(
                in_flight=in_flight,
                policy=policy,
                reward=reward,
                max_steps=max_steps,
                max_tokens_per_step=max_tokens_per_step,
            )
            plan = plan.sized(dataset, limit, ablate_run.parse_seeds(seeds))
            given = {
                "limit": limit,
                "seeds": seeds,
                "in-flight": in_flight,
                "policy": policy,
                "reward": reward,
                "dataset": dataset,
                "max-steps": max_steps,
                "max-tokens-per-step": max_tokens_per_step,
                "page": page,
            }
            command = ablate_run.command_line(name, quick, given)
        if show_plan:
            ablate_run.show_plan(plan, out)
        else:
            ablate_run.ablate(plan, out, jobs, page, command, debug=debug)
