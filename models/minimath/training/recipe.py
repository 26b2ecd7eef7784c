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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import TypedDict

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2ForCausalLM,
)

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
from llmsmc.models.minimath.training.loop import (
    Objective,
    Progress,
    Reported,
    Schedule,
    train,
)
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
from llmsmc.models.rewards.conventions.prm_head import Qwen2ForProcessRewardModel

Draw = Callable[[Random, float], Example]
"""Draws an example, given how far the training has come, in [0, 1]."""

STAGES = ("clean", "policy", "practice", "samples", "small", "ground", "reward", "tuned", "weak")

NAMES = {
    "practice": "minimath-policy",
    "small": "minimath-policy-small",
    "tuned": "minimath-reward",
    "weak": "minimath-reward-weak",
}
"""Stage -> the name under which its model is shipped."""

NATURAL = Rates()
BLIND = Rates(quotient=(1.0, 0.05), method={**Rates().method, "less": 1.0})
"""The small policy never gets a quotient of 8 or more right, nor a story with "less"."""

LOOKED_UP = (*sorted(FAMILIES), "chains", "stories")
"""Families as they are drawn: more often those in which much has to be looked up, which are
learned last."""

LEARNED_LAST = (*LOOKED_UP, "stories", "stories")
"""Families as the default policy draws them first."""

PRACTISED = (*sorted(FAMILIES), "chains", "chains", "chains", "equations")
"""Families as it draws them in the end."""

LONG = (0.1, 0.1, 0.2, 0.3, 0.3)
"""Weights of the levels in the end."""

SAMPLES_FROM = 0.3
"""How far a reward model has come when the policy's own samples join its examples."""

NUM_COMPARED = 200
"""Texts from which the first layer on top is set up."""

LARGE_SIZE = Size()
SMALL_SIZE = Size(hidden=128, intermediate=384, layers=3, heads=4, key_value_heads=2)


@dataclass(frozen=True)
class Recipe:
    """How long each stage trains, and on how many samples.

    Attributes:
        clean, policy, practice, small, ground, reward, tuned, weak: schedules.
        num_samples: solutions drawn from the default policy for the reward models.
        num_tokens: tokens in a batch of a policy.
        num_reward_tokens: tokens in a batch of a reward model.
    """

    clean: Schedule = Schedule(6000)
    policy: Schedule = Schedule(1600, learning_rate=8e-3, adam_rate=1e-3, num_warmup=50)
    practice: Schedule = Schedule(900, learning_rate=6e-3, adam_rate=6e-4, num_warmup=50)
    small: Schedule = Schedule(5000)
    ground: Schedule = Schedule(600, learning_rate=1e-2, adam_rate=1e-3, num_warmup=50)
    reward: Schedule = Schedule(3000, learning_rate=1e-2, adam_rate=1e-3)
    tuned: Schedule = Schedule(
        1500, learning_rate=5e-3, adam_rate=5e-4, num_warmup=50, ground_share=0.3
    )
    weak: Schedule = Schedule(2000, learning_rate=1e-2, adam_rate=1e-3, ground_share=0.3)
    num_samples: int = 6000
    num_tokens: int = 2000
    num_reward_tokens: int = 1400


def brief() -> Recipe:
    """A recipe of a few updates a stage, for trying the machinery."""
    few = Schedule(4, num_warmup=1)
    return Recipe(few, few, few, few, few, few, few, few, 12, 400, 400)


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
        seed: of weights and problems.
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
        if stage in only:
            for progress in _RUNNERS[stage](workshop):
                yield StageProgress(stage, progress)


