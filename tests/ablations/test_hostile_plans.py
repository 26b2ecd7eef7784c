"""Plans of any content: read, or refused with the file and what is accepted."""

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from llmsmc.ablations.cell import EQUAL
from llmsmc.ablations.comparing import Row
from llmsmc.ablations.labels import labels
from llmsmc.ablations.page import page_text
from llmsmc.ablations.plan import Plan
from llmsmc.ablations.reading import load_plan, read_plan
from llmsmc.ablations.report import report
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Dataset
from tests.ablations.test_plan import PLAN
from tests.hostile import VALUES, mutants

MORE: Final = """
rule = "equal"
margin = 0.1
published = "x"
same = ["policy"]
[all]
policy = "minimath-policy"
max_steps = 3
[plot]
x = "particles"
rows = "policy"
[published]
caption = "c"
columns = ["a", "b"]
rows = [["x", 1.5], ["y", 2]]
"""
TREE: Final = tomllib.loads(PLAN + MORE)

DATASET = Dataset("minimath-500", "0", ())


class Written(str):
    """A value as it stands in TOML."""


TOML_VALUES: Final[tuple[Any, ...]] = (
    *(Written("nan"), Written("-inf"), Written("1979-05-27"), Written("1979-05-27T07:32:00Z")),
    *(Written("0x" + "f" * 5000), Written("9" * 5000), Written("[" * 500 + "]" * 500)),
    *("default", "equal", "bootstrap:num_particles=x", "a:b", [1, 1], [[1]], [{}], {"x": [{}]}),
    list(range(2000)),
)


def written(value: Any) -> str:
    """Return a value in TOML."""
    match value:
        case None:
            return '"null"'
        case Written():
            return value
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value.encode("utf-8", "replace").decode())
        case list():
            return f"[{', '.join(map(written, value))}]"
    pairs = (f"{json.dumps(key)} = {written(child)}" for key, child in value.items())
    return "{" + ", ".join(pairs) + "}"


def text_of(tree: Any) -> str:
    if not isinstance(tree, dict):
        return written(tree)
    return "\n".join(f"{json.dumps(key)} = {written(child)}" for key, child in tree.items())


def used(plan: Plan) -> None:
    """Do with a plan what is done before and after its runs."""
    plan.reduced()
    assert plan.sized(None, 3, (1,)).pilot_problems >= 1
    cells = [cell for cell in plan.cells if cell.particles != EQUAL]
    named = labels([cell.values for cell in cells])
    for cell in cells:
        json.dumps(cell.configuration(DATASET, 0).values)
        assert cell.series and cell.selection and cell.in_flight
    rows = [Row(cell, {}, name) for cell, name in zip(cells, named, strict=True)]
    page_text(report(plan, rows, ["a"], "llmsmc ablate"), plan.name)


