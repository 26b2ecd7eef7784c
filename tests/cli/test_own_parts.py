"""Parts of a user's own package, named on the command line; the package is that of the page."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from llmsmc import registry
from llmsmc.errors import InputError
from llmsmc.inference import Scheme
from llmsmc.models.pretrained.loading import load_plain_tokenizer
from llmsmc.models.pretrained.names import resolve
from llmsmc.models.rewards.aggregation import Aggregation
from llmsmc.models.rewards.conventions.recognition import convention_class
from llmsmc.registry import AGGREGATIONS, ALGORITHMS, CONVENTIONS, FORM, RESAMPLERS
from tests.cli.conftest import Command, error_line
from tests.test_documentation import ROOT, blocks

PAGE = ROOT / "docs" / "your_own_parts.md"
COMMANDS = re.findall(r"^llmsmc (eval .*)$", PAGE.read_text(), re.MULTILINE)
BLOCKS = [block for block in blocks(PAGE) if "import llmsmc\n" not in block]
QUICKLY = ["--max-steps", "2", "--max-tokens-per-step", "8", "--policy", "minimath-policy-small"]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the package of the page; whatever is imported of it is forgotten at the end."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "__init__.py").touch()
    file = tmp_path / "mypackage" / "mine.py"
    file.write_text("\n".join(BLOCKS))
    yield file
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def manifest(tmp_path: Path) -> dict[str, Any]:
    (file,) = tmp_path.glob("runs/*/manifest.json")
    config: dict[str, Any] = json.loads(file.read_text())["config"]
    return config


def run(command: Command, line: str) -> None:
    result = command(*shlex.split(line), *QUICKLY)
    assert result.exit_code == 0, result.output
    assert "errors" not in result.output or " 0 \n" in result.output, result.output


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: re.sub(r"[^\w.:]+", " ", line)[5:40])
def test_the_commands_of_the_page(command: Command, tmp_path: Path, line: str) -> None:
    run(command, line)
    (folder,) = (tmp_path / "runs").iterdir()
    assert not set(folder.name) & set(':*?"<>|')
    (given,) = re.findall(r"mypackage\.mine:\w+", line)
    assert f'"{given}"' in json.dumps(manifest(tmp_path))
    results = (folder / "results.jsonl").read_text().splitlines()
    assert [json.loads(result)["error"] for result in results] == [None, None]


def test_values_that_were_never_named_are_described_without_addresses() -> None:
    def rows(weights: Any, size: int, generator: Any) -> Any:
        return weights

    def log_score(log_odds: Any, counted: Any) -> Any:
        return log_odds.sum(1)

    shown = AGGREGATIONS.name_of(Aggregation("own", log_score))
    assert "name='own'" in shown and ".log_score" in shown and "0x" not in shown
    assert RESAMPLERS.name_of(Scheme("own", rows)) == "Scheme('own')"
    assert RESAMPLERS.name_of(rows).endswith(".<locals>.rows")


def test_there_is_a_command_for_each_kind() -> None:
    given = "".join(COMMANDS)
    for option in ("--algorithm mypackage", "resampler=mypackage", "--aggregation mypackage"):
        assert option in given
    for option in ("--reward mypackage", "--step mypackage", "eval mypackage"):
        assert option in given


def test_all_kinds_at_once_and_solve(command: Command, tmp_path: Path) -> None:
    parts = "--aggregation mypackage.mine:MINE --reward mypackage.mine:score"
    parts += " --step mypackage.mine:RULE --algorithm mypackage.mine:MyFilter:"
    parts += "resampler=mypackage.mine:myscheme,num_particles=2"
    run(command, f"eval mypackage.mine:load {parts}")
    config = manifest(tmp_path)
    assert config["dataset"] == "mypackage.mine:load"
    assert (
        config["algorithm"] | {"name": "mypackage.mine:MyFilter", "period": 2}
        == (config["algorithm"])
    )
    assert config["algorithm"]["resampler"] == "mypackage.mine:myscheme"
    assert config["step"] == "mypackage.mine:RULE"
    run(command, f"solve 'What is 3 + 4?' {parts}")


def test_a_plan(command: Command, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        """
        [run]
        dataset = "mypackage.mine:load"
        problems = 2
        seeds = [0]
        [quick]
        problems = 1
        seeds = [0]
        [[cells]]
        series = ["own"]
        algorithm = "mypackage.mine:MyFilter:resampler=mypackage.mine:myscheme"
        particles = 2
        reward = "mypackage.mine:score"
        aggregation = "mypackage.mine:MINE"
        step = "mypackage.mine:RULE"
        max_steps = 2
        policy = "minimath-policy-small"
        """
    )
    result = command("ablate", "own.toml", "--quick")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "runs/ablations/own.json").read_text())
    assert report["total"]["num_runs"] == 1 and report["total"]["num_errors"] == 0


WRONG = [
    ("--algorithm nowhere.at:All", "ModuleNotFoundError: No module named 'nowhere'"),
    ("--algorithm mypackage.mime:MyFilter", "No module named 'mypackage.mime'"),
    ("--algorithm mypackage.mine:MyFiltre", "MyFilter, by_searching, myscheme, log_geo"),
    ("--algorithm mypackage.mine:score", "which is a function"),
    ("--algorithm mypackage.mine:Aggregation", "which is the class Aggregation"),
    ("--algorithm mypackage.mine:Stepwise", "cannot be made. Got TypeError"),
    ("--algorithm mypackage.mine:MyFilter:perod=1", "Got 'perod'; accepted: num_particles"),
    ("--algorithm mypackage.mine:MyFilter:period=x", "period is an integer. Got 'x'"),
    ("--algorithm mypackage.mine:", "Got 'mypackage.mine'; accepted: 'greedy'"),
    ("--algorithm mypackage.mine", f"or one of your own as {FORM}"),
    ("--algorithm bootstrap:resampler=mypackage.mine:MINE", "which is a Aggregation"),
    ("--algorithm bootstrap:resampler=mypackage.mine:nothing", "has nothing of that name"),
    ("--algorithm bootstrap:resampler=mypackage.mine:Scheme", "which is the class Scheme"),
    ("--aggregation mypackage.mine:score", "which is a function"),
    ("--aggregation mine", "Got 'mine'; accepted: 'product'"),
    ("--reward mypackage.mine:MINE", "A reward function takes a question"),
    ("--reward mypackage.mine:score --reward-convention qwen", "run by a function"),
    ("--reward mypackage.mine:score --reward-calibration 2", "Got reward_calibration=2.0"),
    ("--reward-convention mypackage.mine:MyFilter", "A convention of a reward model is a class"),
    ("--step mypackage.mine:MINE", "A step rule is a value with the method automaton"),
    ("--step mypackage.mine:RegularExpression", "A step rule is a value"),
    ("--thinking --thinking-step mypackage.mine:LATER", "has nothing of that name"),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_what_is_wrong_is_said(command: Command, options: str, said: str) -> None:
    line = error_line(command("eval", "minimath-dev", "--limit", "1", *shlex.split(options)))
    assert said in line and "Got " in line and "accepted: " in line


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero, broken.py:1"),
        ("\nimport absent", "No module named 'absent', broken.py:2"),
        ("def f(:", "SyntaxError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from mypackage.mine import gone", "ImportError: cannot import name 'gone'"),
    ],
)
def test_why_a_module_cannot_be_imported(
    command: Command, mine: Path, code: str, said: str
) -> None:
    mine.with_name("broken.py").write_text(code)
    assert said in error_line(
        command("eval", "minimath-dev", "--aggregation", "mypackage.broken:X")
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("return []", "The data set is empty"),
        ("return 3", "TypeError"),
        ("return ['text']", "at row 1 of mypackage.mine:wrong"),
        ("return [{'question': 'a?'}]", "at row 1"),
        ("return [{'question': 'a?', 'answer': 1, 'id': 1}] * 2", "id of its own"),
    ],
)
def test_a_data_set_that_is_none(command: Command, mine: Path, code: str, said: str) -> None:
    mine.write_text(f"def wrong():\n    {code}\n")
    assert said in error_line(command("eval", "mypackage.mine:wrong"))


def test_an_installed_package(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {
        ALGORITHMS.group: [("periodic", "mypackage.mine:MyFilter"), ("greedy", "nowhere:All")],
        RESAMPLERS.group: [("searched", "mypackage.mine:myscheme")],
    }

    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint(name, value, group) for name, value in points.get(group, [])]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    registry._entry_points.cache_clear()
    try:
        line = "eval minimath-dev --limit 1 --algorithm periodic:num_particles=2,resampler=searched"
        run(command, line)
        algorithm = manifest(tmp_path)["algorithm"]
        assert (algorithm["name"], algorithm["resampler"]) == ("periodic", "searched")
        assert "Got 'x'; accepted: 'greedy'" in error_line(
            command("eval", "minimath-dev", "--algorithm", "x")
        )
        assert (
            "'published', 'periodic', or"
            in command("eval", "minimath-dev", "--algorithm", "x").stderr
        )
        assert ALGORITHMS.find("greedy").__name__ == "Greedy"
    finally:
        registry._entry_points.cache_clear()


def test_an_installed_convention_recognises_its_checkpoints(
    monkeypatch: pytest.MonkeyPatch, mine: Path
) -> None:
    with mine.open("a") as file:
        file.write(
            """
