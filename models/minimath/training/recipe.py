"""The whole training of the embedded models: tokenizer, policies, samples, reward models.

Each stage writes into a folder of its own and is passed over where its result lies there already;
a stage that was interrupted goes on from its checkpoint. `run` yields progress and prints nothing.

======== ================= ==========================================================
stage    starts from       learns
======== ================= ==========================================================
clean    random weights    exact solutions (not shipped: the ground for two others)
policy   clean             solutions with misconceptions
practice policy            the same, long problems and chains more often
small    random weights    exact solutions, then misconceptions with blind spots
samples  policy            (no training) the default policy solves training problems
ground   clean             (not shipped) to keep what it has read beside what comes next
reward   ground, + 3       misconceptions and inattention, then the policy's own samples
tuned    reward            the same at long problems, the lower layers too
weak     small, + 1 layer  the same, for a fraction of the time, at the markers alone
======== ================= ==========================================================
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from random import Random
from typing import Any, TypedDict

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, Qwen2ForCausalLM

from llmsmc.core.randomness import seeded_globally
from llmsmc.models.minimath.families import FAMILIES
from llmsmc.models.minimath.problem import STEP_SEPARATOR, Problem
from llmsmc.models.minimath.tokenizer import STEP_MARKER, train_tokenizer
from llmsmc.models.minimath.training.cards import write_card
from llmsmc.models.minimath.training.comparison import compare_first
from llmsmc.models.minimath.training.corpus import (
    Batches,
    Example,
    Mixture,
    encode,
    policy_examples,
    token_id,
)
from llmsmc.models.minimath.training.files import copy_weights, read_lines, read_tensors
from llmsmc.models.minimath.training.loop import Progress, Reported, Schedule, train
from llmsmc.models.minimath.training.policy import NextToken, Size, new_policy
from llmsmc.models.minimath.training.reward import (
    Losses,
    StepLabels,
    TokenKept,
    inattentive_examples,
    new_reward_model,
    read_alike,
    sampled_examples,
    synthetic_examples,
)
from llmsmc.models.minimath.training.samples import sample_solutions, training_problems
from llmsmc.models.minimath.world.arithmetic import Rates

Draw = Callable[[Random, float], Example]
"""Draws an example, given how far the training has come, in [0, 1]."""

NATURAL = Rates()
BLIND = Rates(quotient=(1.0, 0.05), method={**Rates().method, "less": 1.0})
"""The small policy never gets a quotient of 8 or more right, nor a story with "less"."""

LOOKED_UP = Mixture(families=(*sorted(FAMILIES), "chains", "stories"))
"""Families in which much has to be looked up come more often, since they are learned last."""

LEARNED_LAST = Mixture(
    drills=0.15, misconceived=1.0, families=(*LOOKED_UP.families, "stories", "stories")
)
"""The problems from which the default policy learns misconceptions first."""

PRACTISED = Mixture(
    drills=0.1,
    misconceived=1.0,
    levels=(0.1, 0.1, 0.2, 0.3, 0.3),
    families=(*sorted(FAMILIES), "chains", "chains", "chains", "equations"),
)
"""The long problems of the last stages."""

SAMPLES_FROM = 0.3
"""The progress of a reward model at which the policy's own samples join its examples."""

NUM_COMPARED = 200
"""Texts from which the first layer on top is set up."""

LARGE_SIZE = Size()
SMALL_SIZE = Size(hidden=128, intermediate=384, layers=3, heads=4, key_value_heads=2)

EVERYWHERE, ON_TOP = Losses(), Losses(language=0.0)
AT_MARKERS = Losses(token=0.0, language=0.1, surprise=0.0)

STAGES = ("clean", "policy", "practice", "samples", "small", "ground", "reward", "tuned", "weak")
"""All stages, in the order in which they are run."""


@dataclass(frozen=True)
class Recipe:
    """The lengths of the stages.

    Attributes:
        schedules: the schedule of each stage that trains.
        num_samples: solutions drawn from the default policy for the reward models.
        num_tokens: tokens in a batch of a policy.
        num_reward_tokens: tokens in a batch of a reward model.
    """

    schedules: Mapping[str, Schedule] = field(
        default_factory=lambda: {name: stage.schedule for name, stage in TRAININGS.items()}
    )
    num_samples: int = 6000
    num_tokens: int = 2000
    num_reward_tokens: int = 1400


def brief() -> Recipe:
    """Return a recipe of a few updates a stage, for trying the machinery."""
    return Recipe(dict.fromkeys(TRAININGS, Schedule(4, num_warmup=1)), 12, 400, 400)


