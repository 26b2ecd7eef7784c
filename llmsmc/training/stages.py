"""The stages of a training, one after the other, each taken up where it was left."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError

from llmsmc.core.checks import require_choice, require_count
from llmsmc.core.counted import agreeing, counted
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Dataset, Example
from llmsmc.grading.forms import answer_forms
from llmsmc.models import LanguageModel, RewardModel
from llmsmc.models.policies.fingerprint import Fingerprints, fingerprints
from llmsmc.models.policies.policy import Policy
from llmsmc.models.rewards.probe import (
    FeatureFolder,
    Probe,
    train_probe,
)
from llmsmc.models.rewards.reward import Reward
from llmsmc.models.text.stopping import step_rule
from llmsmc.registry import defined_at
from llmsmc.solving import loading
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import chosen_step
from llmsmc.solving.step_notation import step_text
from llmsmc.storage.folder_lock import lock_folder
from llmsmc.storage.json_files import unwritable
from llmsmc.training.checkers import named_checker
from llmsmc.training.classifier import Classifier
from llmsmc.training.fitting import Fit, TextSolution, fitted
from llmsmc.training.folder import STAGES, TrainingFolder
from llmsmc.training.labels import Labelling, in_flight, label_missing
from llmsmc.training.report import Report, card_text, report_of, write_report
from llmsmc.training.samples import draw_missing, is_solution
from llmsmc.training.sampling import Sampling
from llmsmc.training.scoring import (
    Labelled,
    joined,
    judge_missing,
    labelled_solution,
    learnt_labels,
    score_missing,
    scores_in,
)

Values = dict[str, Any]

METHODS: Final = ("probe", "adapter", "head")

TRAINED: Final = "the trained reward"


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
        range: only the questions at these places, as in `llmsmc.evaluate`.
        labels: the labeller, one of `llmsmc.training.labels.LABELLERS`.
        checker: the name of the checker of that labeller.
        redraw: whether a step that the checker calls wrong is drawn anew
            (`llmsmc.training.redrawing`).
        num_continuations: how many continuations are drawn behind a step at most.
        hard: whether a step is right as soon as any continuation ends right.
        method: "probe", "adapter" or "head".
        base: the model on which the method "head" puts a head.
        fit: how an adapter or a head is trained; by default with an adapter of rank 16 on the
            policy, and without one on another model.
        layers: the layers that a probe reads.
        also: further rewards that are measured beside the trained one, by their names.
    """

    settings: Settings
    dataset: Dataset
    num_samples: int = 8
    max_tokens: int | None = None
    in_flight: int | None = None
    seed: int = 0
    range: str | None = None
    labels: str = "outcome"
    checker: str | None = None
    redraw: bool = False
    num_continuations: int = 16
    hard: bool = False
    method: str = "probe"
    base: str | None = None
    fit: Fit | None = None
    layers: tuple[int, ...] | None = None
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what can be checked before a model is loaded."""
        require_count("samples", self.num_samples)
        _ = self.questions
        require_choice("method", self.method, METHODS)
        if (self.base is not None) != (self.method == "head"):
            raise InputError(
                f"A head is put on a model. Got method={self.method!r} and base={self.base!r}; "
                "accepted: --method head with --base MODEL, or another method without."
            )
        if self.redraw and self.checker is None:
            raise InputError(
                "Wrong steps are drawn anew where a checker tells them. Got redraw without one; "
                "accepted: --redraw beside --labels checker --checker NAME."
            )
        _ = self.labelling
        for name in self.also:
            _ = replace(self.settings, reward=name)

    @property
    def labelling(self) -> Labelling:
        """How steps are labelled."""
        checker = None if self.checker is None else named_checker(self.checker)
        return Labelling(self.labels, checker, self.num_continuations, self.hard)

    @property
    def fitting(self) -> Fit:
        """How an adapter or a head is trained."""
        if self.fit is not None:
            return self.fit
        return Fit.of(rank=16 if self.method == "adapter" else 0, seed=self.seed)

    @property
    def questions(self) -> tuple[Example, ...]:
        """The questions that are used."""
        return self.dataset.part(self.range).examples

    def sampling(self, policy: Policy, features: FeatureFolder | None = None) -> Sampling:
        """Return how solutions are drawn from the policy, loaded, and what is recorded of it."""
        return Sampling(
            policy,
            step_rule(chosen_step(self.settings, policy)),
            num_samples=self.num_samples,
            temperature=self.settings.temperature,
            system=self.settings.system,
            max_tokens=self.max_tokens,
            in_flight=self.in_flight,
            seed=self.seed,
            answer_forms=answer_forms(self.settings.answer_forms),
            features=features,
            checker=self.labelling.checker if self.redraw else None,
        )

    def samples_config(self, policy: Policy, sampling: Sampling) -> Values:
        """Return everything that the solutions depend on."""
        settings = self.settings
        first, last = self.dataset.places(self.range)
        redraw = {"redraw": self.checker} if self.redraw else {}
        return redraw | {
            "policy": policy.name,
            "policy_fingerprint": fingerprint_of(policy),
            "quantization": policy.quantization or "none",
            "dtype": dtype_of(policy),
            "adapter": None if settings.adapter is None else str(settings.adapter),
            "dataset": self.dataset.name,
            "dataset_fingerprint": self.dataset.fingerprint,
            "first": first,
            "last": last,
            "samples": self.num_samples,
            "temperature": float(sampling.temperature),
            "system": sampling.system,
            "max_tokens": sampling.max_tokens,
            "step": step_text(self.settings.step),
            "in_flight": sampling.num_in_flight,
            "seed": self.seed,
            "answer_forms": list(sampling.answer_forms),
        }

    def labels_config(self, samples: Sequence[Values]) -> Values:
        """Return everything that the labels depend on, besides the solutions."""
        labelling = self.labelling
        config: Values = {"labels": self.labels, "checker": self.checker}
        if self.checker is not None and self.checker != "minimath":
            config["checker_defined_at"] = defined_at(labelling.checker)
        if labelling.draws:
            solutions = [row for row in samples if is_solution(row)]
            config |= {"continuations": self.num_continuations, "hard": self.hard}
            config |= {"in_flight": in_flight(solutions, labelling)}
        return config

    def training_config(self) -> Values:
        """Return everything that the reward depends on, besides the labels."""
        config: Values = {"method": self.method, "seed": self.seed}
        config["until_error"] = self.labels == "checker"
        if self.method == "probe":
            return config | {"layers": None if self.layers is None else list(self.layers)}
        return config | {"base": self.base} | asdict(self.fitting)


Watch = Callable[[Progress], None]
"""Called whenever something is done."""


def run(
    training: RewardTraining,
    out: Path,
    *,
    until: str = "report",
    report_only: bool = False,
    reuse: Path | None = None,
    watch: Watch = lambda progress: None,
) -> Report | None:
    """Run the stages up to one of them; return the report if it is made.

    Args:
        training: the training.
        out: its folder; what lies there is taken up again.
        until: the last stage that is run.
        report_only: whether nothing is trained, and `also` is measured alone.
        reuse: the folder of another training, from which stages that have the same configuration
            are taken over.
        watch: told about what is done.

    Raises:
        InputError: the folder belongs to another configuration, or the stages before make it
            impossible to go on; what was computed is kept.
    """
    require_choice("until", until, STAGES)
    if report_only and not training.also:
        raise InputError(
            "A report alone is one of other rewards. Got none; accepted: --reward REWARD beside "
            "--report-only."
        )
    with lock_folder(out, "training"):
        folder = TrainingFolder(out)
        policy = loading.load_policy(_by_transformers(training.settings))
        if training.method != "head" and not report_only and STAGES.index(until) > 1:
            _require_here(policy, training.method)
        features = None
        if training.method == "probe" and isinstance(policy, LanguageModel) and not report_only:
            features = FeatureFolder(folder.features, policy, training.layers)
        stages = _Stages(training, policy, folder, features, reuse, watch)
        stages.samples()
        if until == "samples":
            return None
        stages.labels()
        if until == "labels":
            return None
        if not report_only:
            stages.training()
        return None if until == "training" else stages.report(report_only=report_only)


@dataclass(eq=False)
class _Stages:
    """The stages of a training in its folder."""

    job: RewardTraining
    policy: Policy
    folder: TrainingFolder
    features: FeatureFolder | None
    reuse: Path | None
    watch: Watch
    solutions: list[Labelled] = field(default_factory=list)

    def samples(self) -> None:
        """Draw solutions."""
        job, policy = self.job, self.policy
        sampling, questions = job.sampling(policy, self.features), job.questions
        _ = policy.prompt_ids("What is 1 + 1?", sampling.system)  # refused before anything is done
        config = job.samples_config(policy, sampling)
        begun = self.folder.stages.get("samples", {}).get("policy_fingerprint")
        if isinstance(begun, str):  # a hash of all bytes, of an earlier version: it says nothing
            config["policy_fingerprint"] = begun
        self._open("samples", config)
        self.sample_lines = lines = self.folder.lines("samples")
        tokens = 0

        def tell() -> None:
            solutions = [row for row in lines.rows if is_solution(row)]
            right = sum(bool(row["correct"]) for row in solutions)
            share = f"{100 * right / len(solutions):.1f} % right" if solutions else "- right"
            done = len({row["id"] for row in lines.rows})
            self.watch(Progress("samples", done, len(questions), "questions", share, tokens))

        tell()
        for rows in draw_missing(questions, sampling, lines):
            tokens += sum(len(row["token_ids"]) for row in rows if is_solution(row))
            tell()

    def labels(self) -> None:
        """Label the steps."""
        job, samples = self.job, self.sample_lines.rows
        if job.labels != "checker":
            _require_both_outcomes(samples)
        self._open("labels", job.labels_config(samples))
        lines, total = self.folder.lines("labels"), sum(map(is_solution, samples))
        tokens, right, count = 0, 0.0, 0

        def tell(rows: Sequence[Values]) -> None:
            nonlocal right, count
            labels = [label for row in rows for label in row["labels"] if label is not None]
            right, count = right + sum(labels), count + len(labels)
            share = f"{100 * right / count:.1f} % right" if count else "- right"
            self.watch(Progress("labels", len(lines.rows), total, "solutions", share, tokens))

        tell(lines.rows)
        for rows in label_missing(samples, job.sampling(self.policy), job.labelling, lines):
            tokens += sum(row.get("tokens", 0) for row in rows)
            tell(rows)
        self.solutions = joined(samples, lines.rows)

    def training(self) -> None:
        """Train the reward, unless it is there already."""
        job, folder = self.job, self.folder
        folder.open("training", job.training_config())
        if folder.reward.exists():
            return
        partial = folder.path / ".reward.partial"
        shutil.rmtree(partial, ignore_errors=True)
        train = self._probe if job.method == "probe" else self._classifier
        try:
            train(partial)
            partial.replace(folder.reward)
        except (OSError, SafetensorError) as error:
            raise unwritable(folder.path, error) from error

    def _probe(self, target: Path) -> None:
        job = self.job
        assert isinstance(self.policy, LanguageModel), "see _require_here"

        def tell(stage: str, done: int, total: int) -> None:
            self.watch(Progress(f"probe, {stage}", done, total, ""))

        train_probe(
            self.policy,
            [labelled_solution(each, self._prompt_ids) for each in self.solutions],
            target,
            work=self.folder.features,
            layers=job.layers,
            seed=job.seed,
            progress=tell,
        )

    def _classifier(self, target: Path) -> None:
        job, fit = self.job, self.job.fitting
        model = self.policy
        if job.base is not None:
            model = LanguageModel.from_pretrained(
                job.base, device=job.settings.device, dtype=job.settings.dtype
            )
        assert isinstance(model, LanguageModel), "see _require_here"
        classifier = Classifier(model, rank=fit.rank, seed=fit.seed)
        texts = [
            TextSolution(
                each.sample["question"],
                tuple(each.labels["steps"]),
                learnt_labels(each),
                each.split,
            )
            for each in self.solutions
        ]
        for now in fitted(classifier, texts, fit, self.folder.features):
            remark = "" if now.loss is None else f"loss {now.loss:.3f}"
            if now.validation_loss is not None:
                remark += f"{', ' if remark else ''}validation {now.validation_loss:.3f}"
            self.watch(Progress(job.method, now.done, now.total, "batches", remark, now.tokens))
        classifier.save(target)
        if job.base is None:  # its layers have become those of the classifier
            self.policy = loading.load_policy(_by_transformers(job.settings))

    def report(self, *, report_only: bool) -> Report:
        """Score the steps of the test questions by all rewards, and write the report."""
        job, folder = self.job, self.folder
        held_out = [each for each in self.solutions if each.split == "test"]
        scores = dict[str, Mapping[str, Sequence[float]]]()
        for name in [*([] if report_only else [TRAINED]), *job.also]:
            reward = self._trained() if name == TRAINED else self._named(name)
            scores[name] = self._scores(name, reward, held_out)
        config: Values = {name: folder.stages[name] for name in STAGES if name in folder.stages}
        report = report_of(self.solutions, scores, config)
        if report_only:
            write_report(report, folder.path)
        else:
            card = card_text(report, job.method, self._notes())
            write_report(report, folder.reward, card=card)
        return report

    def _scores(
        self, name: str, reward: Reward, held_out: Sequence[Labelled]
    ) -> dict[str, list[float]]:
        digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
        if name == TRAINED:
            digest = "trained"
        lines = self.folder.lines(f"scores-{digest}")

        def tell(done: int) -> None:
            self.watch(Progress(f"report, {name}", done, len(held_out), "solutions"))

        tell(len(lines.rows))
        if name == TRAINED and isinstance(reward, Probe):
            judge_missing(reward, held_out, lines, self._prompt_ids, self.folder.features, tell)
        else:
            for _ in score_missing(reward, held_out, lines, self._prompt_ids):
                tell(len(lines.rows))
        return scores_in(lines.rows)

    def _trained(self) -> Reward:
        """Return the reward of this folder, as `--reward` loads it."""
        path = str(self.folder.reward)
        if self.job.method == "probe":
            assert isinstance(self.policy, LanguageModel), "see _require_here"
            return Probe.from_pretrained(path, self.policy)
        settings = self.job.settings
        return RewardModel.from_pretrained(path, device=settings.device, dtype=settings.dtype)

    def _named(self, name: str) -> Reward:
        answers = {each.question: each.answer for each in self.job.questions}
        settings = replace(self.job.settings, reward=name)
        return loading.load_reward(settings, policy=self.policy, answers=answers)

    def _notes(self) -> list[str]:
        """Return what is to be said of the data, a line each."""
        found = []
        for split in ("train", "validation", "test"):
            of = [each for each in self.solutions if each.split == split]
            labels = [x for each in of for x in learnt_labels(each) if x == x]
            right = sum(labels) / len(labels) if labels else 0.0
            found.append(
                f"{split.capitalize()}: "
                f"{counted(len({each.sample['id'] for each in of}), 'question')}, "
                f"{counted(len(of), 'solution')}, {counted(len(labels), 'labelled step')}, "
                f"{100 * right:.1f} % right"
            )
        return found

    def _prompt_ids(self, question: str) -> tuple[int, ...]:
        return self.policy.prompt_ids(question, self.job.settings.system)

    def _open(self, stage: str, values: Values) -> None:
        if self.reuse is not None and self.folder.can_reuse(stage, values, self.reuse):
            if stage == "samples" and self.features is not None:
                self.features.take_over(TrainingFolder(self.reuse).features)
            self.folder.reuse(stage, values, self.reuse)
        self.folder.open(stage, values)


def _by_transformers(settings: Settings) -> Settings:
    """Return the settings with the engine whose network can be read and trained."""
    return replace(settings, engine="transformers") if settings.engine == "auto" else settings


def _require_here(policy: Policy, method: str) -> None:
    if not isinstance(policy, LanguageModel):
        raise InputError(
            "The weights of a policy are read by transformers, in this process. Got "
            f"{policy.name!r}, which is elsewhere, with method={method!r}; accepted: --method head "
            "--base MODEL, or a policy in this process."
        )


def _require_both_outcomes(samples: Sequence[Values]) -> None:
    """Raise `InputError` if all solutions are right, or all wrong."""
    solutions = [row for row in samples if is_solution(row)]
    right = sum(bool(row["correct"]) for row in solutions)
    if 0 < right < len(solutions):
        return
    if not solutions:
        reason = next((row["error"] for row in samples), "no questions")
        raise InputError(f"No question could be asked. Got {reason!r} for the first of them.")
    answered = sum(row["found"] is not None for row in solutions)
    raise InputError(
        "A reward is trained on right solutions and wrong ones. Got "
        f"{counted(len(solutions), 'solution')}, of which {right} {agreeing(right, 'is', 'are')} "
        f"right and {answered} {agreeing(answered, 'gives', 'give')} an answer; "
        "accepted: "
        + (
            "harder questions."
            if right
            else "easier questions, another policy, or a system prompt that asks for the answer in "
            "\\boxed{}. The solutions are kept."
        )
    )


def fingerprint_of(policy: Policy) -> Fingerprints | None:
    """Return the fingerprints of a policy in this process, None for one on a server."""
    return fingerprints(policy.model) if isinstance(policy, LanguageModel) else None


def dtype_of(policy: Policy) -> str | None:
    """Return the precision of a policy in this process, None for one on a server."""
    if not isinstance(policy, LanguageModel):
        return None
    return str(policy.model.dtype).removeprefix("torch.")
