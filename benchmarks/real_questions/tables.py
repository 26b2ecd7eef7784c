"""The tables and sentences of the page, from the figures alone."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.real_questions.discrimination import at_goal
from benchmarks.real_questions.figures import label
from benchmarks.real_questions.outcomes import (
    BEST,
    COVERAGE,
    DVTS,
    FILTER,
    GREEDY,
    MAJORITY,
    WEIGHTED,
)
from benchmarks.real_questions.plan import KINDS, REWARDS, WORLDS
from llmsmc.ablations.comparing import HOLDS, OPEN

Found = Mapping[str, Any]

NOTHING: Final = "*None of the cells of this table is whole yet.*"
AUROC_GOAL: Final = 0.8

_METHODS: Final = (GREEDY, MAJORITY, BEST, WEIGHTED, DVTS, FILTER, COVERAGE)


def blocks(figures: Found) -> dict[str, str]:
    """Return the text of each marked block of the page, by its name."""
    own, others = figures["gsm8k"], figures["math"]
    return {
        "cells": "\n".join(cells(name, found) for name, found in figures.items()),
        "methods": picture(own) + methods(own),
        "claims": claims(own),
        "rewards": rewards(own),
        "larger": larger(own),
        "quantized": quantized(own),
        "math": "\n\n".join([methods(others), claims(others), rewards(others)])
        if others["methods"]
        else NOTHING,
        "why": "\n\n".join(
            f"**{WORLDS[name].title}.** {why(found)}" for name, found in figures.items()
        ),
    }


def cells(name: str, found: Found) -> str:
    """Return which cells of a world are whole, and which are planned and are not."""

    def listed(names: Sequence[str]) -> str:
        return ", ".join(f"`{each}`" for each in names) or "none"

    return (
        f"* {WORLDS[name].title}, {found['questions']} questions: in the tables are "
        f"{listed(found['there'])}; still missing are {listed(found['missing'])}"
    )


def picture(found: Found) -> str:
    """Return the line of the plot, where there is anything to be drawn."""
    if not found["methods"]:
        return ""
    return "![Accuracy against the number of particles](figures/real_questions.svg)\n\n"


def methods(found: Found) -> str:
    """Return the table of all methods."""
    if not found["methods"]:
        return NOTHING
    head = ["method", "N", "accuracy, %", "95 %", "P(right), %", "calibration error"]
    head += ["tokens", "10¹² operations", "seconds", "outside the policy", "reward positions"]
    ordered = sorted(found["methods"], key=lambda each: (each["is_larger"], _order(each)))
    rows = [
        [
            label(each, with_size=False),
            str(each["size"]),
            _percent(each["accuracy"]),
            f"{_percent(each['low'])} to {_percent(each['high'])}",
            _percent(each["probability"]),
            _number(each["calibration"], 3),
            f"{each['tokens']:,.0f}",
            _number(each["operations"] / 1e12, 2),
            _number(each["seconds"], 1),
            "-" if each["outside"] is None else f"{_percent(each['outside'])} %",
            f"{each['positions']:,.0f}",
        ]
        for each in ordered
    ]
    return table(head, rows)


def _order(each: Found) -> tuple[int, int, int]:
    rewards = [None, *REWARDS]
    return _METHODS.index(each["method"]), rewards.index(each["reward"]), int(each["size"])


def claims(found: Found) -> str:
    """Return the table of the filter against the other methods, and what comes out."""
    if not found["claims"]:
        return NOTHING
    return f"{compared(found['claims'])}\n\n{verdicts(found['claims'])}"


def compared(pairs: Sequence[Found], *, operations: bool = False) -> str:
    """Return a table of comparisons."""
    head = ["method", "against", "questions", "difference, points", "95 %", "holds if", "verdict"]
    if operations:
        head.insert(2, "10¹² operations")
    rows = []
    for each in pairs:
        condition = f"the interval is above {100 * _threshold(each):g}"
        row = [
            label(each["left"]),
            label(each["right"]),
            str(each["questions"]),
            _points(each["difference"]),
            f"{_points(each['low'])} to {_points(each['high'])}",
            condition,
            each["verdict"],
        ]
        if operations:
            both = (each["left_operations"], each["right_operations"])
            row.insert(2, " against ".join(_number(number / 1e12, 2) for number in both))
        rows.append(row)
    return table(head, rows)


def _threshold(each: Found) -> float:
    margin: float = each["margin"]
    return margin if each["rule"] == "greater" else -margin


def verdicts(pairs: Sequence[Found]) -> str:
    """Return for each reward what the filter with most particles is above, and what not."""
    found = []
    for reward in dict.fromkeys(each["left"]["reward"] for each in pairs):
        of_reward = [each for each in pairs if each["left"]["reward"] == reward]
        size = max(each["left"]["size"] for each in of_reward)
        parts = [
            f"{_at_least(each)}above {each['right']['method']} {_says(each['verdict'])} "
            f"({_difference(each)})"
            for each in of_reward
            if each["left"]["size"] == size
        ]
        found.append(
            f"* That the filter with the reward *{REWARDS[reward].label}* and N = {size} is "
            f"{'; that it is '.join(parts)}."
        )
    return "\n".join(found)


def _says(verdict: str) -> str:
    return f"is **{verdict}**" if verdict == OPEN else f"**{verdict}**"


def _at_least(each: Found) -> str:
    return f"at least {100 * each['margin']:g} points " if each["margin"] else ""


def _difference(each: Found) -> str:
    low, high = _points(each["low"]), _points(each["high"])
    return f"{_points(each['difference'])} points, {low} to {high}"


def rewards(found: Found) -> str:
    """Return the tables of the rewards, and whether the better trained one is at its goal."""
    if not found["rewards"]:
        return NOTHING
    positions = [each["position"] for each in found["rewards"][0]["by_position"]]
    head = ["reward", "solutions", "AUROC of the last step", "of the solution"]
    head += ["of the solution, within a question"]
    rows = [
        [
            REWARDS[each["reward"]].label,
            f"{each['solutions']:,}",
            _limits(each["auroc"], each["interval"]),
            _limits(each["whole"], each["whole_interval"]),
            f"{_limits(each['within'], each['within_interval'])}, "
            f"{each['questions_of_both']} questions",
        ]
        for each in found["rewards"]
    ]
    parts = [table(head, rows)]
    head = ["AUROC by position of the step", *positions]
    rows = [
        [
            REWARDS[each["reward"]].label,
            *(_limits(part["auroc"], part["interval"]) for part in each["by_position"]),
        ]
        for each in found["rewards"]
    ]
    parts.append(table(head, rows))
    if found["rewards_compared"]:
        head = ["reward", "baseline", "AUROC above it by", "95 %"]
        rows = [
            [
                REWARDS[each["left"]].label,
                REWARDS[each["right"]].label,
                _signed(each["difference"]),
                _range(each["interval"]),
            ]
            for each in found["rewards_compared"]
        ]
        parts.append(table(head, rows))
    best = at_goal(found["rewards"])
    if best is not None and best["auroc"] is not None:
        is_there = "is reached" if best["auroc"] >= AUROC_GOAL else "is not reached"
        parts.append(
            f"The goal for the better trained reward, an AUROC of {AUROC_GOAL:.2f} of the last "
            f"step, {is_there}: the {REWARDS[best['reward']].label} has "
            f"{_limits(best['auroc'], best['interval'])}."
        )
    return "\n\n".join(parts)


def larger(found: Found) -> str:
    """Return the table of the larger model at equal operations."""
    return compared(found["larger"], operations=True) if found["larger"] else NOTHING


def quantized(found: Found) -> str:
    """Return the tables of the quantized policies."""
    parts = []
    greedy = {
        each["quantization"]: each
        for each in found["methods"]
        if each["method"] == GREEDY and not each["is_larger"]
    }
    pairs = {each["left"]["quantization"]: each for each in found["quantized"]}
    if pairs:
        parts.append(compared(list(pairs.values())))
    head = ["quantization", "greedy accuracy, %", "95 %"]
    for name in ("0.5B", "embedded"):
        head += [f"KL a token, nats ({name})", f"ESS / N ({name})"]
    rows = []
    for kind in KINDS:
        laws = [found["laws"].get(f"quantized-{kind}{of}") for of in ("", "-embedded")]
        if kind not in greedy and laws == [None, None]:
            continue
        each = greedy.get(kind)
        row = [kind, *(["-", "-"] if each is None else _accuracy(each))]
        for law in laws:
            row += ["-", "-"] if law is None else _law(law)
        rows.append(row)
    if rows:
        if "none" in greedy:
            rows.insert(0, ["as in the file", *_accuracy(greedy["none"]), "0", "1", "0", "1"])
        parts.append(table(head, rows))
    return "\n\n".join(parts) or NOTHING


def _accuracy(each: Found) -> list[str]:
    return [_percent(each["accuracy"]), f"{_percent(each['low'])} to {_percent(each['high'])}"]


def _law(law: Found) -> list[str]:
    error = "" if law["divergence_error"] is None else f" ± {law['divergence_error']:.4f}"
    return [
        f"{law['divergence']:.4f}{error}",
        f"{law['share_left']:.3f} (least {law['least_left']:.3f})",
    ]


def why(found: Found) -> str:
    """Return what limits the filter: what could be won, what the reward sees, what is left of N."""
    by_key = {(m["method"], m["reward"], m["size"], m["is_larger"]): m for m in found["methods"]}
    filters = [each for each in found["methods"] if each["method"] == FILTER]
    size = max((each["size"] for each in filters), default=0)
    at_size = [each for each in filters if each["size"] == size]
    independent = by_key.get((MAJORITY, None, size, False))
    covered = by_key.get((COVERAGE, None, size, False))
    if not at_size or independent is None or covered is None:
        return NOTHING
    parts = [
        f"With N = {size} independent solutions, one of them is right on "
        f"{_percent(covered['accuracy'])} % of the questions and a majority on "
        f"{_percent(independent['accuracy'])} %: what lies between is to be won by knowing which."
    ]
    head = ["N solutions of", "right, %", "different first steps", "different solutions"]
    shown = [independent, *at_size]
    rows = [
        [
            "independent draws" if each is independent else label(each, with_size=False),
            _percent(each["accuracy"]),
            _number(each["first_steps"], 1),
            _number(each["solutions"], 1),
        ]
        for each in shown
    ]
    parts.append(table(head, rows))
    by_reward = {each["reward"]: each for each in found["rewards"]}
    for each in found["claims"]:
        left = each["left"]
        if each["right"]["method"] != WEIGHTED or left["size"] != size or each["verdict"] == HOLDS:
            continue
        said = (
            f"With the reward *{REWARDS[left['reward']].label}* the filter is not shown to be "
            f"above weighted best of N at N = {size} ({_difference(each)})."
        )
        seen = by_reward.get(left["reward"])
        if seen is not None:
            by_position = ", ".join(
                _number(part["auroc"], 2) for part in seen["by_position"] if part["steps"]
            )
            said += (
                f" Its AUROC is {_number(seen['auroc'], 2)} at the last step, and "
                f"that of the score of the solution {_number(seen['within'], 2)} within a "
                f"question; after the first steps, one by one, it is {by_position}."
            )
        parts.append(said)
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _limits(value: float | None, interval: Sequence[float] | None) -> str:
    if interval is None:
        return _number(value, 2)
    return f"{_number(value, 2)} ({interval[0]:.2f} to {interval[1]:.2f})"


def _range(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"
