"""Saved posteriors of any content: read, or refused with the library's own error."""

import importlib
import io
import json
import math
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import pytest
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from llmsmc import Posterior
from llmsmc.core.history import Merged
from llmsmc.errors import InputError, LlmsmcError
from llmsmc.storage import serialization
from llmsmc.storage import strict_files as storage
from llmsmc.storage.serialization import TYPES, encode, load, save
from tests import solutions
from tests.hostile import VALUES, mutants, with_value, without

RUN = replace(
    solutions.posterior(
        [["First.\n\n", r"\boxed{7}"], [r"\boxed{8}"], ["Nothing"]],
        [1, 2, 0],
        ancestors=[[0, 1, 2], [0, 0, 2]],
    ),
    batches=torch.tensor([0, 0, 1]),
    metadata={"model": "none", "numbers": [1, 2.5, None]},
)
MERGED = Merged(torch.tensor([1, 2, 1]), torch.tensor([0, 1, 0]), True)
RUN = replace(
    RUN,
    recorded=(RUN.particles, RUN.particles),
    history=tuple(replace(record, merged=MERGED) for record in RUN.history),
)
Change = Callable[[Path], Any]


def write(folder: Path, document: Any, tensors: bytes) -> None:
    """Write the files of a posterior as `save` does, whatever is in them."""
    named = serialization._hash(tensors)
    (folder / "tensors.safetensors").write_bytes(tensors)
    text = json.dumps({"tensors": named, "value": document})
    (folder / "document.json").write_text(text, encoding="utf-8")


def parts(folder: Path) -> tuple[Any, dict[str, Tensor]]:
    document = json.loads((folder / "document.json").read_text())["value"]
    return document, tensors_of((folder / "tensors.safetensors").read_bytes())


def document(content: str | bytes) -> Change:
    """The document is this text."""
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / "document.json").write_bytes(raw)


def value(made: Any) -> Change:
    """The value is this one."""
    return lambda folder: write(folder, made, bytes_of({"0": torch.zeros(1)}))


def named(name: str) -> Change:
    """The value is of the type of that name."""
    return value({"type": name, "fields": {"dict": {}}})


def of_numbers(folder: Path) -> None:
    """Save a posterior of numbers in its place."""
    particles = {"x": torch.zeros(3, 2), "y": (torch.zeros(3),)}
    replace(RUN, particles=particles, recorded=(particles, particles)).save(folder)


def field(*place: str | int, value: Any) -> Change:
    """A part is another one; the first word names a field of the posterior."""

    def change(folder: Path) -> None:
        found, tensors = parts(folder)
        made = with_value(found, ("fields", "dict", *place), value)
        write(folder, made, bytes_of(tensors))

    return change


def lacking(*place: str | int) -> Change:
    def change(folder: Path) -> None:
        found, tensors = parts(folder)
        write(folder, without(found, ("fields", "dict", *place)), bytes_of(tensors))

    return change


def tensor(*place: str | int, made: Callable[[Tensor], Tensor]) -> Change:
    """A tensor is another one."""

    def change(folder: Path) -> None:
        found, tensors = parts(folder)
        reference = found["fields"]["dict"]
        for key in place:
            reference = reference[key]
        name = reference["tensor"]
        tensors[name] = made(tensors[name]).contiguous()
        write(folder, found, bytes_of(tensors))

    return change


def raw(content: Callable[[bytes], bytes]) -> Change:
    """The file of tensors has other bytes, which the document names."""

    def change(folder: Path) -> None:
        found, _ = parts(folder)
        write(folder, found, content((folder / "tensors.safetensors").read_bytes()))

    return change


def header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


