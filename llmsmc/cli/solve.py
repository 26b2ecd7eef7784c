"""`llmsmc solve QUESTION`: the posterior of the answer to one question."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from llmsmc import defaults
from llmsmc.cli import console, options
from llmsmc.cli.errors import reported
from llmsmc.errors import InputError

MAX_QUESTION: Final = 1_000_000  # characters


def solve(
    question: Annotated[
        str | None, typer.Argument(help="The question; - reads it from the standard input.")
    ] = None,
    sample_problem: Annotated[
        int | None,
        typer.Option(
            metavar="LEVEL",
            help="Draw a MiniMath problem of level 1 to 5 by the seed instead, and check the "
            "solution at the end.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the whole run to a JSON file.")
    ] = None,
    algorithm: options.AlgorithmOption = defaults.DEFAULT_ALGORITHM,
    particles: options.ParticlesOption = None,
    seed: options.SeedOption = defaults.DEFAULT_SEED,
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
    """Solve one question: its answers with their probabilities, and the best solution."""
    given = dict(locals())
    with reported(debug):
        text = read_question(question, sample_problem)
        if out is not None:
            from llmsmc.storage.json_files import check_writable

            check_writable(out)
        with console.waiting("Starting"):
            from llmsmc.solving.algorithms import parse_algorithm

            chosen = parse_algorithm(algorithm, particles)

            from llmsmc.cli import solve_run
            from llmsmc.cli.chosen_settings import chosen_settings
            from llmsmc.cli.quiet import quiet_libraries
            from llmsmc.evaluation.datasets import sample_problem as draw

        quiet_libraries(debug)
        settings = chosen_settings(given)
        problem = None if sample_problem is None else draw(sample_problem, seed)
        solve_run.solve(text, chosen, settings, seed, problem=problem, out=out)


def read_question(question: str | None, sample_problem: int | None) -> str:
    """Return the question, read from where it is; empty where it is still to be drawn.

    Raises:
        InputError: there is no question, or none that can be asked.
    """
    if (question is None) == (sample_problem is None):
        raise InputError(
            f"There is one question. Got {'none' if question is None else 'two'}; accepted: "
            "QUESTION, - for the standard input, or --sample-problem LEVEL."
        )
    if question is None:
        return ""
    try:
        if question == "-":
            question = sys.stdin.read(MAX_QUESTION + 1)
        question.encode()  # bytes that are no text come as halves of characters
    except UnicodeError as error:
        raise InputError(f"The question is no text. Got {error}; accepted: UTF-8.") from error
    if not question.strip():
        raise InputError(f"The question is empty. Got {question[:20]!r}; accepted: a text.")
    if len(question) > MAX_QUESTION:
        raise InputError(
            f"The question is too long. Got more than {MAX_QUESTION} characters; accepted: what "
            "fits into the context of the policy."
        )
    return question.strip()
