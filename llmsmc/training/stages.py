"""The stages of a training, one after the other, each taken up where it was left."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmsmc.core.checks import require_choice, require_count
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Dataset
from llmsmc.models import LanguageModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.text.stopping import step_rule
from llmsmc.solving import loading
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import chosen_step
from llmsmc.solving.step_notation import step_text
from llmsmc.storage.folder_lock import lock_folder
from llmsmc.training.blocks import BLOCKS
from llmsmc.training.folder import STAGES, TrainingFolder
from llmsmc.training.samples import Sampling, draw_missing, is_solution

Values = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: its name.
        done: how much of it is done, in `unit`.
        total: how much there is to do.
        unit: what is counted.
        remark: what can be said of the result so far.
        tokens: how many tokens were drawn or read for it since it was taken up.
    """

    stage: str
    done: int
    total: int
    unit: str
    remark: str = ""
    tokens: int = 0


@dataclass(frozen=True, eq=False)
class RewardTraining:
    """A training of a process reward model.

    Attributes:
        settings: the policy and how it is asked: the model, its precision, the system prompt, the
            temperature and the rule of steps.
        dataset: questions with answers.
        num_samples: the number of solutions of each question.
        max_tokens: the number of tokens at which a solution is cut off.
        in_flight: how many questions are under way at a time.
        seed: of the solutions, the splits and the training.
        first: the number of the first question, from 1.
        last: the number of the last question; by default that of the data set.
    """

    settings: Settings
    dataset: Dataset
    num_samples: int = 8
    max_tokens: int | None = None
    in_flight: int | None = None
    seed: int = 0
    first: int = 1
    last: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before a model is loaded."""
        require_count("samples", self.num_samples)
        require_count("first", self.first)
        if self.last is not None:
            require_count("last", self.last, minimum=self.first)
        if not self.questions:
            raise InputError(
                f"There are no such questions. Got first={self.first} and last={self.last} of "
                f"{len(self.dataset.examples)}; accepted: numbers from 1 on."
            )

    @property
    def questions(self) -> tuple[Any, ...]:
        """The questions that are used."""
        return self.dataset.examples[self.first - 1 : self.last]

    def sampling(self, policy: Policy) -> Sampling:
        """Return how solutions are drawn from the policy, loaded."""
        return Sampling(
            policy,
            step_rule(chosen_step(self.settings, policy)),
            num_samples=self.num_samples,
            temperature=self.settings.temperature,
            system=self.settings.system,
            max_tokens=self.max_tokens,
            in_flight=self.in_flight,
            seed=self.seed,
        )

    def samples_config(self, policy: Policy, sampling: Sampling) -> Values:
        """Return everything that the solutions depend on."""
        settings = self.settings
        return {
            "policy": policy.name,
            "policy_fingerprint": fingerprint(policy),
            "quantization": policy.quantization or "none",
            "dtype": dtype_of(policy),
            "adapter": None if settings.adapter is None else str(settings.adapter),
            "dataset": self.dataset.name,
            "dataset_fingerprint": self.dataset.fingerprint,
            "first": self.first,
            "last": self.first - 1 + len(self.questions),
            "samples": self.num_samples,
            "temperature": float(sampling.temperature),
            "system": sampling.system,
            "max_tokens": sampling.max_tokens,
            "step": step_text(self.settings.step),
            "in_flight": sampling.num_in_flight,
            "block_size": BLOCKS * sampling.num_in_flight,
            "seed": self.seed,
        }


def run(
    training: RewardTraining, out: Path, *, until: str = "report", reuse: Path | None = None
) -> Iterator[Progress]:
    """Run the stages up to one of them; yield how far they are.

    Args:
        training: the training.
        out: its folder; what lies there is taken up again.
        until: the last stage that is run.
        reuse: the folder of another training, from which stages that have the same configuration
            are taken over.

    Raises:
        InputError: the folder belongs to another configuration, or the stages before make it
            impossible to go on; what was computed is kept.
    """
    require_choice("until", until, STAGES)
    with lock_folder(out, "training"):
        folder = TrainingFolder(out)
        policy = loading.load_policy(training.settings)
        yield from _samples(training, policy, folder, reuse)


def _samples(
    training: RewardTraining, policy: Policy, folder: TrainingFolder, reuse: Path | None
) -> Iterator[Progress]:
    sampling, questions = training.sampling(policy), training.questions
    _ = policy.prompt_ids("What is 1 + 1?", sampling.system)  # refused before anything is written
    values = training.samples_config(policy, sampling)
    if reuse is not None:
        folder.reuse("samples", values, reuse)
    folder.open("samples", values)
    lines, tokens = folder.lines("samples"), 0
    missing = draw_missing(questions, sampling, lines)

    def progress() -> Progress:
        solutions = [row for row in lines.rows if is_solution(row)]
        right = sum(bool(row["correct"]) for row in solutions)
        share = f"{100 * right / len(solutions):.1f} % right" if solutions else "- right"
        done = len({row["id"] for row in lines.rows})
        return Progress("samples", done, len(questions), "questions", share, tokens)

    yield progress()
    for rows in missing:
        tokens += sum(len(row["token_ids"]) for row in rows if is_solution(row))
        yield progress()


def fingerprint(policy: Policy) -> str | None:
    """Return a hash of the weights of a policy in this process, None for one on a server."""
    if not isinstance(policy, LanguageModel):
        return None
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in policy.model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def dtype_of(policy: Policy) -> str | None:
    """Return the precision of a policy in this process, None for one on a server."""
    if not isinstance(policy, LanguageModel):
        return None
    return str(policy.model.dtype).removeprefix("torch.")
