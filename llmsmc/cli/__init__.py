"""The command line: one command a file, nothing heavy imported before a command runs."""

from typing import Annotated

import typer

from llmsmc import __version__
from llmsmc.cli.ablate import ablate
from llmsmc.cli.errors import LineErrors
from llmsmc.cli.evaluate import evaluate
from llmsmc.cli.inspect import inspect
from llmsmc.cli.show import show
from llmsmc.cli.solve import solve
from llmsmc.cli.train_minimath import train_minimath
from llmsmc.cli.train_reward import train_reward

app = typer.Typer(
    name="llmsmc",
    cls=LineErrors,
    help="Probabilistic inference over the reasoning of language models.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("solve")(solve)
app.command("eval")(evaluate)
app.command("show")(show)
app.command("inspect")(inspect)
app.command("ablate")(ablate)
train = typer.Typer(
    name="train",
    cls=LineErrors,
    help="Train a process reward model, or the embedded models again.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
train.command("reward")(train_reward)
train.command("minimath")(train_minimath)
app.add_typer(train)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"llmsmc {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Probabilistic inference over the reasoning of language models."""
