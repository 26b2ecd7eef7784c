"""Options that several commands share."""

from typing import Annotated

import typer

from llmsmc.defaults import DEFAULT_NUM_PARTICLES

_MODELS, _RUN, _REASONING = "Models", "Inference", "Reasoning"

AlgorithmOption = Annotated[
    str,
    typer.Option(
        "--algorithm",
        metavar="NAME:KEY=VALUE,...",
        help="greedy, self-consistency, best-of-n, weighted-best-of-n, beam-search, dvts, "
        "bootstrap, guided, auxiliary, twisted, resample-move, tempered, particle-gibbs, islands, "
        "coalescing, entropic, published; options after a colon, as in "
        "bootstrap:resampler=stratified,ess_threshold=0.3.",
        rich_help_panel=_RUN,
    ),
]
ParticlesOption = Annotated[
    int | None,
    typer.Option(
        "--particles",
        metavar="N",
        help="Number of particles.",
        show_default=str(DEFAULT_NUM_PARTICLES),
        rich_help_panel=_RUN,
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", metavar="INTEGER", help="The same seed, the same run.", rich_help_panel=_RUN
    ),
]
InFlightOption = Annotated[
    int,
    typer.Option(
        "--in-flight",
        metavar="K",
        min=1,
        help="Questions under way at a time, sharing the batches of the models; 1 takes one after "
        "the other.",
        rich_help_panel=_RUN,
    ),
]
PolicyOption = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="MODEL",
        help="The language model: an embedded one (minimath-policy, minimath-policy-small), a "
        "folder, or a name on the Hugging Face hub.",
        rich_help_panel=_MODELS,
    ),
]
RewardOption = Annotated[
    str,
    typer.Option(
        "--reward",
        metavar="MODEL",
        help="The process reward model: minimath-reward, minimath-reward-weak, a folder, or a "
        "name on the hub.",
        rich_help_panel=_MODELS,
    ),
]
RewardConventionOption = Annotated[
    str | None,
    typer.Option(
        "--reward-convention",
        metavar="NAME",
        help="How the reward model reads a solution: qwen, math-shepherd, rlhflow, skywork, versa, "
        "trl, pqm or pure.",
        show_default="recognised from config and tokenizer",
        rich_help_panel=_MODELS,
    ),
]
RewardQuantizationOption = Annotated[
    str | None,
    typer.Option(
        "--reward-quantization",
        metavar="KIND",
        help="Of the weights of the reward model: none, int8, nf4 or fp4.",
        show_default="none",
        rich_help_panel=_MODELS,
    ),
]
RewardDeviceOption = Annotated[
    str | None,
    typer.Option(
        "--reward-device",
        metavar="DEVICE",
        help="Where the reward model runs.",
        show_default="that of --device",
        rich_help_panel=_MODELS,
    ),
]
QuantizationOption = Annotated[
    str,
    typer.Option(
        "--quantization",
        metavar="KIND",
        help="Of the weights of the policy: none, int8, nf4 or fp4.",
        rich_help_panel=_MODELS,
    ),
]
ProposalOption = Annotated[
    str,
    typer.Option(
        "--proposal",
        metavar="KIND",
        help="The quantization in which the policy proposes steps to the guided filter, which "
        "weighs them by the policy as --quantization has it.",
        rich_help_panel=_MODELS,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where the models run: cpu, cuda, cuda:1, ...",
        show_default="cuda if there is one, else cpu",
        rich_help_panel=_MODELS,
    ),
]
TemperatureOption = Annotated[
    float,
    typer.Option(
        "--temperature",
        metavar="NUMBER",
        help="At which the policy is sampled.",
        rich_help_panel=_REASONING,
    ),
]
AggregationOption = Annotated[
    str,
    typer.Option(
        "--aggregation",
        metavar="NAME",
        help="How the scores of the steps make that of a solution: product, last, min or model; "
        "for reproduction, odds and exp.",
        rich_help_panel=_REASONING,
    ),
]
InverseTemperatureOption = Annotated[
    float,
    typer.Option(
        "--inverse-temperature",
        metavar="NUMBER",
        help="The exponent of the score in the target.",
        rich_help_panel=_REASONING,
    ),
]
PolicyInverseTemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--policy-inverse-temperature",
        metavar="NUMBER",
        help="The exponent, in the target, of the law of the policy at temperature 1.",
        show_default="the law at --temperature itself",
        rich_help_panel=_REASONING,
    ),
]
MaxStepsOption = Annotated[
    int,
    typer.Option(
        "--max-steps",
        metavar="T",
        help="Solutions are cut off after so many steps.",
        rich_help_panel=_REASONING,
    ),
]
MaxTokensOption = Annotated[
    int,
    typer.Option(
        "--max-tokens-per-step",
        metavar="L",
        help="A step is cut off after so many tokens.",
        rich_help_panel=_REASONING,
    ),
]
SystemOption = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="TEXT",
        help="A system prompt.",
        show_default="that of the chat template",
        rich_help_panel=_REASONING,
    ),
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show where an error comes from, and all warnings.")
]
