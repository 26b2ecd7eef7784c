"""`llmsmc ablate`: every plan that is shipped, taken up again after a kill, nothing run twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmsmc.ablations import drawing, page, processes
from llmsmc.ablations.names import PLANS
from llmsmc.ablations.report import MEASURED
from llmsmc.ablations.store import Store
from llmsmc.cli import ablate_run
from llmsmc.evaluation.datasets import load_file
from tests.cli.conftest import Command, error_line

ROOT = Path(__file__).resolve().parent.parent.parent

PLAN = """
[run]
dataset = "sums.jsonl"
problems = 12
seeds = [0, 1]
[quick]
problems = 2
seeds = [0]
[all]
algorithm = "bootstrap"
max_steps = 2
max_tokens_per_step = 8
policy = "{policy}"
reward = "{reward}"
[[cells]]
series = "filter"
particles = [2, 4, 8]
[[comparisons]]
claim = "more is better"
left = {{ particles = 8 }}
right = {{ particles = 2 }}
"""


@pytest.fixture
def models(policy_folder: Path, reward_folder: Path) -> list[str]:
    """Return the options that put tiny models in all cells."""
    return ["--policy", str(policy_folder), "--reward", str(reward_folder)]


@pytest.fixture
def folder(tmp_path: Path, policy_folder: Path, reward_folder: Path) -> Path:
    rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(12)]
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    text = PLAN.format(policy=policy_folder, reward=reward_folder)
    (tmp_path / "tiny.toml").write_text(text)
    return tmp_path


def results(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of each folder of results, what was measured by the clock left out."""
    found = {}
    for path in sorted(out.glob("*/results.jsonl")):
        text = path.read_text()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        found[path.parent.name] = [unmeasured(line) for line in lines]
    return found


def unmeasured(value: Any) -> Any:
    """Return the value without seconds and memory."""
    if isinstance(value, dict):
        return {
            key: unmeasured(child)
            for key, child in value.items()
            if key not in MEASURED and not key.endswith("seconds")
        }
    return [unmeasured(child) for child in value] if isinstance(value, list) else value


def report(out: Path, name: str = "tiny") -> Any:
    return json.loads((out / f"{name}.json").read_text())


@pytest.mark.quick
def test_every_shipped_plan_runs_and_is_reported(
    command: Command, models: list[str], folder: Path
) -> None:
    """One folder of results for all of them, so that what they have in common runs once."""
    drawn = ("aggregation", "methods", "temperature")
    options = ["--quick", "--limit", "1", "--seeds", "0", "--dataset", "sums.jsonl"]
    options += ["--max-steps", "2", "--max-tokens-per-step", "8"]
    for name in PLANS:
        # Tiny models are too small to be quantized in blocks; the embedded ones are not.
        chosen = [] if name == "quantization" else models
        pages = ["--page", f"pages/{name}.md"] if name in drawn else []
        done = command("ablate", name, *options, *chosen, *pages)
        assert done.exit_code == 0, (name, done.output)
        made = report(folder / "runs/ablations", name)
        assert made["failures"] == [], name
        assert all(cell["complete"] for cell in made["cells"]), name
        verdicts = {each["verdict"] for each in made["comparisons"]}
        assert verdicts <= {"holds", "does not hold", "not distinguishable"}
    reports = page.read_reports(folder / "pages")
    assert sorted(reports) == sorted(drawn)
    assert page.index_of(reports) == (folder / "pages/index.md").read_text()
    for name, made in reports.items():
        assert page.page_text(made, name) == (folder / f"pages/{name}.md").read_text()
    drawing.save(reports["methods"], folder / "again.svg")
    assert (folder / "again.svg").read_bytes() == (folder / "pages/methods.svg").read_bytes()


def test_cells_in_common_are_not_run_twice(command: Command, folder: Path) -> None:
    assert command("ablate", "tiny.toml", "--limit", "2").exit_code == 0
    other = (folder / "tiny.toml").read_text().replace("[2, 4, 8]", "[8, 2, 16]")
    (folder / "other.toml").write_text(other)
    before = results(folder / "runs/ablations")
    assert command("ablate", "other.toml", "--limit", "2").exit_code == 0
    after = results(folder / "runs/ablations")
    assert len(before) == 6 and len(after) == 8
    assert {name: after[name] for name in before} == before
    assert all(len(lines) == 2 for lines in after.values())


def test_selections_read_the_same_runs(command: Command, folder: Path) -> None:
    text = (folder / "tiny.toml").read_text()
    chosen = 'particles = 8\nselection = ["mode", "majority", "argmax", "sample"]'
    text = text.replace("particles = [2, 4, 8]", chosen).split("[[comparisons]]")[0]
    (folder / "tiny.toml").write_text(text)
    assert command("ablate", "tiny.toml", "--seeds", "3").exit_code == 0
    assert [len(lines) for lines in results(folder / "runs/ablations").values()] == [12]
    assert report(folder / "runs/ablations")["total"]["num_runs"] == 12


