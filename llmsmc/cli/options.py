"""Options that several commands share."""

from typing import Annotated

import typer

from llmsmc.defaults import DEFAULT_NUM_PARTICLES
from llmsmc.registry import AGGREGATIONS, ALGORITHMS, CONVENTIONS, FORM, RESAMPLERS

_MODELS, _RUN, _REASONING = "Models", "Inference", "Reasoning"
_SERVERS = "Models on servers"

AlgorithmOption = Annotated[
    str,
    typer.Option(
        "--algorithm",
        metavar="NAME:KEY=VALUE,...",
        help=f"{ALGORITHMS.listed}; options after a colon, as in "
        "bootstrap:resampler=stratified,ess_threshold=0.3. Resamplers: "
        f"{RESAMPLERS.listed}.",
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
TokensMeanwhileOption = Annotated[
    int,
    typer.Option(
        "--tokens-meanwhile",
        metavar="K",
        min=0,
        help="Tokens that are drawn for other questions while the reward model scores, in a thread "
        "of its own. It gains where that has a device, a server or processors to itself.",
        rich_help_panel=_RUN,
    ),
]
PolicyOption = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="MODEL",
        help="The language model: an embedded one (minimath-policy, minimath-policy-small), a "
        "folder, a name on the Hugging Face hub, or the address of a server, as in "
        "http://localhost:8000/v1 (vLLM, SGLang, llama.cpp; others for whole answers). Its key "
        "is read from LLMSMC_API_KEY.",
        rich_help_panel=_MODELS,
    ),
]
RewardOption = Annotated[
    str,
    typer.Option(
        "--reward",
        metavar="MODEL",
        help="The process reward model: minimath-reward, minimath-reward-weak, a folder, a name "
        "on the hub, or the address of a vLLM server. Its key is read from LLMSMC_REWARD_API_KEY. "
        f"Or a function of your own as {FORM}.",
        rich_help_panel=_MODELS,
    ),
]
PolicyModelOption = Annotated[
    str | None,
    typer.Option(
        "--policy-model",
        metavar="NAME",
        help="The policy's name on its server.",
        show_default="the only one there",
        rich_help_panel=_SERVERS,
    ),
]
PolicyTokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--policy-tokenizer",
        metavar="MODEL",
        help="Whose tokenizer it has: an embedded model, a folder, or a name on the hub.",
        show_default="its name on the server",
        rich_help_panel=_SERVERS,
    ),
]
RewardModelOption = Annotated[
    str | None,
    typer.Option(
        "--reward-model",
        metavar="NAME",
        help="The reward model's name on its server.",
        show_default="the only one there",
        rich_help_panel=_SERVERS,
    ),
]
RewardTokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--reward-tokenizer",
        metavar="MODEL",
        help="Whose tokenizer it has.",
        show_default="its name on the server",
        rich_help_panel=_SERVERS,
    ),
]
RequestSecondsOption = Annotated[
    float | None,
    typer.Option(
        "--request-seconds",
        metavar="S",
        help="How long one answer may take, to its last byte.",
        show_default="300",
        rich_help_panel=_SERVERS,
    ),
]
RetrySecondsOption = Annotated[
    float | None,
    typer.Option(
        "--retry-seconds",
        metavar="S",
        help="For how long a server that does not answer, or has too much to do, is asked again.",
        show_default="600",
        rich_help_panel=_SERVERS,
    ),
]
MaxAnswerBytesOption = Annotated[
    int | None,
    typer.Option(
        "--max-answer-bytes",
        metavar="N",
        help="How large an answer may be, as it is sent and as it is unpacked.",
        show_default="32 MiB",
        rich_help_panel=_SERVERS,
    ),
]
RewardConventionOption = Annotated[
    str | None,
    typer.Option(
        "--reward-convention",
        metavar="NAME",
        help=f"How the reward model reads a solution: {CONVENTIONS.listed}.",
        show_default="recognised from config and tokenizer",
        rich_help_panel=_MODELS,
    ),
]
RewardCalibrationOption = Annotated[
    float,
    typer.Option(
        "--reward-calibration",
        metavar="NUMBER",
        help="A temperature by which the log-odds of the reward model are divided: above 1 it is "
        "less sure than it was trained to be, below 1 more.",
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
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="NAME",
        help="The precision of the models: float32, bfloat16 or float16.",
        show_default="float32 on the CPU, else that of the checkpoint",
        rich_help_panel=_MODELS,
    ),
]
DeviceMapOption = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        metavar="NAME",
        help="Spread the policy over several devices, in place of --device: auto, balanced or "
        "sequential.",
        show_default=False,
        rich_help_panel=_MODELS,
    ),
]
DoubleQuantizationOption = Annotated[
    bool,
    typer.Option(
        "--double-quantization",
        help="Quantize the scales of 4-bit weights of the policy, too.",
        rich_help_panel=_MODELS,
    ),
]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="ADAPTER",
        help="A PEFT adapter of the policy: a folder, or a name on the hub.",
        show_default=False,
        rich_help_panel=_MODELS,
    ),
]
PolicyRevisionOption = Annotated[
    str | None,
    typer.Option(
        "--policy-revision",
        metavar="NAME",
        help="Branch, tag or commit of a policy on the hub.",
        show_default=False,
        rich_help_panel=_MODELS,
    ),
]
StepOption = Annotated[
    str,
    typer.Option(
        "--step",
        metavar="RULE",
        help=r"Where a step ends: behind a delimiter such as '\n\n', behind a match of "
        rf"'regex:[.!?]\s', or after 'tokens:64'; or a rule of your own as {FORM}.",
        rich_help_panel=_REASONING,
    ),
]
ThinkingOption = Annotated[
    bool,
    typer.Option(
        "--thinking",
        help="The policy thinks before it answers, up to </think>: its template is told so, and "
        "answers are looked for behind the tag.",
        rich_help_panel=_REASONING,
    ),
]
ThinkingStepOption = Annotated[
    str | None,
    typer.Option(
        "--thinking-step",
        metavar="RULE",
        help="Where a step of the thinking ends.",
        show_default="that of --step",
        rich_help_panel=_REASONING,
    ),
]
MaxThinkingTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-thinking-tokens",
        metavar="L",
        help="The thinking is closed by force after so many tokens.",
        show_default="no limit",
        rich_help_panel=_REASONING,
    ),
]
ScoreThinkingOption = Annotated[
    bool,
    typer.Option(
        "--score-thinking/--score-answer-only",
        help="Whether the reward model reads the steps of the thinking.",
        rich_help_panel=_REASONING,
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
        help=f"How the scores of the steps make that of a solution: {AGGREGATIONS.listed}.",
        rich_help_panel=_REASONING,
    ),
]
SelectionOption = Annotated[
    str,
    typer.Option(
        "--selection",
        metavar="RULE",
        help="How one answer is selected: mode (the most probable), majority, argmax (that of the "
        "best score) or sample.",
        rich_help_panel=_RUN,
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
