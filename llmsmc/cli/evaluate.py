"""`llmsmc eval DATASET`: how often an algorithm is right on a set of questions."""

from pathlib import Path
from typing import Annotated

import typer

from llmsmc import defaults
from llmsmc.cli import console, options
from llmsmc.cli.errors import reported
from llmsmc.registry import DATASETS


def evaluate(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help=f"{DATASETS.listed}; or a .jsonl file of objects with a question (or problem) and "
            "an answer.",
            show_default=False,
        ),
    ] = None,
    dataset_file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A .jsonl file in place of DATASET, by its path alone."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder of the results; an evaluation that lies there is taken up again.",
            show_default="runs/DATASET-ALGORITHM-HASH",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the first N questions.", show_default="all"),
    ] = None,
    retry_errors: Annotated[
        bool,
        typer.Option(
            "--retry-errors",
            help="Try the questions again that failed in an earlier run in the same folder.",
        ),
    ] = False,
    algorithm: options.AlgorithmOption = defaults.DEFAULT_ALGORITHM,
    particles: options.ParticlesOption = None,
    seed: options.SeedOption = defaults.DEFAULT_SEED,
    in_flight: options.InFlightOption = defaults.DEFAULT_IN_FLIGHT,
    tokens_meanwhile: options.TokensMeanwhileOption = 0,
    policy: options.PolicyOption = defaults.DEFAULT_POLICY,
    reward: options.RewardOption = defaults.DEFAULT_REWARD,
    reward_convention: options.RewardConventionOption = None,
    reward_quantization: options.RewardQuantizationOption = None,
    reward_device: options.RewardDeviceOption = None,
    reward_calibration: options.RewardCalibrationOption = 1.0,
    policy_model: options.PolicyModelOption = None,
    policy_tokenizer: options.PolicyTokenizerOption = None,
    reward_model: options.RewardModelOption = None,
    reward_tokenizer: options.RewardTokenizerOption = None,
    request_seconds: options.RequestSecondsOption = None,
    retry_seconds: options.RetrySecondsOption = None,
    max_answer_bytes: options.MaxAnswerBytesOption = None,
    quantization: options.QuantizationOption = defaults.DEFAULT_QUANTIZATION,
    proposal: options.ProposalOption = defaults.DEFAULT_PROPOSAL,
    double_quantization: options.DoubleQuantizationOption = False,
    adapter: options.AdapterOption = None,
    policy_revision: options.PolicyRevisionOption = None,
    device: options.DeviceOption = None,
    device_map: options.DeviceMapOption = None,
    dtype: options.DtypeOption = None,
    temperature: options.TemperatureOption = defaults.DEFAULT_TEMPERATURE,
    selection: options.SelectionOption = defaults.DEFAULT_SELECTION,
    aggregation: options.AggregationOption = defaults.DEFAULT_AGGREGATION,
    inverse_temperature: options.InverseTemperatureOption = 1.0,
    policy_inverse_temperature: options.PolicyInverseTemperatureOption = None,
    max_steps: options.MaxStepsOption = defaults.DEFAULT_MAX_STEPS,
    max_tokens_per_step: options.MaxTokensOption = defaults.DEFAULT_MAX_TOKENS_PER_STEP,
    step: options.StepOption = defaults.DEFAULT_STEP_TEXT,
    system: options.SystemOption = None,
    thinking: options.ThinkingOption = False,
    thinking_step: options.ThinkingStepOption = None,
    max_thinking_tokens: options.MaxThinkingTokensOption = None,
    score_thinking: options.ScoreThinkingOption = True,
    debug: options.DebugOption = False,
) -> None:
    """Evaluate an algorithm on a set of questions; can be interrupted and taken up again."""
    given = dict(locals())
    with reported(debug):
        with console.waiting("Starting"):
            from llmsmc.solving.algorithms import parse_algorithm

            chosen = parse_algorithm(algorithm, particles)

            from llmsmc.cli import evaluate_run
            from llmsmc.cli.chosen_settings import chosen_settings
            from llmsmc.cli.quiet import quiet_libraries
            from llmsmc.errors import InputError
            from llmsmc.evaluation.datasets import load, load_file

            quiet_libraries(debug)
            settings = chosen_settings(given)
            if dataset_file is not None and dataset is None:
                loaded = load_file(str(dataset_file), limit)
            elif dataset is not None and dataset_file is None:
                loaded = load(dataset, limit)
            else:
                got = "neither" if dataset is None else f"{dataset!r} and {str(dataset_file)!r}"
                raise InputError(
                    f"One set is evaluated at a time. Got {got}; accepted: DATASET or "
                    "--dataset-file PATH."
                )
        evaluate_run.evaluate(
            loaded,
            chosen,
            settings,
            seed,
            out,
            in_flight,
            tokens_meanwhile,
            retry_errors=retry_errors,
        )
