"""What is proposed follows from what was measured; the command shows it."""

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from llmsmc import InputError, inspect_policy
from llmsmc.inspection.proposing import RULES, proposals
from llmsmc.inspection.report import Question, RuleReport, Solution
from llmsmc.models.policies.language_model import LanguageModel
from tests.cli.conftest import Command, command, error_line  # noqa: F401 - fixtures
from tests.models.conftest import policy, policy_folder, tokenizer  # noqa: F401 - fixtures

QUESTION = "What is 12 plus 30?"


def rule(name: str, steps: float, ended: float = 1.0) -> RuleReport:
    return RuleReport(name, 10, steps, 9, 20.0, 40, ended, 1.0, 0, ())


def solution(text: str = "It is so.", answer: str | None = "1", ended: bool = True) -> Solution:
    return Solution(0, text, 100, ended, answer, None)


def proposed(
    rules: list[RuleReport], *solutions: Solution, system: str | None = None, takes: bool = True
) -> tuple[dict[str, str | None], str]:
    found, remarks = proposals(rules, solutions or [solution()], system, 100, takes)
    assert all(each.reason for each in found)
    return {each.option: each.value for each in found}, " ".join(remarks)


@pytest.mark.parametrize(
    ("rules", "text", "chosen"),
    [
        ([rule(r"\n\n", 5), rule(r"\n", 9)], "a", r"\n\n"),
        ([rule(r"\n\n", 1), rule(r"\n", 9)], "a", r"\n"),
        ([rule(r"\n\n", 5, 0.8), rule(r"\n", 9)], "a", r"\n"),
        ([rule(r"\n\n", 1), rule(r"\n", 2), rule("tokens:64", 4)], "a", "tokens:64"),
        ([rule(r"\n\n", 5), rule(r"fences:\n\n", 4)], "a", r"\n\n"),
        ([rule(r"\n\n", 5), rule(r"fences:\n\n", 4)], "a\n```py\n1\n```", r"fences:\n\n"),
        ([rule(r"\n\n", 1, 0.5), rule(r"\n", 1, 0.9)], "a", r"\n"),
        ([rule(r"fences:\n\n", 3)], "a", r"fences:\n\n"),
    ],
)
def test_which_rule_is_proposed(rules: list[RuleReport], text: str, chosen: str) -> None:
    assert proposed(rules, solution(text))[0]["--step"] == chosen


def test_what_else_is_proposed() -> None:
    rules = [rule(r"\n\n", 5)]
    options, remarks = proposed(rules)
    assert options["--max-tokens-per-step"] == "96" and "--system" not in options and not remarks
    silent = [solution(answer=None), solution(answer=None), solution()]
    assert "box" in str(proposed(rules, *silent)[0]["--system"])
    options, remarks = proposed(rules, *silent, takes=False)
    assert "--system" not in options and "in the question" in remarks
    options, remarks = proposed(rules, *silent, system="Be brief.")
    assert "--system" not in options and "though --system was given" in remarks
    assert (
        "1 of 1 solution was cut off at 100 tokens; what is said of it ends there"
        in proposed(rules, solution(ended=False))[1]
    )
    assert "--thinking" in proposed(rules, solution("Hm.</think>1"))[0]


def test_a_report(policy: LanguageModel) -> None:  # noqa: F811
    asked: list[Question | str] = [QUESTION, Question("What is 3?", "3")]
    report = inspect_policy(policy, asked, samples=3, seed=1, max_tokens=30)
    again = inspect_policy(policy, asked, samples=3, seed=1, max_tokens=30)
    assert report.solutions == again.solutions and report.rules == again.rules
    assert [each.question for each in report.solutions] == [0, 0, 0, 1, 1, 1]
    assert report.solutions[0].is_right is None and report.solutions[3].is_right is not None
    assert [each.rule for each in report.rules] == list(RULES)
    assert report.ends == {id: policy.tokens.spelled([id]) for id in policy.eos_ids}
    assert report.prompt.startswith("<|im_start|>") and QUESTION in report.prompt
    assert json.loads(json.dumps(report.to_dict()))["prompt_tokens"] == report.prompt_tokens
    with pytest.raises(FrozenInstanceError):
        report.seconds = 0.0  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [{"questions": []}, {"rules": []}, {"samples": 0}])
def test_nothing_to_inspect(policy: LanguageModel, wrong: dict[str, object]) -> None:  # noqa: F811
    with pytest.raises(InputError, match="Got"):
        inspect_policy(policy, **({"questions": [QUESTION]} | wrong))  # type: ignore[arg-type]


def test_the_command(command: Command, policy_folder: Path) -> None:  # noqa: F811
    rows = [{"question": asked, "answer": "42"} for asked in ("What?", QUESTION, "Why?")]
    Path("set.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    options = ["--dataset", "set.jsonl", "--samples", "2", "--max-tokens", "20", "--step", "a"]
    options += ["--range", "2:", "--limit", "1"]
    result = command("inspect", policy_folder, *options, "--temperature", "1.5")
    assert result.exit_code == 0, result.output
    for part in ("ids that end a turn", r"<|im_start|>user\nWhat is 12", "Settings to use"):
        assert part in result.stdout
    copied = result.stdout.split("Settings to use")[1]
    assert "--temperature 1.5" in " ".join(copied.split()) and "--step" in copied
    printed = json.loads(command("inspect", policy_folder, *options, "--json").stdout)
    assert len(printed["solutions"]) == 2 and printed["rules"][-1]["rule"] == "a"
    assert printed["command"].startswith("--policy ")


@pytest.mark.parametrize(
    "wrong",
    [
        ["no/such/folder"],
        ["--step", "regex:("],
        ["--dataset", "no.jsonl"],
        ["--range", "2:3"],
        ["--samples", "0"],
    ],
)
def test_misuse(command: Command, policy_folder: Path, wrong: list[str]) -> None:  # noqa: F811
    named = [] if wrong[0].startswith("no") else [policy_folder]
    error_line(command("inspect", *named, *wrong))
