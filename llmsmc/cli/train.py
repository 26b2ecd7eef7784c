"""`llmsmc train minimath`: make the embedded models again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmsmc import defaults
from llmsmc.cli import console
from llmsmc.cli.errors import INTERRUPTED, print_error, reported
from llmsmc.cli.options import DebugOption, DeviceOption


def train(
    world: Annotated[Literal["minimath"], typer.Argument(help="What the models are trained on.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="A folder a stage; a training that lies there is taken up again.",
        ),
    ] = Path("runs/minimath"),
    seed: Annotated[
        int, typer.Option(metavar="INTEGER", help="Of the weights and the problems.")
    ] = defaults.DEFAULT_SEED,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Only this stage, of which the ones before lie in DIR; can be repeated.",
            show_default="all",
        ),
    ] = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="A few updates a stage, to try the machinery.")
    ] = False,
    device: DeviceOption = None,
    debug: DebugOption = False,
) -> None:
    """Train the embedded models; can be interrupted and taken up again."""
    with reported(debug):
        with console.waiting("Starting"):
            from llmsmc.cli import train_run
            from llmsmc.cli.quiet import quiet_libraries
        quiet_libraries(debug)
        try:
            train_run.train(out, seed=seed, only=only, device=device, brief=brief)
        except KeyboardInterrupt:
            print_error("interrupted; the same command goes on from the last checkpoint")
            raise typer.Exit(INTERRUPTED) from None
