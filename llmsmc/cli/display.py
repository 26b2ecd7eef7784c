"""The report at the end of `llmsmc solve`: tables made of a finished run, and nothing else.

Everything that a model or a user wrote goes through `foreign`.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llmsmc.cli.console import foreign
from llmsmc.core.counted import agreeing, counted
from llmsmc.grading.grades import equivalent
from llmsmc.models.minimath.checker import NOTHING_STATED, Verdict
from llmsmc.models.reasoning.no_answer import CAUSES, advice
from llmsmc.results import summary
from llmsmc.results.posterior import Posterior
from llmsmc.results.summary import AnswerEstimate
from llmsmc.solving.machine import Machine, machine_line

NOTHING: Final = "-"
MAX_ANSWERS: Final = 8
BAR_WIDTH: Final = 24
CUT_OFF: Final = ("length", "max_steps", None)


def report(
    posterior: Posterior,
    *,
    algorithm: str,
    seed: int,
    loading_seconds: float,
    reward: str | None = None,
    reference: str | None = None,
    verdicts: Sequence[Verdict] = (),
    causes: Mapping[str, int] = MappingProxyType({}),
    machine: Machine | None = None,
    remarks: Sequence[str] = (),
) -> RenderableType:
    """Return the report of a finished run.

    Args:
        posterior: the result.
        algorithm: its name.
        seed: the seed.
        loading_seconds: how long it took to load the models.
        reward: the name of the reward, where the algorithm asks for one.
        reference: the true answer, where it is known.
        verdicts: on the steps of the best solution, where they can be checked.
        causes: how many particles have no answer for each cause.
        machine: how the policy is computed.
        remarks: what there is to know of how the models are used.
    """
    estimates = summary.answer_estimates(posterior)
    best = summary.best_solution(posterior)
    count = posterior.num_particles
    particles = counted(count, "particle")
    parts: list[RenderableType] = [
        heading("Answer", f"{algorithm} ({posterior.guarantee}), {particles}, seed {seed}"),
        answer_table(estimates),
        heading("Best solution", _remark(best)),
        solution_table(best.steps, best.rewards, verdicts),
    ]
    if reference is not None:
        parts += [heading("Truth"), _truth(estimates, reference, verdicts)]
    parts += [heading("Evidence and cost"), cost_table(posterior, loading_seconds, reward)]
    if machine is not None:
        parts.append(foreign(machine_line(machine), "dim"))
    warnings = [*remarks, *summary.warnings(posterior), *_missing_answers(causes, count)]
    if warnings:
        parts += [heading("Warnings"), *(_warning(text) for text in warnings)]
    return Group(*parts)


def _missing_answers(causes: Mapping[str, int], count: int) -> list[str]:
    """Return how many particles have no answer and why, and what mends it."""
    if not causes:
        return []
    said = ", ".join(f"{number} {CAUSES[cause]}" for cause, number in causes.items())
    missing = sum(causes.values())
    have = agreeing(missing, "has", "have")
    remark = f"{missing} of {counted(count, 'particle')} {have} no answer: {said}."
    return [each for each in (remark, advice(causes, count)) if each is not None]


def answer_table(estimates: Sequence[AnswerEstimate]) -> Table:
    """Return the law of the answer with its standard errors."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("answer", overflow="fold", max_width=40)
    table.add_column("probability", justify="right")
    table.add_column("std. error", justify="right")
    table.add_column("")
    leading = summary.leading_answer(estimates)
    for each in estimates[:MAX_ANSWERS]:
        table.add_row(
            foreign(each.answer, "bold green" if each.answer == leading else ""),
            f"{each.probability:.1%}",
            NOTHING if each.standard_error is None else f"{each.standard_error:.1%}",
            bar(each.probability),
        )
    others = estimates[MAX_ANSWERS:]
    if others:
        total = math.fsum(each.probability for each in others)
        table.add_row(f"{len(others)} more", f"{total:.1%}", "", bar(total), style="dim")
    return table