class Sampled(TypedDict):
    """A line of samples: the number of a problem, and the steps of a solution."""

    problem: int
    steps: list[str]


@dataclass(frozen=True)
class StageProgress:
    """Progress of one stage."""

    stage: str
    progress: Progress


def run(
    folder: Path,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    only: Sequence[str] = STAGES,
    device: str | None = None,
    compiled: bool | None = None,
) -> Iterator[StageProgress]:
    """Train the stages of `only`, in order, each with all that it starts from in `folder`.

    Args:
        folder: one folder a stage; `folder/models` holds the finished models in the ordinary
            Hugging Face layout, 16-bit safetensors, each with its card and loss curve.
        recipe: the lengths; by default those of the shipped models.
        seed: the seed of weights and problems.
        only: stages to run.
        device: by default the CUDA device if there is one, else the CPU.
        compiled: whether to compile the networks; by default where a C++ compiler is at hand.

    Raises:
        ValueError: a stage in `only` does not exist, or lacks what it starts from.
    """
    unknown = [stage for stage in only if stage not in STAGES]
    if unknown:
        raise ValueError(f"Got stage {unknown[0]!r}; accepted: {', '.join(STAGES)}.")
    workshop = Workshop(
        folder,
        recipe or Recipe(),
        seed,
        torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        shutil.which("g++") is not None if compiled is None else compiled,
    )
    for stage in STAGES:
        if stage in only and not workshop.is_done(stage):
            for progress in workshop.sample() if stage == "samples" else workshop.train(stage):
                yield StageProgress(stage, progress)


@dataclass(frozen=True)
class Workshop:
    """The folder, the settings and the device of a training."""

    folder: Path
    recipe: Recipe
    seed: int
    device: torch.device
    compiled: bool

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; it is trained where there is none yet."""
        path = self.folder / "tokenizer"
        if not path.exists():
            train_tokenizer(self.seed).save_pretrained(path)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
        return tokenizer

    def policy(self, stage: str | None, size: Size = LARGE_SIZE) -> Qwen2ForCausalLM:
        """Return the policy of a finished stage, or one with random weights."""
        model = new_policy(size, self.tokenizer, self.seed)
        if stage is not None:
            self.load(model, stage)
        return model

    def load(self, model: nn.Module, stage: str) -> None:
        """Load the weights of a finished stage into a model."""
        if not self.is_done(stage):
            raise ValueError(
                f"The stage {stage!r} has to be trained first. Got none in {self.folder / stage}."
            )
        path = self.folder / stage / "checkpoint" / "state.safetensors"
        copy_weights(model, read_tensors(path)[0], path)

    def is_done(self, stage: str) -> bool:
        """Return whether a stage has been finished."""
        return (self.folder / stage / "done").exists()

    def train(self, name: str) -> Iterator[Progress]:
        """Train a stage, mark it as finished, and ship its model if it has a name."""
        stage, recipe = TRAININGS[name], self.recipe
        schedule = recipe.schedules[name]
        batches = Batches(
            stage.draw(self),
            seed=f"minimath-train/{stage.stream or name}/{self.seed}",
            num_updates=schedule.num_updates,
            num_tokens=recipe.num_reward_tokens if stage.judges else recipe.num_tokens,
        )
        with seeded_globally(self.seed):  # of the heads that are there for the training alone
            objective = stage.begin(self, batches)
        model = objective.model
        nn.Module.to(model, self.device)
        if self.device.type == "cpu":  # fused attention is slow there on short sequences
            model.set_attn_implementation("eager")
        if self.compiled:
            network = model.model  # all but the head
            network.forward = torch.compile(network.forward, dynamic=True)
        ground = objective.language_layer if isinstance(objective, StepLabels) else 0
        yield from train(
            model,
            objective,
            schedule,
            self.folder / name,
            num_ground_layers=ground,
            careful_layers=(ground,) if stage.compares else (),
        )
        (self.folder / name / "done").touch()
        if stage.ships:
            if isinstance(objective, StepLabels):
                objective.release()
            self._ship(stage, [*stage.follows, name], model)

    def _ship(self, stage: "Stage", names: Sequence[str], model: Any) -> None:
        """Save a model in 16 bits, with its tokenizer, its card and the curves of its stages."""
        target = self.folder / "models" / stage.ships
        target.mkdir(parents=True, exist_ok=True)
        vars(model.model).pop("forward", None)  # the compiled one
        model.config.use_cache = True
        if isinstance(model, Qwen2ForCausalLM):
            model.generation_config.use_cache = True
        nn.Module.to(model, "cpu", torch.float16)
        model.save_pretrained(target)
        self.tokenizer.save_pretrained(target)
        curve = [
            json.dumps({"stage": name, **report})
            for name in names
            for report in read_lines(self.folder / name / "losses.jsonl", Reported)
        ]
        (target / "losses.jsonl").write_text("".join(f"{line}\n" for line in curve))
        schedules = "\nthen: ".join(str(self.recipe.schedules[name]) for name in names)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        write_card(target, stage.ships, f"{schedules}\n{stage.settings}", num_parameters)

    def sample(self) -> Iterator[Progress]:
        """Let the default policy solve training problems."""
        path = self.folder / "samples"
        path.mkdir(parents=True, exist_ok=True)
        policy = self.policy("policy")
        nn.Module.to(policy, self.device)
        problems = self._sampled_problems()
        number = {id(problem): index for index, problem in enumerate(problems)}
        with (path / "solutions.jsonl").open("w") as file:
            solutions = sample_solutions(policy, self.tokenizer, problems, seed=self.seed)
            for done, (problem, steps) in enumerate(solutions, start=1):
                file.write(json.dumps({"problem": number[id(problem)], "steps": steps}) + "\n")
                if done % 192 == 0 or done == len(problems):
                    yield Progress(done, len(problems), float("nan"), {}, 0.0, 0.0)
        (path / "done").touch()

    def samples(self) -> list[tuple[Problem, tuple[str, ...]]]:
        """Return the policy's samples, with the problems drawn anew from their seed."""
        if not self.is_done("samples"):
            raise ValueError(f"The stage 'samples' has to be run first. Got none in {self.folder}.")
        problems = self._sampled_problems()
        records = read_lines(self.folder / "samples" / "solutions.jsonl", Sampled)
        if not {record["problem"] for record in records} <= set(range(len(problems))):
            raise ValueError(
                f"Samples are of problems that were drawn. Got others in {self.folder}; accepted: "
                f"0 to {len(problems) - 1}, as the recipe draws them."
            )
        return [(problems[r["problem"]], tuple(r["steps"])) for r in records if r["steps"]]

    def _sampled_problems(self) -> list[Problem]:
        return training_problems(f"minimath-train/samples/{self.seed}", self.recipe.num_samples)