@dataclass(frozen=True)
class Workshop:
    """Where, how and on what the stages are trained."""

    folder: Path
    recipe: Recipe
    seed: int
    device: torch.device
    compiled: bool

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; trained where there is none yet."""
        path = self.folder / "tokenizer"
        if not path.exists():
            train_tokenizer(self.seed).save_pretrained(path)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
        return tokenizer

    def policy(self, stage: str) -> Qwen2ForCausalLM:
        """The policy of a finished stage."""
        size = SMALL_SIZE if stage == "small" else LARGE_SIZE
        model = new_policy(size, self.tokenizer(), self.seed)
        _load(model, self.folder / stage)
        return model

    def is_done(self, stage: str) -> bool:
        """Whether a stage has been finished."""
        return (self.folder / stage / "done").exists()

    def batches(self, name: str, draw: Draw, schedule: Schedule) -> Batches:
        """Batches for a policy; the name and the seed fix what is drawn."""
        return self._batches(name, draw, schedule, self.recipe.num_tokens)

    def reward_batches(self, name: str, draw: Draw, schedule: Schedule) -> Batches:
        """Batches for a reward model; the name and the seed fix what is drawn."""
        return self._batches(name, draw, schedule, self.recipe.num_reward_tokens)

    def _batches(self, name: str, draw: Draw, schedule: Schedule, num_tokens: int) -> Batches:
        seed = f"minimath-train/{name}/{self.seed}"
        return Batches(draw, seed=seed, num_updates=schedule.num_updates, num_tokens=num_tokens)

    def train(
        self,
        stage: str,
        model: PreTrainedModel,
        objective: Objective,
        schedule: Schedule,
        num_ground_layers: int = 0,
        careful_layers: Sequence[int] = (),
    ) -> Iterator[Progress]:
        """Run the loop of a stage and mark it as finished."""
        nn.Module.to(model, self.device)
        if self.device.type == "cpu":  # fused attention is slow there on short sequences
            model.set_attn_implementation("eager")
        network = model.model  # of a policy or a reward model: all but the head
        assert isinstance(network, nn.Module)
        if self.compiled:
            network.forward = torch.compile(network.forward, dynamic=True)
        yield from train(
            model,
            objective,
            schedule,
            self.folder / stage,
            num_ground_layers=num_ground_layers,
            careful_layers=careful_layers,
        )
        (self.folder / stage / "done").touch()

    def ship(
        self,
        stages: Sequence[str],
        model: Qwen2ForCausalLM | Qwen2ForProcessRewardModel,
        recipe: str,
    ) -> None:
        """Save the model of the last of `stages` in 16 bits, with tokenizer, card and curves."""
        name = NAMES[stages[-1]]
        target = self.folder / "models" / name
        target.mkdir(parents=True, exist_ok=True)
        if "forward" in vars(model.model):
            del model.model.forward  # the compiled one
        model.config.use_cache = True
        if isinstance(model, Qwen2ForCausalLM):
            model.generation_config.use_cache = True
        nn.Module.to(model, "cpu", torch.float16)
        model.save_pretrained(target)
        self.tokenizer().save_pretrained(target)
        (target / "losses.jsonl").write_text(self.curve(stages))
        write_card(target, name, recipe, sum(p.numel() for p in model.parameters()))

    def curve(self, stages: Sequence[str]) -> str:
        """The loss curves of some stages, one report a line, each with the name of its stage."""
        lines = [
            json.dumps({"stage": stage, **report})
            for stage in stages
            for report in read_lines(self.folder / stage / "losses.jsonl", Reported)
        ]
        return "".join(f"{line}\n" for line in lines)


def _run_clean(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("clean"):
        return
    tokenizer = workshop.tokenizer()
    model = new_policy(LARGE_SIZE, tokenizer, workshop.seed)
    draw = policy_examples(tokenizer, Mixture(families=LOOKED_UP), NATURAL)
    schedule = workshop.recipe.clean
    yield from workshop.train(
        "clean", model, NextToken(model, workshop.batches("policy", draw, schedule)), schedule
    )


def _run_policy(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("policy"):
        return
    tokenizer = workshop.tokenizer()
    model = workshop.policy("clean")
    draw = policy_examples(
        tokenizer, Mixture(drills=0.15, misconceived=1.0, families=LEARNED_LAST), NATURAL
    )
    schedule = workshop.recipe.policy
    batches = workshop.batches("misconceptions", draw, schedule)
    yield from workshop.train("policy", model, NextToken(model, batches), schedule)


def _run_practice(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("practice"):
        return
    tokenizer, schedule = workshop.tokenizer(), workshop.recipe.practice
    model = workshop.policy("policy")
    mixture = Mixture(drills=0.1, levels=LONG, misconceived=1.0, families=PRACTISED)
    batches = workshop.batches("practice", policy_examples(tokenizer, mixture, NATURAL), schedule)
    yield from workshop.train("practice", model, NextToken(model, batches), schedule)
    schedules = (workshop.recipe.clean, workshop.recipe.policy, schedule)
    recipe = "\nthen: ".join(map(str, schedules))
    workshop.ship(("clean", "policy", "practice"), model, f"{recipe}\n{NATURAL}")


def _run_small(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("small"):
        return
    tokenizer = workshop.tokenizer()
    model = new_policy(SMALL_SIZE, tokenizer, workshop.seed)
    exact = policy_examples(tokenizer, Mixture(families=LOOKED_UP), BLIND)
    misconceived = policy_examples(tokenizer, Mixture(misconceived=1.0, families=LOOKED_UP), BLIND)

    def draw(random: Random, progress: float) -> Example:
        return (exact if progress < 0.6 else misconceived)(random, progress)

    schedule = workshop.recipe.small
    batches = workshop.batches("small", draw, schedule)
    yield from workshop.train("small", model, NextToken(model, batches), schedule)
    workshop.ship(("small",), model, f"{schedule}\n{BLIND}")


def _run_samples(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("samples"):
        return
    path = workshop.folder / "samples"
    path.mkdir(parents=True, exist_ok=True)
    policy = workshop.policy("policy")
    nn.Module.to(policy, workshop.device)
    problems = _sampled_problems(workshop)
    number = {id(problem): index for index, problem in enumerate(problems)}
    with (path / "solutions.jsonl").open("w") as file:
        solutions = sample_solutions(policy, workshop.tokenizer(), problems, seed=workshop.seed)
        for done, (problem, steps) in enumerate(solutions, start=1):
            file.write(json.dumps({"problem": number[id(problem)], "steps": steps}) + "\n")
            if done % 192 == 0 or done == len(problems):
                yield Progress(done, len(problems), float("nan"), {}, 0.0, 0.0)
    (path / "done").touch()


def _sampled_problems(workshop: Workshop) -> list[Problem]:
    seed = f"minimath-train/samples/{workshop.seed}"
    return training_problems(seed, workshop.recipe.num_samples)


def read_samples(workshop: Workshop) -> list[tuple[Problem, tuple[str, ...]]]:
    """The policy's samples, with the problems drawn anew from their seed."""
    if not workshop.is_done("samples"):
        raise ValueError(f"The stage 'samples' has to be run first. Got none in {workshop.folder}.")
    problems = _sampled_problems(workshop)
    records = read_lines(workshop.folder / "samples" / "solutions.jsonl", Sampled)
    if not {record["problem"] for record in records} <= set(range(len(problems))):
        raise ValueError(
            f"Samples are of problems that were drawn. Got others in {workshop.folder}; accepted: "
            f"0 to {len(problems) - 1}, as the recipe draws them."
        )
    return [(problems[r["problem"]], tuple(r["steps"])) for r in records if r["steps"]]


