"""`NAME[:key=value,...]`: every name, every option, and what is said of those that do not exist."""

import dataclasses
from typing import Any, Literal

import pytest

from llmsmc.errors import InputError
from llmsmc.inference import (
    Adaptive,
    BestOfN,
    BootstrapFilter,
    Greedy,
    SelfConsistency,
    WeightedBestOfN,
    multinomial,
    stratified,
    systematic,
)
from llmsmc.registry import ALGORITHMS
from llmsmc.solving.algorithms import (
    convert,
    describe_algorithm,
    parse_algorithm,
)


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("greedy", Greedy()),
        ("self-consistency", SelfConsistency(32)),
        ("best-of-n", BestOfN(32)),
        ("weighted-best-of-n", WeightedBestOfN(32)),
        ("bootstrap", BootstrapFilter(32)),
        ("bootstrap:", BootstrapFilter(32)),
        ("bootstrap:num_particles=8", BootstrapFilter(8)),
        ("bootstrap:resampler=stratified", BootstrapFilter(32, Adaptive(stratified))),
        ("bootstrap:ess_threshold=1", BootstrapFilter(32, Adaptive(systematic, 1.0))),
        (
            "bootstrap: resampler = multinomial , ess_threshold=0.2,truncated=reject",
            BootstrapFilter(32, Adaptive(multinomial, 0.2), truncated="reject"),
        ),
        ("greedy:record=no", Greedy(record=False)),
    ],
)
def test_lines(text: str, algorithm: Any) -> None:
    assert parse_algorithm(text) == algorithm


def test_number_of_particles_may_stand_beside_the_line() -> None:
    assert parse_algorithm("best-of-n", 5) == BestOfN(5)
    assert parse_algorithm("best-of-n:num_particles=5", 5) == BestOfN(5)
    assert parse_algorithm("greedy", 5) == Greedy()
    with pytest.raises(InputError, match="num_particles=4 and 5 particles"):
        parse_algorithm("best-of-n:num_particles=4", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Got ''; accepted: 'greedy'"),
        ("bootstap", "Got 'bootstap'; accepted: 'greedy', 'self-consistency', 'best-of-n'"),
        (
            "bootstrap:resampeler=ssp",
            "Got 'resampeler'; accepted: num_particles, truncated, record, resampler, ess_thr",
        ),
        ("best-of-n:ess_threshold=0.5", "Got 'ess_threshold'; accepted: num_particles, truncated"),
        ("bootstrap:resampler=best", "Got 'best'; accepted: 'multinomial'"),
        ("bootstrap:ess_threshold=2", "Got 2.0; accepted: 0 <= ess_threshold <= 1"),
        ("bootstrap:ess_threshold=nan", "Got nan"),
        ("bootstrap:ess_threshold=much", "Got 'much'; accepted: a number"),
        ("bootstrap:num_particles=1.5", "Got '1.5'; accepted: an integer"),
        ("bootstrap:num_particles=0", "Got 0; accepted: an integer >= 1"),
        ("bootstrap:truncated=maybe", "Got 'maybe'; accepted: 'keep', 'reject'"),
        ("bootstrap:record=maybe", "Got 'maybe'; accepted: 'true'"),
        ("bootstrap:record", "Got 'record'; accepted: record=VALUE"),
        ("bootstrap:record=yes,record=no", "given once"),
        ("bootstrap:guarantee=invariant", "Got 'guarantee'"),
    ],
)
def test_what_is_not_known_is_said_with_what_is(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_algorithm(text)
    assert message in str(caught.value)


def test_no_particles() -> None:
    with pytest.raises(InputError, match="num_particles is a count. Got 0"):
        parse_algorithm("bootstrap", 0)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int | None, "none", None),
        (int | None, "3", 3),
        (float | None, "0.5", 0.5),
        (Literal["a", "b"], "b", "b"),
        (str, "any", "any"),
    ],
)
def test_values_by_annotation(annotation: Any, text: str, value: Any) -> None:
    assert convert("setting", text, annotation) == value


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_description_says_every_setting(name: str) -> None:
    algorithm = parse_algorithm(name)
    description = describe_algorithm(algorithm)
    assert description.pop("name") == name
    assert dataclasses.is_dataclass(algorithm)
    settable = {field.name for field in dataclasses.fields(algorithm) if field.init}
    assert set(description) - settable <= {"ess_threshold"}  # that of `Adaptive`
    assert settable <= set(description)


def test_a_description_tells_settings_apart() -> None:
    lines = ("bootstrap", "bootstrap:ess_threshold=0.4", "bootstrap:resampler=residual")
    descriptions = [describe_algorithm(parse_algorithm(line)) for line in lines]
    assert descriptions[1]["ess_threshold"] == 0.4
    assert descriptions[2]["resampler"] == "residual"
    assert descriptions[0] != descriptions[1] != descriptions[2]


def test_who_asks_for_a_reward_model() -> None:
    without = [name for name in ALGORITHMS if not parse_algorithm(name).needs_reward]
    assert without == ["greedy", "self-consistency"]