def _solutions(workshop: Workshop, mixture: Mixture) -> Draw:
    return policy_examples(workshop.tokenizer, mixture, NATURAL)


def _blind_solutions(workshop: Workshop) -> Draw:
    """Draw exact solutions, then misconceptions with blind spots."""
    tokenizer, mixture = workshop.tokenizer, replace(LOOKED_UP, misconceived=1.0)
    exact = policy_examples(tokenizer, LOOKED_UP, BLIND)
    misconceived = policy_examples(tokenizer, mixture, BLIND)

    def draw(random: Random, progress: float) -> Example:
        return (exact if progress < 0.6 else misconceived)(random, progress)

    return draw


def _misjudged(workshop: Workshop, mixture: Mixture = LOOKED_UP) -> Draw:
    """Draw solutions with misconceptions and errors of inattention."""
    synthetic = synthetic_examples(workshop.tokenizer, mixture, NATURAL)
    inattentive = inattentive_examples(workshop.tokenizer, mixture, NATURAL)

    def draw(random: Random, progress: float) -> Example:
        return (inattentive if random.random() < 0.4 else synthetic)(random, progress)

    return draw


def _judged(
    workshop: Workshop, mixture: Mixture = LOOKED_UP, samples_from: float = SAMPLES_FROM
) -> Draw:
    """Draw the same solutions and, from some progress on, the policy's own samples."""
    synthetic = _misjudged(workshop, mixture)
    own = cache(lambda: sampled_examples(workshop.tokenizer, workshop.samples()))

    def draw(random: Random, progress: float) -> Example:
        if progress >= samples_from and random.random() < 0.5:
            return own()(random, progress)
        return synthetic(random, progress)

    return draw


def _next_token(
    workshop: Workshop, batches: Batches, start: str | None = None, size: Size = LARGE_SIZE
) -> NextToken:
    return NextToken(workshop.policy(start, size), batches)


def _token_kept(workshop: Workshop, batches: Batches) -> TokenKept:
    model = workshop.policy("clean")
    _mark(workshop, model)
    return TokenKept(model, batches)


def _step_labels(
    workshop: Workshop,
    batches: Batches,
    losses: Losses = EVERYWHERE,
    ground: str = "ground",
    size: Size = LARGE_SIZE,
    extra_layers: int = 3,
) -> StepLabels:
    """Put layers on top of the policy of the stage `ground`."""
    model = new_reward_model(workshop.policy(ground, size), extra_layers, workshop.seed)
    marker = token_id(workshop.tokenizer, STEP_MARKER)
    return StepLabels(model, batches, marker, size.layers, losses)


