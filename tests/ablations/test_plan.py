"""Plans: what they say, and what is wrong with them."""

import re
from dataclasses import replace

import pytest

from llmsmc.ablations.cell import make_cell
from llmsmc.ablations.names import PLANS
from llmsmc.ablations.reading import load_plan, read_plan
from llmsmc.errors import InputError

PLAN = """
title = "T"
[run]
dataset = "minimath-500"
problems = 4
seeds = [0, 1]
[quick]
problems = 2
seeds = [0]
max_particles = 4
only = { temperature = [0.5] }
[[cells]]
series = "a"
algorithm = "bootstrap"
particles = [2, 8]
temperature = [0.5, 1.0]
[[cells]]
series = "b"
algorithm = "islands:num_islands=2"
particles = "equal"
[budget]
series = "a"
particles = 8
temperature = 1.0
[[comparisons]]
claim = "c"
left = { series = "a" }
right = { series = "b" }
"""


def test_the_shipped_plans() -> None:
    assert list(PLANS) == sorted(
        "methods particles reward-model aggregation temperature gibbs islands scale quantization "
        "algorithms resampling link selection calibration".split()
    )
    for name in PLANS:
        plan = load_plan(name)
        assert plan.comparisons and plan.texts["claim"] and plan.texts["caution"]
        runs = plan.size.problems * len(plan.size.seeds)
        assert runs >= (750 if name == "methods" else 300)
        assert 0 < len(plan.reduced().cells) <= len(plan.cells)


def test_a_block_is_a_product() -> None:
    plan = read_plan("p", PLAN)
    assert [(c.series, c.particles, c.values.get("temperature")) for c in plan.cells] == [
        ("a", 2, 0.5),
        ("a", 2, 1.0),
        ("a", 8, 0.5),
        ("a", 8, 1.0),
        ("b", "equal", None),
    ]


def test_the_reduced_size() -> None:
    plan = read_plan("p", PLAN).reduced()
    assert [(cell.series, cell.particles) for cell in plan.cells] == [
        ("a", 2),
        ("a", 4),
        ("b", "equal"),
    ]
    assert plan.size.problems == 2 and plan.size.seeds == (0,)


def test_overridden_cells_that_become_one_are_one() -> None:
    plan = read_plan("p", PLAN)
    assert len(plan.overridden(temperature=0.7).cells) == 3
    assert plan.overridden(policy=None) is plan
    assert plan.sized("math500", 3, (5,)).size.seeds == (5,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('series = "a"\nalg', 'serie = "a"\nalg', "Got 'serie'"),
        ('"bootstrap"', '"boostrap"', "An algorithm is known by a name. Got 'boostrap'"),
        ('"bootstrap"', '"bootstrap:speed=3"', "no option of that name. Got 'speed'"),
        ('title = "T"', 'titel = "T"', "The key of a plan .* Got 'titel'"),
        ("particles = [2, 8]\n", "particles = []\n", "no cell with these values"),
        ("particles = [2, 8]", "particles = [0]", "particles is a count. Got 0"),
        ("temperature = [0.5, 1.0]", 'temperature = "hot"', "A setting is of another type"),
        ("problems = 4", 'problems = "many"', "problems"),
        ("seeds = [0, 1]", "seeds = []", "Seeds are integers"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "A seed is run once"),
        ("seeds = [0, 1]", "", r"\[run\] lacks something"),
        ('right = { series = "b" }', 'right = { series = "c" }', "no cell with these values"),
        ('right = { series = "b" }', "", r"\[comparisons\] lacks something"),
        ('claim = "c"', 'claim = "c"\nrule = "better"', "rule is one of a few words"),
        ('claim = "c"', 'claim = "c"\nrule = "equal"', "needs a margin"),
        ('claim = "c"', 'claim = "c"\nmetric = "luck"', "metric is one of a few words"),
        ('right = { series = "b" }', 'right = { series = "a" }', "4 partners of 'a'"),
        ("[budget]", "[plot]\ny = 1\n[budget]", "Got 'y'"),
        ("[[cells]]", "[cells]", "Cannot|cells"),
        ('title = "T"', "title = ", "Invalid value"),
    ],
)
def test_errors_say_what_is_wrong(old: str, new: str, message: str) -> None:
    assert old in PLAN
    with pytest.raises(InputError, match=message) as caught:
        read_plan("p", PLAN.replace(old, new, 1))
    assert str(caught.value).startswith("The plan p cannot be used: ")


def test_an_empty_grid() -> None:
    with pytest.raises(InputError, match="The grid is empty"):
        read_plan("p", re.sub(r"(?s)\[\[cells.*", "", PLAN))


@pytest.mark.parametrize("name", ["nothing", "nothing.toml", "a\0b.toml"])
def test_plans_that_are_not_there(name: str) -> None:
    with pytest.raises(InputError, match="no such ablation|cannot be read"):
        load_plan(name)


def test_a_list_of_values_is_any_of_them() -> None:
    cells = [
        make_cell({"series": "s", "algorithm": "bootstrap", "particles": n}) for n in (1, 4, 16)
    ]
    assert [cell.matches({"particles": [4, 16]}) for cell in cells] == [False, True, True]


def test_a_limit_makes_no_pilot_longer() -> None:
    plan = load_plan("algorithms")
    counts = [plan.sized(None, limit, None).pilot_problems for limit in (None, 3, 100)]
    assert counts == [20, 3, 20]
    plan = replace(plan, budget={"series": "bootstrap"})
    counts = [plan.sized(None, limit, None).pilot_problems for limit in (None, 3, 100)]
    assert counts == [20, 3, 20]