def test_a_change_anywhere_is_refused_or_does_no_harm() -> None:
    assert tomllib.loads(text_of(TREE)) == TREE
    used(read_plan("p", PLAN + MORE))
    accepted = 0
    for tree in mutants(TREE, 120, (*VALUES, *TOML_VALUES)):
        try:
            plan = read_plan("p", text_of(tree), "some/p.toml")
        except InputError as error:
            assert str(error).startswith("The plan some/p.toml cannot be used: ")
            assert len(str(error)) < 2500
        else:
            used(plan)
            accepted += 1
    assert 3 < accepted < 60


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("problems = 4", "problems = true", "problems is True; accepted: an integer"),
        ("problems = 4", "problems = 0x" + "f" * 5000, "an integer of 20000 bits"),
        ("problems = 4", "problems = " + "9" * 5000, "4300 digits"),
        ("problems = 4", "problems = 4.0", "problems is 4.0"),
        ("problems = 4", "problems = -4", "problems is a count"),
        ("problems = 4", "problems = 4\nproblems = 5", "overwrite"),
        ("seeds = [0, 1]", "seeds = 0", "seeds is 0; accepted: a tuple"),
        ("seeds = [0, 1]", "seeds = [[0]]", "seeds"),
        ("seeds = [0, 1]", "seeds = [true]", r"seeds\[0\] is True"),
        ("seeds = [0, 1]", "seeds = [1979-05-27]", "run.seeds.0 is"),
        ('"minimath-500"', "7", "run.dataset is 7; accepted: a text"),
        ('dataset = "minimath-500"\n', "", "run.dataset is missing"),
        ("max_particles = 4", 'max_particles = "4"', "max_particles is '4'"),
        ("only = { temperature = [0.5] }", "only = 3", "only is 3; accepted: an object"),
        ("only = { temperature = [0.5] }", "only = { temperature = 0.5 }", "accepted: a list"),
        ("[quick]", "[slow]", "The key of a plan"),
        ("particles = [2, 8]", "particles = [[2, 8]]", "particles"),
        ("particles = [2, 8]", "particles = 2024-01-01", "particles"),
        ("particles = [2, 8]", f"particles = {list(range(1, 2000))}", "Got 3998 cells"),
        ("particles = [2, 8]", f"particles = {'[' * 5000}{']' * 5000}", "nested too deeply"),
        ("temperature = [0.5, 1.0]", "temperature = nan", "temperature is nan"),
        ("temperature = [0.5, 1.0]", "temperature = [0.5, inf]", "temperature.1 is inf"),
        ("temperature = [0.5, 1.0]", "max_steps = 1.5", "max_steps is 1.5"),
        ("temperature = [0.5, 1.0]", "thinking = 1", "A setting is of another type"),
        ("temperature = [0.5, 1.0]", "policy = 7", "A setting is of another type: policy is 7"),
        ("temperature = [0.5, 1.0]", 'policy = ""', "There is no such model"),
        ("temperature = [0.5, 1.0]", "step = []", "no cell with these values"),
        ('series = "a"\nalg', 'series = ["a", 1]\nalg', "A cell has a series. Got 1"),
        ('"bootstrap"', "[]", "no cell with these values"),
        ('"bootstrap"', '"bootstrap:num_particles=x"', "num_particles"),
        ('claim = "c"', "claim = 1", "claim is 1; accepted: a text"),
        ('claim = "c"', 'claim = "c"\nmargin = "wide"', "margin is 'wide'"),
        ('claim = "c"', 'claim = "c"\nmargin = nan', "margin is nan"),
        ('claim = "c"', 'claim = "c"\nsame = "particles"', "same is 'particles'"),
        ('claim = "c"', "claim = 'c'\nrule = []", "rule"),
        ('left = { series = "a" }', 'left = "a"', "left is 'a'; accepted: an object"),
        ('left = { series = "a" }', "left = { series = { x = 1 } }", "no cell with these values"),
        ("[budget]", '[budget]\nproblems = "all"', "problems is a count"),
        ("[budget]", "[plot]\nx = []\n[budget]", "plot.x is"),
        ("[budget]", '[published]\nrows = "x"\ncolumns = []\n[budget]', "published.rows is 'x'"),
        ("[budget]", "[published]\nrows = [1]\ncolumns = []\n[budget]", r"published.rows\[0\]"),
        ("[budget]", '[published]\ncaption = "c"\n[budget]', "published.columns is missing"),
        ('title = "T"', "title = ['T']", "title is"),
        ('title = "T"', 'title = "\\ud800"', "Unicode|Escaped"),
        ('title = "T"', "title = 'T'\n\x00", "Invalid|Illegal"),
    ],
)
def test_errors_say_what_is_wrong(old: str, new: str, message: str) -> None:
    assert old in PLAN
    with pytest.raises(InputError, match=message) as caught:
        read_plan("p", PLAN.replace(old, new, 1))
    assert str(caught.value).startswith("The plan p cannot be used: ")
    assert len(str(caught.value)) < 2500


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"title = '\xe9'", b"\0", b"\xef\xbb\xbftitle = 1"]
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        load_plan(str(path))


def test_a_folder_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "p.toml").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load_plan(str(tmp_path / "p.toml"))
