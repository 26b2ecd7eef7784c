"""`llmsmc train reward`: a process reward model for a policy and questions with answers."""

from pathlib import Path
from typing import Any

import typer

from llmsmc.cli import console, options
from llmsmc.cli.errors import INTERRUPTED, print_error, reported
from llmsmc.registry import FORM

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
    "answer_forms",
}


@options.taking(
    options.option(None, "dataset", "DATASET", options.DATASET, str),
    options.option(
        None,
        "out",
        "DIR",
        "The folder of the stages and of the reward model; a training that lies there is taken up "
        "again.",
        Path,
    ),
    options.RANGE,
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
    options.option(
        "Labels",
        "labels",
        "KIND",
        "What a step is labelled by: outcome (whether its solution ends right), continuations "
        "(the share of continuations behind it that end right), first-error (binary search for "
        "the first step behind which none does) or checker.",
        str,
        "outcome",
    ),
    options.option(
        "Labels",
        "checker",
        "NAME",
        f"A function of a question and its steps that returns a verdict on each: minimath, or one "
        f"of your own as {FORM}.",
        str,
        show_default=False,
    ),
    options.option(
        "Labels",
        "redraw",
        None,
        "A step that the checker calls wrong is drawn anew, and kept as a wrong one, for training "
        "and validation; several times as many labels for the tokens that are drawn.",
        bool,
        False,
    ),
    options.option(
        "Labels",
        "continuations",
        "N",
        "So many continuations behind a step at most; fewer where its label is decided.",
        int,
        16,
        min=1,
    ),
    options.option(
        "Labels",
        "hard",
        None,
        "A step is right as soon as one continuation behind it ends right.",
        bool,
        False,
    ),
    options.option(
        "Training",
        "method",
        "KIND",
        "What is trained: a probe, which reads the policy while it writes; an adapter of the "
        "policy with a head of two labels; or a head on another model.",
        str,
        "probe",
    ),
    options.option(
        "Training", "base", "MODEL", "The model of --method head.", str, show_default=False
    ),
    options.option(
        "Training",
        "rank",
        "R",
        "Of the adapter, on the upper half of the layers; 0 trains the head alone.",
        int,
        min=0,
        show_default="16, and 0 for --method head",
    ),
    options.option(
        "Training",
        "epochs",
        "N",
        "How often each step is seen at most, by an adapter or a head.",
        int,
        min=1,
        show_default="4, and 60 for a head alone",
    ),
    options.option(
        "Training",
        "learning_rate",
        "NUMBER",
        "Of the adapter.",
        float,
        show_default="0.0002",
    ),
    options.option(
        "Training",
        "batch_tokens",
        "N",
        "Tokens that an adapter or a head reads side by side.",
        int,
        min=1,
        show_default="1024",
    ),
    options.option(
        "Report",
        "reward",
        "REWARD",
        "A further reward that is measured on the test questions, such as own-log-prob, judge or a "
        "folder; can be repeated.",
        list[str],
        show_default=False,
    ),
    options.option(
        "Report",
        "report_only",
        None,
        "Train nothing: measure the rewards of --reward alone.",
        bool,
        False,
    ),
    options.SEED,
    *(each for each in (*options.OF_MODELS, *options.OF_REASONING) if each.name in _OF_POLICY),
    options.DEBUG,
)
def train_reward(
    *,
    dataset: str | None,
    out: Path | None,
    range: str | None,
    until: str,
    reuse: Path | None,
    samples: int,
    max_tokens: int | None,
    in_flight: int | None,
    labels: str,
    checker: str | None,
    redraw: bool,
    continuations: int,
    hard: bool,
    method: str,
    base: str | None,
    rank: int | None,
    epochs: int | None,
    learning_rate: float | None,
    batch_tokens: int | None,
    reward: list[str] | None,
    report_only: bool,
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
            from llmsmc.training.fitting import Fit
            from llmsmc.training.stages import RewardTraining

            quiet_libraries(debug)
            if dataset is None or out is None:
                missing = "--dataset" if dataset is None else "--out"
                raise InputError(
                    f"A reward model is trained on questions, in a folder. Got no {missing}; "
                    "accepted: --dataset DATASET --out DIR."
                )
            fitting: dict[str, Any] = {
                "epochs": epochs,
                "learning_rate": learning_rate,
                "batch_tokens": batch_tokens,
            }
            settings = Settings(**given | {"step": parse_step(given["step"])})
            training = RewardTraining(
                settings,
                load(dataset),
                num_samples=samples,
                max_tokens=max_tokens,
                in_flight=in_flight,
                seed=seed,
                range=range,
                labels=labels,
                checker=checker,
                redraw=redraw,
                num_continuations=continuations,
                hard=hard,
                method=method,
                base=base,
                fit=Fit.of(
                    rank=(16 if method == "adapter" else 0) if rank is None else rank,
                    seed=seed,
                    **{name: value for name, value in fitting.items() if value is not None},
                ),
                also=tuple(reward or ()),
            )
        try:
            train_reward_run.train(training, out, until=until, report_only=report_only, reuse=reuse)
        except KeyboardInterrupt:
            print_error("interrupted; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
