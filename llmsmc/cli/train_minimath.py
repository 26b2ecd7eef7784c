"""`llmsmc train minimath`: make the embedded models again."""

from pathlib import Path

import typer

from llmsmc import defaults
from llmsmc.cli import console, options
from llmsmc.cli.errors import INTERRUPTED, print_error, reported


@options.taking(
    options.option(
        None,
        "out",
        "DIR",
        "A folder a stage; a training that lies there is taken up again.",
        Path,
        Path("runs/minimath"),
    ),
    options.option(
        None, "seed", "INTEGER", "Of the weights and the problems.", int, defaults.DEFAULT_SEED
    ),
    options.option(
        None,
        "only",
        "STAGE",
        "Only this stage, of which the ones before lie in DIR; can be repeated.",
        list[str],
        show_default="all",
    ),
    options.option(
        None, "brief", None, "A few updates a stage, to try the machinery.", bool, False
    ),
    options.DEVICE,
    options.DEBUG,
)
def train_minimath(
    *,
    out: Path,
    seed: int,
    only: list[str] | None,
    brief: bool,
    device: str | None,
    debug: bool,
) -> None:
    """Train the embedded models; can be interrupted and taken up again."""
    with reported(debug):
        with console.waiting("Starting"):
            from llmsmc.cli import train_minimath_run
            from llmsmc.cli.quiet import quiet_libraries
        quiet_libraries(debug)
        try:
            train_minimath_run.train(out, seed=seed, only=only, device=device, brief=brief)
        except KeyboardInterrupt:
            print_error("interrupted; the same command goes on from the last checkpoint")
            raise typer.Exit(INTERRUPTED) from None
