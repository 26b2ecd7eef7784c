"""The last stage: how well a reward tells right steps from wrong ones on questions held out.

`report.json` has all figures, `report.md` tables of them, `README.md` is the model card. Beside the
reward stand baselines that cost nothing: the policy's own log-probability of the step, and the
share of right steps at its position in the training set.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llmsmc._version import __version__
from llmsmc.core.counted import counted
from llmsmc.storage.characters import printable
from llmsmc.storage.json_files import unwritable, write_json
from llmsmc.storage.strict_files import FORMAT, write_bytes
from llmsmc.training.judging import figures
from llmsmc.training.scoring import Labelled, Scores, by_position, judged_steps, own_log_probs

Report = dict[str, Any]

OWN_LOG_PROB: Final = "own log-probability"
POSITION: Final = "position alone"
_ORDERS: Final = (OWN_LOG_PROB,)  # scores that are no probabilities

LABELLERS: Final = {
    "outcome": "whether the solution ends right",
    "continuations": "the share of continuations that end right",
    "first-error": "whether the step stands before the first error, by continuations",
    "checker": "whether the step and all before it are right, by a checker",
}


def report_of(
    solutions: Sequence[Labelled],
    rewards: Mapping[str, Scores],
    config: Mapping[str, Any],
    split: str = "test",
) -> Report:
    """Return the figures of rewards and baselines on the solutions of one split.

    Args:
        solutions: the labelled solutions of all splits.
        rewards: the scores by each reward, by its name; the first is the one that was trained.
        config: the configuration of the stages, by stage.
        split: the split.
    """
    held_out = [each for each in solutions if each.split == split]
    train = [each for each in solutions if each.split == "train"]
    all_scores = dict(rewards) | {
        OWN_LOG_PROB: own_log_probs(held_out),
        POSITION: by_position(train, held_out),
    }
    of_steps = config.get("labels", {}).get("labels") != "outcome"
    found = {}
    for name, scores in all_scores.items():
        found[name] = figures(judged_steps(held_out, scores), are_probabilities=name not in _ORDERS)
        if not of_steps:
            found[name]["auroc_until_error"] = {"value": None, "interval": None}
    return {"format": FORMAT, "split": split, "rewards": found, "config": dict(config)}


def write_report(report: Report, folder: Path, *, card: str | None = None) -> None:
    """Write `report.json` and `report.md` into a folder, and the model card if there is one.

    Raises:
        InputError: they cannot be written.
    """
    write_json(folder / "report.json", report)
    try:
        write_bytes(folder / "report.md", report_text(report).encode())
        if card is not None:
            write_bytes(folder / "README.md", card.encode())
    except OSError as error:
        raise unwritable(folder, error) from error


def report_text(report: Report) -> str:
    """Return a report in Markdown."""
    rewards = report["rewards"]
    first = next(iter(rewards.values()))
    labels = report["config"].get("labels", {}).get("labels", "")
    parts = [
        "# Rewards of steps on questions held out",
        f"{counted(first['steps'], 'step')} of {counted(first['solutions'], 'solution')} of "
        f"{counted(first['questions'], 'question')} (split `{report['split']}`). Label: "
        f"{LABELLERS.get(labels, labels)}; "
        f"{_percent(first['right'])} of the labels are right. Intervals (95 %) are those of the "
        "bootstrap over questions. AUROC *until the error* is over the steps up to and with the "
        "first wrong one; *answer* is that of the score of the last step for the correctness of "
        "the final answer.",
        main_table(rewards),
        "## By position of the step",
        _groups(rewards, "by_position", "position"),
        "## By number of tokens of the step",
        _groups(rewards, "by_length", "tokens"),
    ]
    bins = first.get("reliability")
    if bins:
        rows = [
            [f"{b['from']:.1f} to {b['to']:.1f}", str(b["steps"])]
            + [f"{b['score']:.3f}", f"{b['label']:.3f}"]
            for b in bins
        ]
        name = next(iter(rewards))
        parts += [
            f"## Reliability of {_cell(name)}",
            _table(["score", "steps", "mean score", "mean label"], rows),
        ]
    return "\n\n".join(parts) + "\n"


def main_table(rewards: Mapping[str, Any]) -> str:
    """Return the table of the figures over all steps, a row a reward."""
    head = ["reward", "AUROC until the error", "AUROC all steps", "AUROC answer"]
    head += ["log-loss", "Brier", "calibration error"]
    rows = []
    for name, found in rewards.items():
        aurocs = ("auroc_until_error", "auroc_all_steps", "auroc_answer_from_last_step")
        loss = found.get("log_loss", {}).get("value")
        rows.append(
            [
                _cell(name),
                *(_with_interval(found[key]) for key in aurocs),
                *map(_number, (loss, found.get("brier"), found.get("calibration_error"))),
            ]
        )
    return _table(head, rows)


def card_text(report: Report, method: str, notes: Sequence[str]) -> str:
    """Return the model card of a trained reward.

    Args:
        report: its report.
        method: "probe", "adapter" or "head".
        notes: what else is to be said of the training, a line each.
    """
    config = report["config"]
    samples, labels = config["samples"], config["labels"]
    what = {
        "probe": "A probe, which reads the policy while it writes; it runs no network of its own.",
        "adapter": "A token classifier with two labels on the policy, with a merged adapter.",
        "head": "A token classifier with two labels on another model.",
    }[method]
    lines = [
        f"Policy: `{printable(str(samples['policy']))}`, {samples['quantization']} quantization, "
        f"{samples['dtype']}",
        f"Questions: `{printable(str(samples['dataset']))}`, {samples['first']} to "
        f"{samples['last']}, {counted(samples['samples'], 'solution')} each, at temperature "
        f"{samples['temperature']}",
        f"Steps: `{samples['step']}`",
        f"Labels: {LABELLERS[labels['labels']]}",
        *notes,
        f"llmsmc {__version__}",
    ]
    return (
        "\n\n".join(
            [
                "---\nlibrary_name: llmsmc\ntags: [process-reward-model]\n---",
                "# A process reward model",
                f"{what} The score of a step is the probability of its label, calibrated on "
                "questions held out from the training.",
                "\n".join(f"* {line}" for line in lines),
                "Use: `llmsmc solve QUESTION --policy POLICY --reward THIS_FOLDER`, with the "
                "system prompt, the temperature and the rule of steps of the training.",
                "On test questions, which were used for nothing else:",
                main_table(report["rewards"]),
                "More in `report.md`. It was trained on solutions of this policy to questions of "
                "this kind; of others it says little.",
                "```json\n" + json.dumps(config, indent=2) + "\n```",
            ]
        )
        + "\n"
    )


def _groups(rewards: Mapping[str, Any], key: str, column: str) -> str:
    """Return a table with a row a group and the AUROC by each reward."""
    first = next(iter(rewards.values()))
    rows = []
    for number, group in enumerate(first[key]):
        values = [_number(found[key][number]["auroc"]) for found in rewards.values()]
        rows.append([group[column], str(group["steps"]), _percent(group["right"]), *values])
    head = [column, "steps", "right", *(f"AUROC {_cell(name)}" for name in rewards)]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return a name as it can stand in a table, whatever its signs."""
    return "".join(f"&#{ord(c)};" if c in r"\`*_[]<>&$|~" else c for c in printable(text))


def _with_interval(found: Mapping[str, Any]) -> str:
    if found["interval"] is None:
        return _number(found["value"])
    low, high = found["interval"]
    return f"{_number(found['value'])} ({_number(low)} to {_number(high)})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