def solution_table(
    steps: Sequence[str], rewards: Sequence[float], verdicts: Sequence[Verdict] = ()
) -> Table:
    """Return the steps of a solution, numbered, with their scores and their errors."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", justify="right")
    table.add_column("text", overflow="fold")
    table.add_column("reward", justify="right")
    for index, (step, reward) in enumerate(zip(steps, rewards, strict=True)):
        text = foreign(step.strip())
        if index < len(verdicts) and not verdicts[index].correct:
            text.append_text(foreign(f"\nwrong: {verdicts[index].reason}", "red"))
        table.add_row(str(index + 1), text, NOTHING if math.isnan(reward) else f"{reward:.3f}")
    return table


def cost_table(
    posterior: Posterior,
    loading_seconds: float,
    reward: str | None = None,
) -> Table:
    """Return the evidence and the cost of the run, and its reward."""
    cost = summary.cost_record(posterior)
    seconds = cost["seconds"]

    def share(part: float) -> tuple[str, str]:
        return f"{part:.2f}", f"{part / seconds:.0%}" if seconds > 0 else ""

    rewarded = reward is not None or cost["scored_tokens"] > 0
    rows: list[tuple[str, ...]] = [
        *(_evidence_rows(posterior) if rewarded else [("log-evidence", NOTHING)]),
        ("effective sample size", f"{posterior.effective_sample_size:.1f}"),
        *_move_rows(posterior),
        ("steps", f"{len(posterior.history)}"),
        ("tokens generated", f"{cost['generated_tokens']:,}"),
        ("tokens scored", f"{cost['scored_tokens']:,}"),
        ("model calls", f"{cost['model_calls']:,}"),
        ("seconds", f"{seconds:.2f}"),
        ("  in the policy", *share(cost["policy_seconds"])),
        ("  in the reward model", *share(cost["reward_seconds"])),
        ("  everything else", *share(cost["other_seconds"])),
        ("tokens a second", f"{cost['tokens_per_second']:,.0f}"),
        ("peak memory, MB", f"{cost['peak_memory_bytes'] / 1e6:,.0f}"),
        ("seconds of loading before", f"{loading_seconds:.2f}"),
    ]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(justify="right")
    if reward is not None:
        table.add_row("reward", foreign(reward))
    for row in rows:
        table.add_row(*row)
    return table


def _evidence_rows(posterior: Posterior) -> list[tuple[str, ...]]:
    """The log-evidence, its error from the genealogy, and its other side where there is one."""
    known = summary.log_evidence_error(posterior)
    error = "" if known is None else f"\N{PLUS-MINUS SIGN} {known:.3f}"
    above = posterior.metadata.get("log_evidence_above")
    rows: list[tuple[str, ...]] = [("log-evidence", decimals(posterior.log_evidence), error)]
    if above is not None:
        rows.append(("  from above, by conditional runs", f"{above:.3f}"))
    return rows


def decimals(value: float | None) -> str:
    """Return a number with three decimals, or the sign for none."""
    return NOTHING if value is None else f"{value:.3f}"


def _move_rows(posterior: Posterior) -> list[tuple[str, ...]]:
    """How often moves were accepted, where an algorithm makes them."""
    rate = summary.acceptance_rate(posterior)
    return [] if rate is None else [("moves accepted", f"{rate:.0%}")]


def bar(share: float, width: int = BAR_WIDTH) -> ProgressBar:
    """Return a bar that is filled to a share of its width."""
    return ProgressBar(
        total=1.0,
        completed=round(share, 6),
        width=width,
        complete_style="cyan",
        finished_style="cyan",
    )


def heading(title: str, remark: str = "") -> RenderableType:
    """Return the heading of a part, with a remark behind it."""
    text = Text(f"\n{title}", style="bold")
    if remark:
        text.append(f"  {remark}", style="not bold dim")
    return text


def _remark(best: Any) -> str:
    which = "the heaviest particle" + ("" if best.answer is None else " with that answer")
    return which + (", which was cut off" if best.finish_reason in CUT_OFF else "")


def _truth(
    estimates: Sequence[AnswerEstimate], reference: str, verdicts: Sequence[Verdict]
) -> RenderableType:
    answer = summary.leading_answer(estimates)
    right = equivalent(answer, reference)
    text = foreign(f"The true answer is {reference}. ")
    text.append("No answer was given" if answer is None else "The most probable one is ")
    if answer is not None:
        text.append("right" if right else "wrong", style="bold green" if right else "bold red")
    probability = summary.probability_of(reference, estimates)
    text.append(f"; the posterior gives the true one {probability:.1%}.\n")
    wrong = [str(index + 1) for index, verdict in enumerate(verdicts) if not verdict.correct]
    if wrong:
        noun = agreeing(len(wrong), "step", "steps")
        text.append(f"Wrong in the best solution: {noun} {', '.join(wrong)}.")
    elif all(verdict.reason == NOTHING_STATED for verdict in verdicts):
        text.append("The best solution states nothing that can be checked.")
    else:
        text.append("Every step of the best solution is right.")
    return text


def _warning(message: str) -> Text:
    return foreign(f"* {message}", "yellow")