def test_killed_and_taken_up_again(command: Command, folder: Path) -> None:
    """What was killed and went on in two processes equals what one process did without a pause."""
    size = ["--limit", "6"]
    whole = command("ablate", "tiny.toml", *size, "--out", "whole")
    assert whole.exit_code == 0, whole.output
    line = [sys.executable, "-m", "llmsmc", "ablate", "tiny.toml", *size, "--out", "killed"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*line, "--jobs", "2"], cwd=folder, env=environment, start_new_session=True
    )
    while not any(results(folder / "killed").values()):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed = {path: path.read_bytes() for path in (folder / "killed").glob("*/results.jsonl")}
    count = sum(text.count(b"\n") for text in killed.values())
    assert 0 < count < 3 * 2 * 6
    again = command("ablate", "tiny.toml", *size, "--out", "killed")
    assert again.exit_code == 0, again.output
    for path, text in killed.items():
        kept = text[: text.rfind(b"\n") + 1]
        assert path.read_bytes().startswith(kept)
    expected, found = results(folder / "whole"), results(folder / "killed")
    assert found.keys() == expected.keys()
    for name, lines in expected.items():
        assert sorted(found[name], key=lambda each: str(each["id"])) == sorted(
            lines, key=lambda each: str(each["id"])
        )
    assert unmeasured(report(folder / "killed")) == unmeasured(report(folder / "whole"))


@pytest.mark.quick
def test_processes_of_its_own(command: Command, folder: Path) -> None:
    assert command("ablate", "tiny.toml", "--limit", "1", "--jobs", "2").exit_code == 0
    lines = results(folder / "runs/ablations")
    assert [len(each) for each in lines.values()] == [1] * 6
    command("ablate", "tiny.toml", "--limit", "1", "--out", "alone")
    assert lines == results(folder / "alone")


def test_several_problems_at_a_time(command: Command, folder: Path) -> None:
    """They are other runs than those by themselves, of the same answers, whatever is done."""
    size = ["--limit", "5", "--seeds", "0"]
    assert command("ablate", "tiny.toml", *size, "--in-flight", "3").exit_code == 0
    out = folder / "runs/ablations"
    together = results(out)
    assert [len(each) for each in together.values()] == [5] * 3
    path = next(out.glob("*/results.jsonl"))
    kept = path.read_text().splitlines(keepends=True)[:2]
    path.write_text("".join(kept))
    assert command("ablate", "tiny.toml", *size, "--in-flight", "3").exit_code == 0
    assert path.read_text().splitlines(keepends=True)[:2] == kept, "nothing is run again"
    again = results(out)
    assert command("ablate", "tiny.toml", *size).exit_code == 0
    alone = {name: lines for name, lines in results(out).items() if name not in together}

    def answers(found: dict[str, list[dict[str, Any]]]) -> list[list[tuple[Any, Any]]]:
        rows = [sorted((str(each["id"]), each["answer"]) for each in x) for x in found.values()]
        return sorted(rows, key=str)

    assert answers(alone) == answers(together) == answers(again)


def test_failures_are_listed_and_wrong(command: Command, folder: Path) -> None:
    rows = (folder / "sums.jsonl").read_text().replace("What is 1 + 1?", r"a bell \u0007")
    (folder / "sums.jsonl").write_text(rows)
    done = command("ablate", "tiny.toml", "--limit", "2", "--seeds", "0", "--page", "a.md")
    assert done.exit_code == 0, done.output
    made = report(folder / "runs/ablations")
    assert len(made["failures"]) == 3
    assert {cell["figures"]["num_errors"] for cell in made["cells"]} == {1}
    assert "control character" in " ".join(done.stdout.split())
    assert "control character" in (folder / "a.md").read_text()


def test_the_plan_alone(command: Command, folder: Path) -> None:
    shown = command("ablate", "tiny.toml", "--plan")
    assert shown.exit_code == 0 and shown.stdout.count(" 24 ") >= 3, shown.output
    assert results(folder / "runs/ablations") == {}


def test_an_interrupt_leaves_what_can_be_taken_up(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = processes.run_units

    def interrupted(*args: Any) -> Any:
        for number, finding in enumerate(actual(*args)):
            if number == 2:
                raise KeyboardInterrupt
            yield finding

    with monkeypatch.context() as patch:
        patch.setattr(ablate_run, "run_units", interrupted)
        stopped = command("ablate", "tiny.toml", "--limit", "1", "--out", "out")
    assert stopped.exit_code == 130
    assert "the same command goes on from there" in stopped.stderr
    assert sum(len(lines) for lines in results(folder / "out").values()) == 2
    assert command("ablate", "tiny.toml", "--limit", "1", "--out", "out").exit_code == 0


def test_two_at_work_in_one_folder(command: Command, folder: Path) -> None:
    store = Store(folder / "out", load_file(str(folder / "sums.jsonl")))
    said = error_line(command("ablate", "tiny.toml", "--out", "out"))
    assert "Another ablation is at work" in said
    store.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nothing"], "There is no such ablation. Got 'nothing'"),
        (["tiny.toml", "--seeds", "one"], "Seeds are integers. Got 'one'"),
        (["tiny.toml", "--dataset", "no-such-set"], "There is no such data set"),
        (["tiny.toml", "--page", "sums.jsonl/a.md"], "cannot be written"),
    ],
)
def test_misuse_is_one_line(
    command: Command, folder: Path, options: list[str], message: str
) -> None:
    assert message in error_line(command("ablate", *options))