def _run_ground(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("ground"):
        return
    schedule = workshop.recipe.ground
    model = workshop.policy("clean")
    _mark(workshop, model)
    objective = TokenKept(model, workshop.reward_batches("ground", _misjudged(workshop), schedule))
    yield from workshop.train("ground", model, objective, schedule)


def _run_reward(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("reward"):
        return
    schedule = workshop.recipe.reward
    batches = workshop.reward_batches("reward", _judged(workshop), schedule)
    model, objective = _judge(workshop, "ground", 3, batches, Losses(language=0.0))
    ground = objective.language_layer
    draw, random = _misjudged(workshop), Random(f"minimath-train/comparison/{workshop.seed}")
    examples = [draw(random, 0.5) for _ in range(NUM_COMPARED)]
    compare_first(model, ground, examples)
    for part in (model.model.embed_tokens, *model.model.layers[:ground]):
        part.requires_grad_(False)
    yield from workshop.train("reward", model, objective, schedule, careful_layers=(ground,))


def _run_tuned(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("tuned"):
        return
    schedule = workshop.recipe.tuned
    mixture = Mixture(drills=0.1, levels=LONG, families=PRACTISED)
    batches = workshop.reward_batches("tuned", _judged(workshop, mixture), schedule)
    model, objective = _judge(workshop, "ground", 3, batches, Losses())
    _load(model, workshop.folder / "reward")
    ground = objective.language_layer
    yield from workshop.train(
        "tuned", model, objective, schedule, num_ground_layers=ground, careful_layers=(ground,)
    )
    objective.release()
    recipe = f"{workshop.recipe.reward}\nthen: {schedule}\n{objective.weights}"
    workshop.ship(("ground", "reward", "tuned"), model, recipe)


def _run_weak(workshop: Workshop) -> Iterator[Progress]:
    if workshop.is_done("weak"):
        return
    schedule = workshop.recipe.weak
    at_markers = Losses(token=0.0, language=0.1, surprise=0.0)
    batches = workshop.reward_batches("weak", _judged(workshop), schedule)
    model, objective = _judge(workshop, "small", 1, batches, at_markers)
    _mark(workshop, model)
    yield from workshop.train("weak", model, objective, schedule, objective.language_layer)
    objective.release()
    workshop.ship(("weak",), model, f"{schedule}\n{at_markers}")


def _mark(workshop: Workshop, model: PreTrainedModel) -> None:
    """Let the step marker begin as the step separator."""
    tokenizer = workshop.tokenizer()
    (separator,) = encode(tokenizer, STEP_SEPARATOR)
    read_alike(model, token_id(tokenizer, STEP_MARKER), separator)


def _judge(
    workshop: Workshop, ground: str, extra_layers: int, batches: Batches, losses: Losses
) -> tuple[Qwen2ForProcessRewardModel, StepLabels]:
    """A reward model of `extra_layers` on top of the policy of the stage `ground`."""
    tokenizer = workshop.tokenizer()
    policy = workshop.policy(ground)
    marker = token_id(tokenizer, STEP_MARKER)
    model = new_reward_model(policy, extra_layers, workshop.seed)
    layers = int(policy.config.num_hidden_layers)
    return model, StepLabels(model, batches, marker, layers, losses)


def _misjudged(workshop: Workshop, mixture: Mixture | None = None) -> Draw:
    """Misconceptions and errors of inattention."""
    tokenizer, mixture = workshop.tokenizer(), mixture or Mixture(families=LOOKED_UP)
    synthetic = synthetic_examples(tokenizer, mixture, NATURAL)
    inattentive = inattentive_examples(tokenizer, mixture, NATURAL)

    def draw(random: Random, progress: float) -> Example:
        return (inattentive if random.random() < 0.4 else synthetic)(random, progress)

    return draw


def _judged(workshop: Workshop, mixture: Mixture | None = None) -> Draw:
    """The same, and the policy's own samples: after a while, or with a mixture all along."""
    tokenizer, synthetic = workshop.tokenizer(), _misjudged(workshop, mixture)
    samples_from = SAMPLES_FROM if mixture is None else 0.0
    own = cache(lambda: sampled_examples(tokenizer, read_samples(workshop)))

    def draw(random: Random, progress: float) -> Example:
        if progress >= samples_from and random.random() < 0.5:
            return own()(random, progress)
        return synthetic(random, progress)

    return draw


_RUNNERS: dict[str, Callable[[Workshop], Iterator[Progress]]] = {
    "clean": _run_clean,
    "policy": _run_policy,
    "practice": _run_practice,
    "small": _run_small,
    "samples": _run_samples,
    "ground": _run_ground,
    "reward": _run_reward,
    "tuned": _run_tuned,
    "weak": _run_weak,
}


def _load(model: nn.Module, folder: Path) -> None:
    """Load the weights of a finished stage into a model."""
    if not (folder / "done").exists():
        raise ValueError(
            f"The stage {folder.name!r} has to be trained first. Got none in {folder}."
        )
    path = folder / "checkpoint" / "state.safetensors"
    tensors, _ = read_tensors(path)
    copy_weights(model, tensors, path)