def _reward(workshop: Workshop, batches: Batches) -> StepLabels:
    """Set the first layer on top by hand; the layers below are not trained."""
    objective = _step_labels(workshop, batches, ON_TOP)
    model, ground = objective.model, objective.language_layer
    draw, random = _misjudged(workshop), Random(f"minimath-train/comparison/{workshop.seed}")
    compare_first(model, ground, [draw(random, 0.5) for _ in range(NUM_COMPARED)])
    for part in (model.model.embed_tokens, *model.model.layers[:ground]):
        part.requires_grad_(False)
    return objective


def _tuned(workshop: Workshop, batches: Batches) -> StepLabels:
    objective = _step_labels(workshop, batches)
    workshop.load(objective.model, "reward")
    return objective


def _weak(workshop: Workshop, batches: Batches) -> StepLabels:
    objective = _step_labels(workshop, batches, AT_MARKERS, "small", SMALL_SIZE, extra_layers=1)
    _mark(workshop, objective.model)
    return objective


def _mark(workshop: Workshop, model: PreTrainedModel) -> None:
    """Let the step marker begin as the step separator."""
    (separator,) = encode(workshop.tokenizer, STEP_SEPARATOR)
    read_alike(model, token_id(workshop.tokenizer, STEP_MARKER), separator)


@dataclass(frozen=True)
class Stage:
    """A stage that trains a network.

    Attributes:
        schedule: its schedule for the shipped models.
        draw: makes the function that draws the examples.
        begin: makes the objective, with the model as it is at the start.
        stream: the name of the stream of problems; by default that of the stage.
        judges: whether it trains a reward model, or the ground for one.
        compares: whether the first layer on top was set by hand.
        ships: the name under which its model is shipped, if it is.
        follows: the stages before it whose schedules and loss curves are shipped with it.
        settings: what its card says beside the schedules.
    """

    schedule: Schedule
    draw: Callable[[Workshop], Draw]
    begin: Callable[[Workshop, Batches], NextToken | TokenKept | StepLabels]
    stream: str = ""
    judges: bool = False
    compares: bool = False
    ships: str = ""
    follows: tuple[str, ...] = ()
    settings: object = None


TRAININGS: Mapping[str, Stage] = {
    "clean": Stage(
        Schedule(6000), partial(_solutions, mixture=LOOKED_UP), _next_token, stream="policy"
    ),
    "policy": Stage(
        Schedule(1600, learning_rate=8e-3, adam_rate=1e-3, num_warmup=50),
        partial(_solutions, mixture=LEARNED_LAST),
        partial(_next_token, start="clean"),
        stream="misconceptions",
    ),
    "practice": Stage(
        Schedule(900, learning_rate=6e-3, adam_rate=6e-4, num_warmup=50),
        partial(_solutions, mixture=PRACTISED),
        partial(_next_token, start="policy"),
        ships="minimath-policy",
        follows=("clean", "policy"),
        settings=NATURAL,
    ),
    "small": Stage(
        Schedule(5000),
        _blind_solutions,
        partial(_next_token, size=SMALL_SIZE),
        ships="minimath-policy-small",
        settings=BLIND,
    ),
    "ground": Stage(
        Schedule(600, learning_rate=1e-2, adam_rate=1e-3, num_warmup=50),
        _misjudged,
        _token_kept,
        judges=True,
    ),
    "reward": Stage(
        Schedule(3000, learning_rate=1e-2, adam_rate=1e-3),
        _judged,
        _reward,
        judges=True,
        compares=True,
    ),
    "tuned": Stage(
        Schedule(1500, learning_rate=5e-3, adam_rate=5e-4, num_warmup=50, ground_share=0.3),
        partial(_judged, mixture=PRACTISED, samples_from=0.0),
        _tuned,
        judges=True,
        compares=True,
        ships="minimath-reward",
        follows=("ground", "reward"),
        settings=EVERYWHERE,
    ),
    "weak": Stage(
        Schedule(2000, learning_rate=1e-2, adam_rate=1e-3, ground_share=0.3),
        _judged,
        _weak,
        judges=True,
        ships="minimath-reward-weak",
        settings=AT_MARKERS,
    ),
}
"""The stages that train; the stage "samples" is `Workshop.sample`."""

NAMES = {name: stage.ships for name, stage in TRAININGS.items() if stage.ships}
"""Stage -> the name under which its model is shipped."""