def removed(name: str, instead: Callable[[Path], Any] = lambda path: None) -> Change:
    """A file is missing, or something else is in its place."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        instead(folder / name)

    return change


def pickled() -> bytes:
    stream = io.BytesIO()
    torch.save({"0": torch.zeros(1)}, stream)
    return stream.getvalue()


RECORD = ("history", "tuple", 1, "fields", "dict")
IN_MERGED = ("merged", "fields", "dict")
FIRST = ("history", "tuple", 0, "fields", "dict")
TEXTS = ("particles", "fields", "dict")
HUGE = '{"0":{"dtype":"F64","shape":[9223372036854775807,9223372036854775807],'
CASES: dict[str, tuple[Change, str]] = {
    # Files
    "no document": (removed("document.json"), "Nothing saved"),
    "a folder as document": (removed("document.json", Path.mkdir), "not an ordinary file"),
    "a pipe as document": (removed("document.json", os.mkfifo), "not an ordinary file"),
    "a link to nowhere": (
        removed("document.json", lambda path: path.symlink_to("nowhere")),
        "Nothing saved",
    ),
    "a link to itself": (
        removed("document.json", lambda path: path.symlink_to(path)),
        "cannot be read",
    ),
    "a link to a folder": (
        removed("document.json", lambda path: path.symlink_to("/")),
        "not an ordinary file",
    ),
    "a link to what is no JSON": (
        removed("document.json", lambda path: path.symlink_to(__file__)),
        "Expecting value|Extra data",
    ),
    "an empty document": (document(""), "Expecting value"),
    "half a document": (document('{"tensors": "00'), "no JSON at character 13 .Unterminated"),
    "zeros": (document(b"\0" * 64), "Expecting value"),
    "Latin 1": (document(b'{"tensors": "\xe9"}'), "no UTF-8 at byte 14"),
    "UTF-16": (document('{"value": 1}'.encode("utf-16")), "no UTF-8 at byte 1"),
    "a mark of the order of bytes": (document("\ufeff{}"), "BOM"),
    "something behind": (document("{} {}"), "Extra data"),
    "NaN": (document('{"float": NaN}'), "no number of JSON"),
    "Infinity": (document("[-Infinity]"), "no number of JSON"),
    "a number that is too large": (document("[1e999]"), "too large"),
    "an integer of 5000 digits": (document("9" * 5000), "4300 digits"),
    "a key twice": (document('{"dict": {}, "dict": {}}'), "same key twice"),
    "a deep document": (document("[" * 100_000 + "]" * 100_000), "levels deep"),
    "a rather deep document": (document("[" * 150 + "]" * 150), "levels deep"),
    # Tensors
    "no tensors": (removed("tensors.safetensors"), "tensors.safetensors is missing"),
    "a folder of tensors": (removed("tensors.safetensors", Path.mkdir), "not an ordinary file"),
    "a pipe of tensors": (removed("tensors.safetensors", os.mkfifo), "not an ordinary file"),
    "tensors that lead nowhere": (
        removed("tensors.safetensors", lambda path: path.symlink_to("nowhere")),
        "tensors.safetensors is missing",
    ),
    "tensors of another save": (
        lambda folder: (folder / "tensors.safetensors").write_bytes(bytes_of({})),
        "saved with another",
    ),
    "a pickle": (raw(lambda content: pickled()), "no file of safetensors"),
    "empty tensors": (raw(lambda content: b""), "no file of safetensors"),
    "half of the tensors": (raw(lambda content: content[: len(content) // 2]), "safetensors"),
    "a byte too few": (raw(lambda content: content[:-1]), "no file of safetensors"),
    "a byte too many": (raw(lambda content: content + b"\0"), "no file of safetensors"),
    "a huge header": (raw(lambda content: b"\xff" * 8 + content[8:]), "no file of safetensors"),
    "a header of nothing": (raw(lambda content: header("{]")), "no file of safetensors"),
    "a deep header": (raw(lambda content: header('{"a":' * 9999)), "no file of safetensors"),
    "an enormous shape": (
        raw(lambda content: header(HUGE + '"data_offsets":[0,8]}}', bytes(8))),
        "no file of safetensors",
    ),
    "tensors beyond the file": (
        raw(
            lambda content: header(
                HUGE.replace("9223372036854775807", "1") + '"data_offsets":[0,8]}}'
            )
        ),
        "no file of safetensors",
    ),
    "an unknown precision": (
        raw(lambda content: header('{"0":{"dtype":"X9","shape":[1],"data_offsets":[0,8]}}', b"8")),
        "no file of safetensors",
    ),
    "other names": (raw(lambda content: bytes_of({"a": torch.zeros(1)})), "names no tensor"),
    "a hash that is none": (document('{"tensors": "../x", "value": 1}'), "names no tensors"),
    "a hash that is no text": (document('{"tensors": [], "value": 1}'), "names no tensors"),
    "a hash of something else": (
        document(json.dumps({"tensors": "0" * 32, "value": 1})),
        "saved with another",
    ),
    # Values
    "null": (value(None), "accepted: a Posterior"),
    "a number": (value(3), "accepted: a Posterior"),
    "a list": (value([1]), "accepted: a Posterior"),
    "an object of no kind": (value({"a": 1}), "of no known kind"),
    "an object of two kinds": (value({"tuple": [], "dict": {}}), "of no known kind"),
    "a float that is none": (value({"float": "1.5"}), "of no known kind"),
    "a float that is no text": (value({"float": 1}), "of no known kind"),
    "a tuple of nothing": (value({"tuple": 3}), "of no known kind"),
    "a dict of nothing": (value({"dict": [1]}), "of no known kind"),
    "a tensor that is not there": (value({"tensor": "7"}), "names no tensor"),
    "a tensor of a number": (value({"tensor": 0}), "names no tensor"),
    "fields that are none": (value({"type": "cost", "fields": [1]}), "of no known kind"),
    "something else": (value({"type": "cost", "fields": {"dict": {}}}), "accepted: a Posterior"),
    # Parts
    "an algorithm of no name": (field("algorithm", value=5), "Posterior.algorithm is 5"),
    "a promise of its own": (field("guarantee", value="gold"), "'unbiased evidence'"),
    "a seed that is a truth": (field("seed", value=True), "Posterior.seed is True"),
    "a seed of 10000 bits": (field("seed", value=2**9999), "an integer of 10000 bits"),
    "no seed": (lacking("seed"), "has other parts"),
    "NaN evidence": (field("log_evidence", value={"float": "nan"}), "log-evidence is the log"),
    "infinite evidence": (field("log_evidence", value={"float": "inf"}), "log-evidence is the"),
    "other evidence": (field("log_evidence", value=-17.0), "log-evidence is the log"),
    "evidence in words": (field("log_evidence", value="-1"), "accepted: a number"),
    "no history": (field("history", value={"tuple": []}), "history ends with the particles"),
    "a history of numbers": (field("history", value={"tuple": [1]}), "accepted: a StepRecord"),
    "a history in a list": (field("history", value=[]), "accepted: a tuple"),
    "a history of costs": (
        field("history", "tuple", 0, value={"type": "cost", "fields": {"dict": {}}}),
        "accepted: a StepRecord",
    ),
    "a record in part": (lacking(*RECORD, "max_weight"), "A StepRecord has other parts"),
    "a step of its own": (field(*RECORD, "step", value=1.5), "accepted: an integer"),
    "a merged particle of nobody": (
        tensor(*RECORD, *IN_MERGED, "multiplicities", made=lambda t: t * 0),
        "multiplicities of at least 1",
    ),
    "a kind below": (tensor(*RECORD, *IN_MERGED, "kinds", made=lambda t: t - 1), "of 0 to 2"),
    "a kind beyond": (tensor(*RECORD, *IN_MERGED, "kinds", made=lambda t: t + 2**62), "of 0 to 2"),
    "merged particles of other steps": (
        lambda folder: (
            tensor(*RECORD, *IN_MERGED, "kinds", made=lambda t: t[:2])(folder),
            tensor(*RECORD, *IN_MERGED, "multiplicities", made=lambda t: t[:2])(folder),
        ),
        "known of each particle. Got 2 at step 0; accepted: 3",
    ),
    "no cost": (field("cost", value=None), "accepted: a Cost"),
    "a cost of words": (
        field("cost", "fields", "dict", "seconds", value="long"),
        "Cost.seconds is 'long'",
    ),
    "a cost beyond measure": (
        field("cost", "fields", "dict", "model_calls", value=10**400),
        "accepted: an integer",
    ),
    "ancestors beyond": (tensor(*RECORD, "ancestors", made=lambda t: t + 1), "0 to 2"),
    "ancestors below": (tensor(*RECORD, "ancestors", made=lambda t: t - 1), "0 to 2"),
    "ancestors of nobody": (tensor(*FIRST, "ancestors", made=lambda t: t + 2**62), "step 0"),
    "ancestors in fractions": (
        tensor(*RECORD, "ancestors", made=lambda t: t.double()),
        r"is a tensor float64 \[3\]; accepted: a tensor int64",
    ),
    "too few ancestors": (
        tensor(*RECORD, "ancestors", made=lambda t: t[:2]),
        "known of each|history ends",
    ),
    "ancestors in a table": (tensor(*RECORD, "ancestors", made=lambda t: t[None]), "int64"),
    "NaN weights": (tensor("log_weights", made=lambda t: t * math.nan), "particle 0 is nan"),
    "infinite weights": (tensor("log_weights", made=lambda t: t + math.inf), "particle"),
    "no weights": (tensor("log_weights", made=lambda t: t[:0]), "Log-weights are a vector|N"),
    "weights in a table": (tensor("log_weights", made=lambda t: t[None]), "float64"),
    "weights of single precision": (tensor("log_weights", made=lambda t: t.float()), "float64"),
    "weights that are counts": (tensor("log_weights", made=lambda t: t.isinf().long()), "int64"),
    "too many weights": (tensor("log_weights", made=lambda t: t.repeat(2)), "N = 6, as in"),
    "a count of the truncated": (tensor("truncated", made=lambda t: t.long()), "tensor bool"),
    "too few truncated": (tensor("truncated", made=lambda t: t[:2]), "N = 3, as in"),
    "too many batches": (tensor("batches", made=lambda t: t.repeat(2)), "N = 3, as in"),
    "a record too few": (lacking("recorded", "tuple", 0), "for every step"),
    "a record of others": (field("recorded", "tuple", 0, value="abc"), "holds N particles"),
    "notes in a list": (field("metadata", value=[]), "accepted: an object"),
    "evidence from above in words": (
        field("metadata", "dict", "log_evidence_above", value="-1"),
        "metadata.log_evidence_above is '-1'; accepted: a number",
    ),
    "half a chain": (field("metadata", "dict", "num_chains", value=0.5), "metadata.num_chains"),
    "no chain": (field("metadata", "dict", "num_chains", value=0), "Got 0 chains"),
    "sweeps of uneven size": (field("metadata", "dict", "num_sweeps", value=2), "of 2 sweeps"),
    "no particles": (field("particles", value=None), "holds N particles"),
    "a particle for each letter": (field("particles", value="abc"), "holds N particles"),
    "a weight for each particle": (field("particles", value=7), "holds N particles"),
    # Texts
    "steps of fewer": (lacking(*TEXTS, "steps", "tuple", 0), "2 lists of at most 1"),
    "steps that are numbers": (
        field(*TEXTS, "steps", "tuple", 0, "tuple", 0, value=1),
        r"ReasoningParticles.steps\[0\]\[0\] is 1",
    ),
    "an unknown end": (tensor(*TEXTS, "finish_codes", made=lambda t: t + 9), "from 0 to 5"),
    "tokens that are not there": (tensor(*TEXTS, "num_tokens", made=lambda t: t + 1), "0 to 0"),
    "scores of other steps": (tensor(*TEXTS, "log_odds", made=lambda t: t[:, :1]), "log_odds"),
    "steps that end nowhere": (
        tensor(*TEXTS, "transition_ends", made=lambda t: t.new_ones(3, 1)),
        "up to the ends of the steps",
    ),
    "thinking without an end": (field(*TEXTS, "thinking_end", value=""), "Thinking ends"),
}
NAMES = (
    *("os:system", "builtins:eval", "subprocess:Popen", "posix:system", "", ":", "Posterior"),
    *(
        "llmsmc.results.posterior:",
        ":Posterior",
        "llmsmc.results.posterior:math",
        "llmsmc.results.posterior:Posterior.load",
    ),
    *("llmsmc.storage.serialization:Path", "llmsmc.core.cost:Cost.__init__"),
    "llmsmc.solving.settings:Settings",
    *("llmsmc.models.servers.vllm:Vllm", "llmsmc.models.reasoning.model:_Meter"),
    *("llmsmc.models.minimath.training.recipe:Recipe", "llmsmc.inference.nothing:Nothing"),
    *("llmsmc.__main__:main", "antigravity:x", "tests.hostile:VALUES", "llmsmc.core.cost:Cost "),
)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posterior") / "run"
    RUN.save(folder)
    return folder


@pytest.fixture
def saved(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "run"))


def refused(folder: Path, message: str, **settings: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Posterior.load(folder, **settings)
    assert str(folder) in str(caught.value) and "accepted" in str(caught.value)
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said(saved: Path, case: str) -> None:
    change, message = CASES[case]
    change(saved)
    refused(saved, message)


def test_numbers_of_other_sizes(saved: Path) -> None:
    for place in (("particles", "dict", "x"), ("recorded", "tuple", 0, "dict", "y", "tuple", 0)):
        of_numbers(saved)
        Posterior.load(saved)
        tensor(*place, made=lambda t: t[:2])(saved)
        refused(saved, "for each particle. Got 2 in ")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is_looked_up(saved: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    named(name)(saved)
    monkeypatch.setattr(importlib, "import_module", pytest.fail)
    refused(saved, "not known here")


def test_places_that_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("nowhere", "file", "file/deeper", "a\0b", "x" * 300):
        with pytest.raises(InputError, match="Nothing saved|cannot be read"):
            Posterior.load(tmp_path / name)


def test_a_document_of_before_is_read(saved: Path) -> None:
    """Before they named their tensors, documents were the value alone."""
    found, _ = parts(saved)
    (saved / "document.json").write_text(json.dumps(found))
    assert Posterior.load(saved).answers() == RUN.answers()


def used(posterior: Posterior) -> None:
    """Ask what a reader of a posterior asks."""
    assert repr(posterior) and posterior._repr_html_() and posterior.cost + posterior.cost
    assert isinstance(posterior.log_evidence_variance, float)
    posterior.sample(2, seed=0)
    posterior.best()
    posterior.standard_error(lambda x: [1.0] * posterior.num_particles)
    assert all(record.num_unique_ancestors >= 1 for record in posterior.history)
    if hasattr(posterior.particles, "answers"):
        posterior.answers()
    posterior.trajectories()


def test_a_change_anywhere_is_refused_or_does_no_harm(saved: Path) -> None:
    found, tensors = parts(saved)
    references: tuple[Any, ...] = (
        {"tensor": "0"},
        {"tensor": "1"},
        {"float": "nan"},
        {"tuple": [1]},
        {"dict": {}},
    )
    outcomes = []
    for changed in mutants(found, 150, (*VALUES, *references)):
        write(saved, changed, bytes_of(tensors))
        try:
            used(Posterior.load(saved))
        except LlmsmcError:
            outcomes.append(False)
        else:
            outcomes.append(True)
    assert 5 < sum(outcomes) < 140


# ------------------------------------------------------------------------ classes of the reader's


@dataclass(frozen=True)
class Level:
    height: Tensor
    label: str = ""

    def __post_init__(self) -> None:
        if self.label == "bad":
            raise KeyError("a label of mine")


class Pair(NamedTuple):
    one: Tensor
    two: Tensor


MINE: list[type] = [Level, Pair]


def test_classes_of_the_reader(tmp_path: Path) -> None:
    mine = replace(
        RUN,
        particles=Pair(torch.zeros(3), torch.ones(3)),
        recorded=None,
        metadata={"level": Level(torch.ones(3), "high")},
    )
    mine.save(tmp_path)
    back = Posterior.load(tmp_path, types=MINE)
    assert isinstance(back.particles, Pair) and back.metadata["level"].label == "high"
    refused(tmp_path, "not known here", types=[Pair])
    level, pair = ("metadata", "dict", "level", "fields", "dict"), ("particles", "fields", "dict")
    for place, made, message in (
        ((*level, "label"), "bad", "a label of mine"),
        ((*level, "width"), 1, "A Level has other parts"),
        ((*pair, "three"), 1, "A Pair has other parts"),
        ((*pair, "one"), "abc", "holds N particles"),
    ):
        mine.save(tmp_path)
        field(*place, value=made)(tmp_path)
        refused(tmp_path, message, types=MINE)


@pytest.mark.parametrize("cls", [int, Path, tuple, Exception])
def test_types_that_are_none(tmp_path: Path, cls: type) -> None:
    save({}, tmp_path)
    with pytest.raises(InputError, match="dataclasses and named tuples"):
        load(tmp_path, types=[cls])


# ------------------------------------------------------------------ saves that are interrupted


class Killed(BaseException):
    """What nothing catches."""


def operations(monkeypatch: pytest.MonkeyPatch, stop: int | None) -> list[str]:
    """Count what is done to files, and stop before the one of that number."""
    done: list[str] = []
    for cls, name in ((Path, "open"), (Path, "replace"), (Path, "unlink"), (os, "fsync")):
        original = getattr(cls, name)

        def counted(*words: Any, _name: str = name, _do: Any = original, **more: Any) -> Any:
            if len(done) == stop:
                raise Killed
            done.append(_name)
            return _do(*words, **more)

        monkeypatch.setattr(cls, name, counted)
    return done


def test_a_save_over_an_older_one_is_that_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old: dict[str, Any] = {"name": "old", "x": torch.zeros(3), "y": torch.zeros(2)}
    new: dict[str, Any] = {"name": "new", "x": torch.ones(3), "y": torch.ones(2)}
    seen = []
    for stop in range(40):
        save(old, tmp_path / f"{stop}")
        with monkeypatch.context() as patch:
            done = operations(patch, stop)
            try:
                save(new, tmp_path / f"{stop}")
            except Killed:
                finished = False
            else:
                finished = True
        back = load(tmp_path / f"{stop}")
        expected = new if back["name"] == "new" else old
        assert torch.equal(back["x"], expected["x"]) and torch.equal(back["y"], expected["y"])
        seen.append(back["name"])
        (tmp_path / f"{stop}" / ".document.json.7.partial").write_text("{")
        save(old, tmp_path / f"{stop}")  # and what was left does no harm, and is gone
        assert load(tmp_path / f"{stop}")["name"] == "old"
        assert sorted(path.name for path in (tmp_path / f"{stop}").iterdir()) == [
            ".lock",
            "document.json",
            "tensors.safetensors",
        ]
        if finished:
            break
    assert finished and len(done) >= 8
    assert seen == sorted(seen, reverse=True) and {"old", "new"} == set(seen)


def test_tensors_beside_a_document_of_another_save_are_no_posterior(tmp_path: Path) -> None:
    other = replace(RUN, log_weights=RUN.log_weights + 1.0, log_evidence=RUN.log_evidence + 1.0)
    for name in ("document.json", "tensors.safetensors"):
        RUN.save(tmp_path / "one")
        other.save(tmp_path / "other")
        (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
        refused(tmp_path / "one", "a save was interrupted, or files were copied")


def test_a_save_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save({"x": torch.zeros(2)}, tmp_path)
    original = storage.loads
    again = [{"x": torch.ones(2)}, {"x": torch.full((2,), 2.0)}]

    def loads(text: bytes) -> Any:
        if again:
            save(again.pop(0), tmp_path)
        return original(text)

    monkeypatch.setattr(serialization, "loads", loads)
    assert load(tmp_path)["x"].tolist() == [2.0, 2.0]


def test_saves_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "_PATIENCE", 0.01)
    save({"x": 1}, tmp_path)
    with filelock.FileLock(tmp_path / ".lock"):
        with pytest.raises(InputError, match="cannot be written"):
            save({"x": 2}, tmp_path)
    assert load(tmp_path) == {"x": 1}


def test_what_cannot_be_saved_leaves_the_old(tmp_path: Path) -> None:
    save({"x": 1}, tmp_path)
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 1
    for _ in range(60):
        deep = {"a": deep}
    sparse = torch.zeros(2, 2).to_sparse()
    for value in (circle, deep, sparse, torch.zeros(2, device="meta"), {"x": object()}):
        with pytest.raises(InputError, match="cannot be saved|nested too deeply"):
            save(value, tmp_path)
    assert load(tmp_path) == {"x": 1}
    (tmp_path / "file").write_text("")
    for name in ("file", "file/deeper", "a\0b", "x" * 300):
        with pytest.raises(InputError, match="cannot be written"):
            save({"x": 2}, tmp_path / name)


def test_everything_that_is_saved_can_be_named() -> None:
    document, _ = encode(RUN)
    assert {tag for tag in TYPES if f'"type": "{tag}"' in json.dumps(document)} == set(TYPES) - {
        "solution"
    }
    for place in TYPES.values():
        module, _, qualname = place.partition(":")
        assert getattr(importlib.import_module(module), qualname).__module__ == module