from llmsmc.models.rewards.conventions import QwenConvention

class MyConvention(QwenConvention):
    @classmethod
    def recognizes(cls, architecture, tokenizer):
        return architecture == "MyModel"
"""
        )
    monkeypatch.syspath_prepend(mine.parent.parent)
    points = [EntryPoint("mine", "mypackage.mine:MyConvention", CONVENTIONS.group)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    registry._entry_points.cache_clear()
    try:
        tokenizer = load_plain_tokenizer(resolve("minimath-reward"))
        found = convention_class(None, "MyModel", tokenizer, "a checkpoint")
        assert found.__name__ == "MyConvention"
        with pytest.raises(InputError, match="cannot be told"):
            convention_class(None, "AnotherModel", tokenizer, "a checkpoint")
    finally:
        registry._entry_points.cache_clear()


def test_nothing_is_imported_because_a_file_says_so(
    command: Command, tmp_path: Path, mine: Path
) -> None:
    """A folder that speaks of a part is read, and compared, without it."""
    run(command, "eval minimath-dev --limit 1 --particles 2 --out run")
    file = tmp_path / "run" / "manifest.json"
    document = json.loads(file.read_text())
    document["config"]["algorithm"]["name"] = "mypackage.mine:MyFilter"
    document["config"]["aggregation"] = "mypackage.mine:MINE"
    file.write_text(json.dumps(document))
    result = command("eval", "minimath-dev", "--limit", "1", "--particles", "2", "--out", "run")
    assert "mypackage.mine:MyFilter" in error_line(result)
    assert not [name for name in sys.modules if name.startswith("mypackage")]


def test_the_current_directory_is_importable_only_once_something_is_named(
    command: Command, tmp_path: Path
) -> None:
    _ = command("eval", "minimath-dev", "--algorithm", "x")
    assert str(tmp_path) not in sys.path
    _ = command("eval", "minimath-dev", "--algorithm", "mypackage.mine:x")
    assert sys.path[0] == str(tmp_path)
