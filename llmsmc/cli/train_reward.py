"""`llmsmc train reward`: a process reward model for a policy and questions with answers."""

from pathlib import Path
from typing import Any

import typer

from llmsmc.cli import console, options
from llmsmc.cli.errors import INTERRUPTED, print_error, reported
from llmsmc.registry import DATASETS

_OF_POLICY = {
    "policy",
    "policy_model",
    "policy_tokenizer",
    "request_seconds",
    "retry_seconds",
    "max_answer_bytes",
    "quantization",
    "double_quantization",
    "adapter",
    "policy_revision",
    "device",
    "device_map",
    "dtype",
    "temperature",
    "step",
    "system",
}


@options.taking(
    options.option(
        None,
        "questions",
        "DATASET",
        f"{DATASETS.listed}; or a .jsonl file of objects with a question (or problem) and an "
        "answer.",
        str,
    ),
    options.option(
        None,
        "out",
        "DIR",
        "The folder of the stages and of the reward model; a training that lies there is taken up "
        "again.",
        Path,
    ),
    options.option(None, "first", "N", "The number of the first question.", int, 1, min=1),
    options.option(
        None, "last", "N", "The number of the last question.", int, min=1, show_default="the last"
    ),
    options.option(
        None,
        "until",
        "STAGE",
        "The last stage that is run: samples, labels, training or report.",
        str,
        "report",
    ),
    options.option(
        None,
        "reuse",
        "DIR",
        "The folder of another training: its samples and labels are taken over where they were "
        "made by the same settings.",
        Path,
        show_default=False,
    ),
    options.option("Samples", "samples", "K", "Solutions of each question.", int, 8, min=1),
    options.option(
        "Samples",
        "max_tokens",
        "L",
        "A solution is cut off after so many tokens.",
        int,
        min=1,
        show_default="what the context has room for",
    ),
    options.option(
        "Samples",
        "in_flight",
        "K",
        "Questions under way at a time, sharing the batches of the policy.",
        int,
        min=1,
        show_default="as many as have 128 solutions",
    ),
    options.SEED,
    *(each for each in (*options.OF_MODELS, *options.OF_REASONING) if each.name in _OF_POLICY),
    options.DEBUG,
)
def train_reward(
    *,
    questions: str | None,
    out: Path | None,
    first: int,
    last: int | None,
    until: str,
    reuse: Path | None,
    samples: int,
    max_tokens: int | None,
    in_flight: int | None,
    seed: int,
    debug: bool,
    **given: Any,
) -> None:
    """Train a process reward model; can be interrupted and taken up again."""
    with reported(debug):
        with console.waiting("Starting"):
            from llmsmc.cli import train_reward_run
            from llmsmc.cli.quiet import quiet_libraries
            from llmsmc.errors import InputError
            from llmsmc.evaluation.datasets import load
            from llmsmc.solving.settings import Settings
            from llmsmc.solving.step_notation import parse_step
            from llmsmc.training.stages import RewardTraining

            quiet_libraries(debug)
            if questions is None or out is None:
                missing = "--questions" if questions is None else "--out"
                raise InputError(
                    f"A reward model is trained on questions, in a folder. Got no {missing}; "
                    "accepted: --questions DATASET --out DIR."
                )
            settings = Settings(**given | {"step": parse_step(given["step"])})
            training = RewardTraining(
                settings,
                load(questions),
                num_samples=samples,
                max_tokens=max_tokens,
                in_flight=in_flight,
                seed=seed,
                first=first,
                last=last,
            )
        try:
            train_reward_run.train(training, out, until=until, reuse=reuse)
        except KeyboardInterrupt:
            print_error("interrupted; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
