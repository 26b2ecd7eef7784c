"""The view of a run on one question while it runs."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from llmsmc.cli.console import foreign, is_animated
from llmsmc.cli.display import bar, decimals
from llmsmc.results import summary
from llmsmc.results.estimates import NO_ANSWER
from llmsmc.results.posterior import Posterior

MAX_ANSWERS = 5
MAX_GLIMPSE = 300  # characters
MAX_QUESTION = 400


class LiveView:
    """A picture of the last snapshot, and of the time that has passed."""

    def __init__(self, question: str, algorithm: str) -> None:
        """Show that nothing has come yet."""
        self._title = algorithm
        self._question = foreign(_shortened(question, MAX_QUESTION), "dim")
        self._spinner = Spinner("dots")
        self._started = time.perf_counter()
        self._body: RenderableType = Text("drawing the first step")

    def update(self, posterior: Posterior) -> None:
        """Take another snapshot."""
        self._body = Group(_figures(posterior), Text(), _answers(posterior), _glimpse(posterior))

    def __rich__(self) -> RenderableType:
        """Draw the picture."""
        seconds = time.perf_counter() - self._started
        self._spinner.update(text=Text(f"{seconds:.0f} s", style="dim"))
        return Panel(
            Group(self._question, Text(), self._body, Text(), self._spinner),
            title=Text(self._title),
            title_align="left",
            border_style="cyan",
        )


@contextlib.contextmanager
def live_view(
    console: Console, question: str, algorithm: str
) -> Iterator[Callable[[Posterior], None]]:
    """Show a run while it goes on; gives the function that takes each snapshot.

    Without a terminal there is nothing to be seen.
    """
    if not is_animated(console):
        yield lambda posterior: None
        return
    view = LiveView(question, algorithm)
    with Live(view, console=console, transient=True, refresh_per_second=8) as live:

        def show(posterior: Posterior) -> None:
            view.update(posterior)
            live.refresh()

        yield show


def _figures(posterior: Posterior) -> Table:
    record, cost, count = posterior.history[-1], posterior.cost, posterior.num_particles
    size = record.effective_sample_size
    seconds = max(cost.seconds, 1e-9)
    going_on, finished, cut = _states(posterior)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row("step", f"{record.step + 1}{', resampled' if record.resampled else ''}")
    table.add_row("effective sample size", f"{size:.1f} of {count}", bar(size / count))
    table.add_row("log-evidence", decimals(record.log_evidence))
    speed = cost.generated_tokens / seconds
    table.add_row("tokens", f"{cost.generated_tokens:,}, {speed:,.0f} a second")
    table.add_row("going on", str(going_on), bar(going_on / count))
    table.add_row("finished", str(finished), bar(finished / count))
    table.add_row("truncated", str(cut), bar(cut / count))
    return table


def _states(posterior: Posterior) -> tuple[int, int, int]:
    """Return how many particles go on, have finished, and were cut off."""
    ended = posterior.particles.finished | posterior.truncated
    cut = posterior.particles.truncated & ended
    return int((~ended).sum()), int((ended & ~cut).sum()), int(cut.sum())


def _answers(posterior: Posterior) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column(justify="right")
    table.add_column()
    for each in summary.answer_estimates(posterior)[:MAX_ANSWERS]:
        waiting = each.answer == NO_ANSWER
        name = Text("none yet", style="dim") if waiting else foreign(each.answer, "bold")
        table.add_row(name, f"{each.probability:.1%}", bar(each.probability))
    return table


def _glimpse(posterior: Posterior) -> RenderableType:
    """Return the last step of the heaviest particle."""
    steps = posterior.best().steps
    text = Text("\nheaviest particle: ", style="dim")
    last = _shortened(steps[-1].strip(), MAX_GLIMPSE) if steps else ""
    return text.append_text(foreign(last, "not dim"))


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]} ..."
