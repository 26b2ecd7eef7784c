"""The work of `llmsmc inspect`, after its options have been read."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmsmc.cli import console
from llmsmc.cli.console import foreign
from llmsmc.cli.display import NOTHING, heading
from llmsmc.core.counted import counted
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import load
from llmsmc.inspection.inspecting import inspect_policy
from llmsmc.inspection.proposing import default_rules
from llmsmc.inspection.report import Inspection, Question, RuleReport
from llmsmc.solving.loading import load_policy
from llmsmc.solving.settings import Settings
from llmsmc.storage.characters import escaped, one_line

MAX_PROMPT: Final = 600  # characters that are shown
MAX_TAIL: Final = 40
_LOADED: Final = (
    *("policy_model", "policy_tokenizer", "quantization", "adapter", "policy_revision"),
    *("chat_template", "device", "device_map", "dtype", "temperature"),
)
"""Settings that a run has to be given, too, where they are not the default."""


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and cut.

    Attributes:
        samples: solutions of each question.
        max_tokens: at which they are cut off.
        seed: the seed.
        step: one more rule to compare, if there is one.
    """

    samples: int
    max_tokens: int
    seed: int
    step: str | None


def questions(dataset: str | None, range: str | None, limit: int) -> list[Question] | None:
    """Return questions of a data set; None for those of the inspection.

    Raises:
        InputError: there is no such data set, or a range of none.
    """
    if dataset is None:
        if range is not None:
            raise InputError(
                f"A range is one of a data set. Got --range {range}; accepted: --range beside "
                "--dataset DATASET."
            )
        return None
    asked = load(dataset).part(range, limit).examples
    return [Question(each.question, each.answer) for each in asked]


def inspect(
    settings: Settings, asked: Sequence[Question] | None, drawing: Drawing, *, as_json: bool
) -> None:
    """Load the policy, inspect it, and print the report."""
    with console.waiting(f"Loading {settings.policy}"):
        policy = load_policy(settings)
    with console.waiting("Drawing solutions"):
        report = inspect_policy(
            policy,
            asked,
            samples=drawing.samples,
            seed=drawing.seed,
            rules=default_rules(drawing.step),
            temperature=settings.temperature,
            max_tokens=drawing.max_tokens,
            max_tokens_per_step=settings.max_tokens_per_step,
            system=settings.system,
            thinking=settings.thinking,
        )
    if as_json:
        options = {"command": command(report, settings)}
        console.results().print(
            Text(json.dumps(report.to_dict() | options, indent=2)), soft_wrap=True
        )
        return
    console.results().print(shown(report, settings))


def command(report: Inspection, settings: Settings) -> str:
    """Return the options to use, as they are written in a shell."""
    words, defaults = ["--policy", str(settings.policy)], Settings()
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if field.name in _LOADED and value != getattr(defaults, field.name):
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    if settings.double_quantization:
        words.append("--double-quantization")
    if report.system is not None:
        words += ["--system", report.system]
    for each in report.proposals:
        words += [each.option] if each.value is None else [each.option, each.value]
    return shlex.join(words)


def shown(report: Inspection, settings: Settings) -> RenderableType:
    """Return the report as it is printed."""
    ends = ", ".join(f"{id} {token}" for id, token in report.ends.items()) or "none that is known"
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in (
        ("context", counted(report.context_length, "token")),
        ("ids that end a turn", ends),
        (
            "prompt of question 1",
            f"{counted(report.prompt_tokens, 'token')}, as the template writes it:",
        ),
    ):
        facts.add_row(name, foreign(value))
    parts: list[RenderableType] = [
        heading("Policy", one_line(report.policy)),
        facts,
        Text(escaped(_shortened(report.prompt)), style="dim"),
        heading(
            counted(len(report.solutions), "solution"),
            f"of {counted(len(report.questions), 'question')}, at temperature "
            f"{report.temperature:g}, cut off at {counted(report.max_tokens, 'token')}",
        ),
        _solutions(report),
        heading("Steps", "of the same solutions under each rule"),
        _rules(report.rules),
        heading("Settings to use"),
        _proposals(report),
        Text(),
        Text(escaped(command(report, settings)), style="bold"),
    ]
    if report.remarks:
        parts += [heading("Remarks"), *(foreign(f"* {each}", "yellow") for each in report.remarks)]
    tokens = counted(report.generated_tokens, "token")
    parts.append(foreign(f"\n{tokens} in {report.seconds:.1f} s", "dim"))
    return Group(*parts)


def _solutions(report: Inspection) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("question", "tokens"):
        table.add_column(name, justify="right")
    table.add_column("end")
    table.add_column("answer", overflow="fold", max_width=16)
    table.add_column("")
    table.add_column("last words", overflow="fold")
    for each in report.solutions:
        known = {True: "right", False: "wrong", None: ""}[each.is_right]
        answer = Text("none", style="dim") if each.answer is None else foreign(each.answer)
        table.add_row(
            str(each.question + 1),
            str(each.num_tokens),
            "by itself" if each.is_ended else "cut off",
            answer,
            "" if each.answer is None else known,
            Text(escaped(each.text[-MAX_TAIL:])),
        )
    return table


def _rules(rules: Sequence[RuleReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for name in ("steps", "tokens", "max", "ended", "answers", "straddle"):
        table.add_column(name, justify="right")
    table.add_column("last tokens", overflow="fold")
    for each in rules:
        straddling = NOTHING if each.straddling is None else str(each.straddling)
        endings = ", ".join(f"{escaped(text)} {count}" for text, count in each.endings)
        table.add_row(
            Text(escaped(each.rule)),
            f"{each.mean_steps:.1f}",
            f"{each.median_tokens:g}",
            str(each.longest),
            f"{each.ended:.0%}",
            f"{each.answered:.0%}",
            straddling,
            Text(endings),
        )
    return table


def _proposals(report: Inspection) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=24)
    table.add_column(style="dim", overflow="fold")
    for each in report.proposals:
        table.add_row(each.option, Text(escaped(each.value or "")), foreign(each.reason))
    return table


def _shortened(text: str) -> str:
    half = MAX_PROMPT // 2
    return text if len(text) <= MAX_PROMPT else f"{text[:half]} [...] {text[-half:]}"
