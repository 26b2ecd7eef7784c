"""Running cells: each goes on where it was left, and is done at once where it is whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.real_questions import laws
from benchmarks.real_questions.plan import (
    CELLS,
    NUM_SAMPLES,
    REWARDS,
    SEED,
    SETTINGS,
    Cell,
    World,
    check_name,
)
from llmsmc import evaluate
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Dataset, answers_of, load_file
from llmsmc.models.rewards.probe import Probe
from llmsmc.solving import loading
from llmsmc.solving.settings import Settings
from llmsmc.storage.folder_lock import lock_folder
from llmsmc.storage.json_files import write_json
from llmsmc.training.folder import TrainingFolder
from llmsmc.training.lines import Lines
from llmsmc.training.sampling import ROWS_IN_FLIGHT
from llmsmc.training.scoring import Labelled, joined, judge_missing, score_missing
from llmsmc.training.stages import RewardTraining
from llmsmc.training.stages import run as run_stages


@dataclass(frozen=True)
class Job:
    """What cells are run with.

    Attributes:
        world: the questions that are asked.
        folder: the folder of the world.
        questions: the file of the questions.
        policy: the policy.
        larger: the larger model; None where no cell asks for it.
        rewards: by name of `REWARDS`, how `llmsmc` is told of a reward that has no notation of its
            own: a folder, or "ratio:FILE".
        settings: settings in addition to those of all cells, such as the precision of the models.
        num_samples: of each question, by name of the cell.
    """

    world: World
    folder: Path
    questions: Path
    policy: str
    larger: str | None = None
    rewards: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    num_samples: Mapping[str, int] = field(default_factory=dict)

    def settings_of(self, reward: str | None = None, **others: Any) -> dict[str, Any]:
        """Return all settings of a cell, with the reward of that name."""
        chosen = dict(SETTINGS) | dict(self.settings) | {"policy": self.policy} | others
        if reward is not None:
            chosen |= {"reward": self.reward(reward), "aggregation": REWARDS[reward].aggregation}
        return chosen

    @property
    def dataset(self) -> Dataset:
        """The questions that are asked."""
        found, world = load_file(str(self.questions)), self.world
        if world.levels:
            chosen = tuple(each for each in found.examples if each.level in world.levels)
            mark = "-levels-" + "-".join(map(str, world.levels))
            found = replace(
                found,
                name=found.name + mark,
                fingerprint=found.fingerprint + mark,
                examples=chosen,
            )
        return found.part(None, world.count)

    def model(self, *, is_larger: bool) -> str:
        """Return the policy, or the larger model."""
        if not is_larger:
            return self.policy
        if self.larger is None:
            raise InputError(
                "This cell is one of the larger model. Got none; accepted: --larger MODEL."
            )
        return self.larger

    def reward(self, name: str) -> str:
        """Return how `llmsmc` is told of a reward."""
        notation = REWARDS[name].notation or self.rewards.get(name)
        if notation is None:
            raise InputError(
                f"The reward {name} is one of the command line. Got none; accepted: "
                f"--reward {name}=REWARD."
            )
        return notation


def run(job: Job, name: str) -> str:
    """Run a cell, and return what can be said of it in a line.

    Raises:
        InputError: there is no such cell, or something that it needs is missing.
    """
    check_name(name)
    if name.startswith("samples"):
        return draw(job, name)
    if name.startswith("scores-"):
        return score(job, name.removeprefix("scores-"))
    if name.startswith("quantized-"):
        return compare_laws(job, name)
    return answer(job, CELLS[name])


def answer(job: Job, cell: Cell) -> str:
    """Run a cell that answers the questions by an algorithm."""
    policy = job.model(is_larger=cell.is_larger)
    found = evaluate(
        job.dataset,
        cell.algorithm,
        SEED,
        None if cell.algorithm == "greedy" else cell.particles,
        out=job.folder / cell.name,
        in_flight=max(1, ROWS_IN_FLIGHT // cell.particles),
        solutions="all",
        **job.settings_of(cell.reward, policy=policy, quantization=cell.quantization),
    )
    return "no accuracy" if found.accuracy is None else f"{100 * found.accuracy:.1f} %"


def draw(job: Job, name: str) -> str:
    """Draw independent solutions of each question, and cut them into steps."""
    training = training_of(job, name)
    run_stages(training, job.folder / name, until="labels")
    return f"{training.num_samples} solutions of each question"


def training_of(job: Job, name: str) -> RewardTraining:
    """Return the training of which the samples of a cell are the first stages."""
    policy = job.model(is_larger=name == "samples-larger")
    settings = Settings(**job.settings_of(policy=policy))
    return RewardTraining(
        settings,
        job.dataset,
        num_samples=job.num_samples.get(name, NUM_SAMPLES),
        max_tokens=settings.max_tokens,
        seed=SEED,
    )


def score(job: Job, name: str) -> str:
    """Score the steps of all samples by a reward; the samples and their steps are there."""
    folder = job.folder / "samples"
    settings = Settings(**job.settings_of(name))
    with lock_folder(folder, "training"):
        solutions = solutions_in(folder)
        policy = loading.load_policy(settings)
        reward = loading.load_reward(
            settings, policy=policy, answers=answers_of(job.dataset.examples)
        )
        lines = Lines(folder / f"scores-{name}.jsonl")

        def prompt_ids(question: str) -> tuple[int, ...]:
            return policy.prompt_ids(question, settings.system)

        def tell(done: int) -> None:
            print(f"\r{done} of {len(solutions)} solutions", end="", flush=True)

        if isinstance(reward, Probe):
            features = TrainingFolder(folder).features
            judge_missing(reward, solutions, lines, prompt_ids, features, tell)
        else:
            for _ in score_missing(reward, solutions, lines, prompt_ids):
                tell(len(lines.rows))
    return f"\r{len(lines.rows)} solutions scored"


def solutions_in(folder: Path) -> list[Labelled]:
    """Return the solutions in a folder of samples, with their steps.

    Raises:
        InputError: there are none.
    """
    found = joined(Lines(folder / "samples.jsonl").rows, Lines(folder / "labels.jsonl").rows)
    if not found:
        raise InputError(
            f"Solutions are scored that have been drawn. Got none in {str(folder)!r}; accepted: "
            "the cell samples, first."
        )
    return found


def compare_laws(job: Job, name: str) -> str:
    """Compare the law of a quantized policy with that of the policy in full precision."""
    path = job.folder / f"{name}.json"
    if not path.exists():
        kind = name.split("-")[1]
        if name.endswith("-embedded"):
            found = laws.of_embedded(kind)
        else:
            solutions = solutions_in(job.folder / "samples")
            found = laws.of_real(kind, solutions, job.settings_of())
        write_json(path, found)
    return path.read_text().strip()
