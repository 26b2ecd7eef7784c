"""The picture of the README: one run, from its particles to the posterior of the answer.

    python -m benchmarks.picture

draws `docs/figures/run.svg`: the run of `llmsmc solve --sample-problem 3`, in single precision.
"""

from pathlib import Path
from typing import Final

import matplotlib
import matplotlib.pyplot as plt

from benchmarks.embedded import embedded_models
from llmsmc.evaluation.datasets import sample_problem
from llmsmc.inference import BootstrapFilter
from llmsmc.models import Reasoning

OUT: Final = Path(__file__).resolve().parent.parent / "docs" / "figures" / "run.svg"
LEVEL, SEED = 3, 0


def main() -> None:
    """Run the filter and draw it."""
    matplotlib.use("svg")
    problem = sample_problem(LEVEL, SEED)
    model = Reasoning(*embedded_models(), problem.question)
    posterior = BootstrapFilter(num_particles=32).run(model, seed=SEED)
    with plt.rc_context({"svg.hashsalt": "llmsmc", "svg.fonttype": "path"}):
        figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
        posterior.plot_genealogy(axes[0])
        posterior.plot_ess(axes[1])
        posterior.plot_answers(axes[2])
        figure.savefig(OUT, metadata={"Date": None})
    print(f"{OUT}: the true answer is {problem.answer}")


if __name__ == "__main__":
    main()
