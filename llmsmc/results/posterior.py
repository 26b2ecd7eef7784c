"""The result of a run: a weighted population with its estimates, plots, exports and files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmsmc.core.counted import counted
from llmsmc.errors import InputError
from llmsmc.results.estimates import WeightedParticles
from llmsmc.storage import serialization

if TYPE_CHECKING:
    import matplotlib.axes


@dataclass(frozen=True, eq=False, repr=False)
class Posterior(WeightedParticles):
    """The result of a run: N weighted particles that approximate the target, with their history.

    The attributes and the estimates are those of `WeightedParticles`.
    """

    def __getattr__(self, name: str) -> Any:
        """Build the posterior, if it is to be built by its `build`, and return the attribute.

        The loops of algorithms yield such posteriors, so that those that nobody reads cost nothing.
        """
        if name.startswith("__") or "build" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        built = vars(self).pop("build")()
        vars(self).update(built.__getstate__())
        return getattr(self, name)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, for copies and pickles."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def save(self, path: str | Path) -> None:
        """Write the posterior into the folder `path`, as JSON and safetensors.

        Raises:
            InputError: the posterior cannot be written; an earlier save in the folder is unchanged.
        """
        serialization.save(self, path)

    @classmethod
    def load(cls, path: str | Path, types: Iterable[type] = ()) -> "Posterior":
        """Read a posterior; `types` are the dataclasses of your own that its particles use.

        Raises:
            InputError: the folder holds no posterior, or its parts are inconsistent.
        """
        posterior = serialization.load(path, types)
        if not isinstance(posterior, cls):
            raise InputError(f"{path} holds a {type(posterior).__name__}; accepted: a Posterior.")
        return posterior

    def to_arviz(
        self,
        num_draws: int | None = None,
        seed: int = 0,
        *,
        resample: bool = True,
        others: Sequence[WeightedParticles] = (),
    ) -> Any:
        """Return the posterior as ArviZ data, resampled to draws of equal weight.

        Args:
            num_draws: draws of each chain; by default the number of its particles.
            seed: the seed of the resampling.
            resample: if false, draws are the particles, and `sample_stats` has their weights.
            others: posteriors of further runs, whose chains are added to those of this run.

        Returns:
            An `xarray.DataTree`; before version 1 of ArviZ an `arviz.InferenceData`. Its groups are
            described in `llmsmc.results.arviz_data`.
        """
        from llmsmc.results import arviz_data

        return arviz_data.to_arviz(
            [self, *others], num_draws=num_draws, seed=seed, resample=resample
        )

    def plot_ess(self, ax: "matplotlib.axes.Axes | None" = None) -> "matplotlib.axes.Axes":
        """Draw the effective sample size of each step; return the axes."""
        from llmsmc.results import plots

        return plots.plot_ess(self, ax)

    def plot_evidence(self, ax: "matplotlib.axes.Axes | None" = None) -> "matplotlib.axes.Axes":
        """Draw the log-evidence up to each step, with its standard error; return the axes.

        Raises:
            InputError: the algorithm estimates no evidence.
        """
        from llmsmc.results import plots

        return plots.plot_evidence(self, ax)

    def plot_genealogy(self, ax: "matplotlib.axes.Axes | None" = None) -> "matplotlib.axes.Axes":
        """Draw the genealogy of the particles; return the axes."""
        from llmsmc.results import plots

        return plots.plot_genealogy(self, ax)

    def plot_answers(
        self, ax: "matplotlib.axes.Axes | None" = None, *, max_answers: int = 10
    ) -> "matplotlib.axes.Axes":
        """Draw the probabilities of the answers, for models of text; return the axes."""
        from llmsmc.results import plots

        return plots.plot_answers(self, ax, max_answers=max_answers)

    def _repr_html_(self) -> str:
        """Return the summary that notebooks display."""
        from llmsmc.results import notebook as html_summary

        return html_summary.html_summary(self)

    def __repr__(self) -> str:
        """Return a summary of one line."""
        known = self.log_evidence
        return (
            f"Posterior({self.algorithm}, {counted(self.num_particles, 'particle')}, "
            f"{counted(len(self.history), 'step')}, "
            f"log_evidence={known if known is None else f'{known:.4f}'}, "
            f"effective_sample_size={self.effective_sample_size:.1f})"
        )
