"""The comparison on real questions: what its tables are made of, on made-up folders."""

import gzip
import json
import math
import shutil
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from benchmarks.real_questions import __main__ as command
from benchmarks.real_questions import discrimination, records, running, tables
from benchmarks.real_questions.figures import (
    compared,
    figures_of,
    figures_of_world,
    share_interval,
)
from benchmarks.real_questions.outcomes import Outcome, of_samples, read_samples
from benchmarks.real_questions.plan import CELLS, OTHERS, PLANNED, WORLDS, World, check_name
from benchmarks.real_questions.running import Job
from benchmarks.real_questions.votes import best, calibration_error, groups, told, vote
from llmsmc import models
from llmsmc.errors import InputError
from llmsmc.evaluation.runner import pass_at_k
from llmsmc.models import LanguageModel
from llmsmc.training.lines import read_rows

RIGHT, WRONG = "4", "5"
WORLD = World("gsm8k", "GSM8K", 2)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def samples(
    folder: Path, answers: dict[str, list[str | None]], scores: dict[str, list[float]] | None = None
) -> Path:
    """Write a folder of samples, whose solutions have two steps of three tokens."""
    rows: list[dict[str, Any]] = [
        {"id": name, "sample": n, "split": "train", "question": name, "answer": RIGHT}
        | {"token_ids": [1] * 6, "log_probs": [-1.0] * 6, "text": f"a {n}", "finish_reason": "eos"}
        | {"found": answer, "correct": answer == RIGHT}
        for name, each in answers.items()
        for n, answer in enumerate(each)
    ]
    cut = {"step_ends": [3, 6], "continuations": 0, "labeller": "outcome"}
    lines(folder / "samples.jsonl", rows)
    lines(
        folder / "labels.jsonl",
        [
            {"id": row["id"], "sample": row["sample"], "steps": [f"a {row['sample'] // 2}", "b"]}
            | {"labels": [float(row["correct"])] * 2}
            | cut
            for row in rows
        ],
    )
    if scores is not None:
        scored = [(f"{name}/{n}", s) for name, each in scores.items() for n, s in enumerate(each)]
        rows = [{"solution": name, "log_odds": [0.0, s]} for name, s in scored]
        lines(folder / "scores-probe.jsonl", rows)
    return folder


def evaluation(folder: Path, kept: dict[str, list[tuple[str | None, float]]]) -> None:
    """Write the folder of an evaluation whose solutions have these answers and weights."""
    cost: dict[str, Any] = {
        "generated_tokens": 12,
        "scored_tokens": 0,
        "model_calls": 1,
        "reward_positions": 0,
    }
    cost |= {"seconds": 2.0, "policy_seconds": 1.5}
    results = [
        {"id": name, "level": None, "answer": each[0][0], "reference": RIGHT, "seconds": 2.0}
        | {"correct": each[0][0] == RIGHT, "probability": 0.5, "probability_correct": 0.5}
        | {"selected": {}, "truncated": 0, "num_steps": 2, "num_particles": len(each)}
        | {"cost": cost, "error": None}
        for name, each in kept.items()
    ]
    lines(folder / "results.jsonl", results)
    record = {"log_weight": 0.0, "finish_reason": "eos", "rewards": [], "log_prob": -1.0}
    record |= {"num_tokens": 6, "why_no_answer": None}
    with (folder / "solutions.jsonl.gz").open("wb") as file:
        for name, each in kept.items():
            solutions = [
                record | {"answer": answer, "weight": weight, "steps": ["a", str(n)]}
                for n, (answer, weight) in enumerate(each)
            ]
            document = {"id": name, "seed": 0, "question": name, "selected": 0}
            text = json.dumps(document | {"solutions": solutions}) + "\n"
            file.write(gzip.compress(text.encode()))


def filled(folder: Path, *, scored: bool = True) -> Path:
    """Write a world of two questions with samples and a filter."""
    ties: dict[str, list[str | None]] = {
        "q/1": [RIGHT, RIGHT, WRONG, None],
        "q/2": [WRONG, RIGHT, "6", WRONG],
    }
    scores = {"q/1": [2.0, 1.0, 3.0, -1.0], "q/2": [0.0, 4.0, -2.0, 0.5]}
    samples(folder / "samples", ties, scores if scored else None)
    evaluation(
        folder / "bootstrap-4-probe",
        {
            "q/1": [(RIGHT, 0.25), (WRONG, 0.25), (RIGHT, 0.25), (WRONG, 0.25)],
            "q/2": [(WRONG, 0.4), (RIGHT, 0.6), (None, 0.0), (None, 0.0)],
        },
    )
    return folder


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of that world."""
    return figures_of_world(filled(tmp_path_factory.mktemp("world")), WORLD)


@pytest.mark.parametrize(("count", "right", "size"), [(5, 2, 3), (4, 0, 2), (4, 4, 1), (6, 1, 6)])
def test_coverage_is_the_mean_over_all_choices(count: int, right: int, size: int) -> None:
    hits = [n < right for n in range(count)]
    expected = fmean(any(chosen) for chosen in combinations(hits, size))
    assert pass_at_k(count, right, size) == pytest.approx(expected)


def test_a_vote_splits_ties_and_counts_no_answers() -> None:
    assert vote([RIGHT, WRONG, None, None], [1, 1, 1, 1], RIGHT).right == 0.5
    found = vote([RIGHT, "4.0", WRONG, None], [0.25, 0.25, 0.5, 1.0], RIGHT)
    assert (found.right, found.probability) == (0.0, 0.25)
    joined = vote(told([RIGHT, "4.0", WRONG]), [0.3, 0.3, 0.4], RIGHT)
    assert joined.right == 1.0 and joined.leading == pytest.approx(0.6)
    for nothing in (vote([None], [1.0], RIGHT), vote([RIGHT], [0.0], RIGHT)):
        assert (nothing.right, nothing.probability, nothing.leading) == (0.0, 0.0, None)


def test_best_of_n_shares_among_solutions_of_the_highest_score() -> None:
    assert best([RIGHT, WRONG, WRONG], [2.0, 2.0, 2.0], RIGHT).right == pytest.approx(1 / 3)
    assert best([RIGHT, None], [1.0, 1.0], RIGHT).right == 0.5
    assert best([RIGHT, WRONG], [1.0, 2.0], RIGHT).right == 0.0


def test_groups_are_disjoint() -> None:
    assert [list(range(16))[each] for each in groups(16, 8)] == [
        list(range(8)),
        list(range(8, 16)),
    ]
    assert groups(3, 4) == []


def test_the_calibration_error_sees_overconfidence() -> None:
    sure = [vote([RIGHT], [1.0], RIGHT), vote([WRONG], [1.0], RIGHT)]
    assert calibration_error(sure) == pytest.approx(0.5)
    assert calibration_error([vote([None], [1.0], RIGHT)]) is None


def test_methods_on_samples_come_to_what_they_should(tmp_path: Path) -> None:
    found = read_samples(filled(tmp_path) / "samples", 2)
    assert found is not None
    right = {(each.method, each.size): each.right for each in of_samples(found)}
    assert right["majority", 1] == {"q/1": 0.5, "q/2": 0.25}
    assert right["majority", 4] == {"q/1": 1.0, "q/2": 0.0}
    assert right["one of N is right", 4] == {"q/1": 1.0, "q/2": 1.0}
    assert right["best of N", 4] == {"q/1": 0.0, "q/2": 1.0}
    # The right answers of q/1 have .88 and .73, the wrong one .95; those of q/2 .98, .5 and .62.
    assert right["weighted best of N", 4] == {"q/1": 1.0, "q/2": 0.0}
    (four,) = (each for each in of_samples(found) if (each.method, each.size) == ("majority", 4))
    assert (four.tokens, four.first_steps, four.solutions) == (24, 2, 2)


def test_only_whole_cells_are_in_the_figures(tmp_path: Path, figures: dict[str, Any]) -> None:
    assert figures["there"] == ["samples", "scores-probe", "bootstrap-4-probe"]
    filled(tmp_path)
    rows = (tmp_path / "samples" / "scores-probe.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "samples" / "scores-probe.jsonl").write_text("".join(rows[:-1]) + rows[-1][:9])
    results = tmp_path / "bootstrap-4-probe" / "results.jsonl"
    results.write_text(results.read_text()[:-20])  # a line that is being written
    part = figures_of_world(tmp_path, WORLD)
    assert part["there"] == ["samples"] and "bootstrap-4-probe" in part["missing"]
    assert {each["method"] for each in part["methods"]} == {"majority", "one of N is right"}
    assert part["claims"] == [] == part["rewards"]
    assert figures_of_world(tmp_path, World("gsm8k", "GSM8K", 3))["there"] == []
    assert figures_of_world(tmp_path / "nothing", WORLD)["methods"] == []


def test_questions_that_could_not_be_asked_are_wrong(tmp_path: Path) -> None:
    folder = samples(tmp_path, {"q/1": [RIGHT, RIGHT]})
    with (folder / "samples.jsonl").open("a") as file:
        row = {"id": "q/2", "split": "train", "question": "q/2", "answer": RIGHT, "error": "long"}
        file.write(json.dumps(row) + "\n")
    found = read_samples(folder, 2)
    assert found is not None
    assert of_samples(found)[0].right == {"q/1": 1.0, "q/2": 0.0}


def test_a_filter_is_paired_with_the_others_at_equal_n(figures: dict[str, Any]) -> None:
    (mine,) = (each for each in figures["methods"] if each["method"] == "filter")
    assert (mine["accuracy"], mine["outside"], mine["seconds"]) == (0.75, 0.25, 2.0)
    assert (mine["first_steps"], mine["solutions"]) == (1, 4)
    difference = {each["right"]["method"]: each["difference"] for each in figures["claims"]}
    assert difference == {"majority": 0.25, "best of N": 0.25, "weighted best of N": 0.25}
    assert {each["verdict"] for each in figures["claims"]} == {"not distinguishable"}


@pytest.mark.parametrize(
    ("left", "right", "verdict"),
    [(1.0, 0.0, "holds"), (0.0, 1.0, "does not hold"), (1.0, 1.0, "not distinguishable")],
)
def test_verdicts_are_those_of_the_data(left: float, right: float, verdict: str) -> None:
    names = [f"q/{n}" for n in range(50)]
    one, other = (
        Outcome("filter", 4, dict.fromkeys(names, value), {}, 1.0) for value in (left, right)
    )
    found = compared(one, other)
    assert (found["verdict"], found["difference"]) == (verdict, left - right)
    assert found["low"] < found["high"]


def test_only_questions_of_both_are_compared() -> None:
    one = Outcome("filter", 4, {"a": 1.0, "b": 1.0}, {}, 1.0)
    other = Outcome("majority", 4, {"b": 0.0, "c": 1.0}, {}, 1.0)
    found = compared(one, other)
    assert (found["questions"], found["difference"]) == (1, 1.0)


def test_the_interval_of_a_share_is_that_of_agresti_and_coull() -> None:
    values = np.array([1.0] * 30 + [0.0] * 70)
    center = 32 / 104
    half = 1.959964 * math.sqrt(center * (1 - center) / 104)
    assert share_interval(values) == pytest.approx((center - half, center + half), abs=1e-6)
    low, high = share_interval(np.zeros(20))
    assert low == 0 < high < 0.25


def test_rewards_are_told_from_chance(tmp_path: Path) -> None:
    answers: dict[str, list[str | None]] = {f"q/{n}": [RIGHT, WRONG] for n in range(12)}
    scores = {name: [1.0, -1.0] for name in answers}
    folder = samples(tmp_path, answers, scores)
    rows = [
        {"solution": f"{name}/{n}", "log_odds": [0.0, float((k + n) % 2)]}
        for k, name in enumerate(answers)
        for n in range(2)
    ]
    lines(folder / "scores-own-log-prob.jsonl", rows)
    found = read_samples(folder, 12)
    assert found is not None
    by_name = {each["reward"]: each for each in discrimination.of_rewards(found)}
    assert by_name["probe"]["auroc"] == by_name["probe"]["within"] == 1.0
    assert by_name["own-log-prob"]["auroc"] == 0.5
    assert [each["auroc"] for each in by_name["probe"]["by_position"][:3]] == [0.5, 1.0, None]
    (above,) = discrimination.differences(found)
    low, high = above["interval"]
    assert above["difference"] == 0.5 and 0.1 < low < 0.5 < high
    best_one = discrimination.at_goal(list(by_name.values()))
    assert best_one is not None and best_one["reward"] == "probe"


def test_the_larger_model_has_no_more_operations(tmp_path: Path) -> None:
    filled(tmp_path, scored=False)  # the filter draws 12 tokens a question, a solution has 6
    larger: dict[str, list[str | None]] = {"q/1": [RIGHT] * 3, "q/2": [WRONG] * 3}
    samples(tmp_path / "samples-larger", larger)
    (pair,) = figures_of_world(tmp_path, WORLD)["larger"]
    assert pair["right"]["is_larger"] and pair["right"]["size"] == 1


def test_every_planned_cell_can_be_run() -> None:
    for name in (name for names in PLANNED.values() for name in names):
        check_name(name)
        assert name in CELLS or name in OTHERS
    with pytest.raises(InputError, match="no such cell"):
        check_name("bootstrap-5-probe")


def test_what_a_cell_needs_is_asked_for(tmp_path: Path) -> None:
    job = Job(WORLD, tmp_path, tmp_path / "questions.jsonl", "minimath-policy")
    with pytest.raises(InputError, match="--reward probe=REWARD"):
        job.reward("probe")
    with pytest.raises(InputError, match="--larger MODEL"):
        job.model(is_larger=True)


def test_cells_may_stand_behind_options() -> None:
    words = "run WORK --policy P greedy samples --dataset D --reward probe=F --count 3"
    given = command.parsed(words.split())
    assert (given.cells, given.reward, given.count) == (["greedy", "samples"], ["probe=F"], 3)


def test_levels_are_chosen(tmp_path: Path) -> None:
    rows = [
        {"problem": f"p {n}", "answer": "1", "level": f"Level {1 + n % 5}", "id": str(n)}
        for n in range(20)
    ]
    lines(tmp_path / "math.jsonl", rows)
    world = World("math", "MATH", 5, (1, 2))
    chosen = Job(world, tmp_path, tmp_path / "math.jsonl", "minimath-policy").dataset
    assert [each.level for each in chosen.examples] == [1, 2, 1, 2, 1]


def test_the_page_says_what_there_is(tmp_path: Path, figures: dict[str, Any]) -> None:
    found = dict.fromkeys(WORLDS, figures)
    page = tmp_path / "page.md"
    page.write_text(command.PAGE.read_text())
    command.make_page(found, tmp_path / "figures" / "numbers.json", page)
    text = page.read_text()
    assert "`bootstrap-4-probe`; still missing are `greedy`" in text
    assert "| filter, probe | 4 | 75.0 |" in text
    claim = "That the filter with the reward *probe* and N = 4 is above majority is **not disting"
    assert claim in text
    assert "not shown to be above weighted best of N at N = 4" in text
    assert (tmp_path / "figures" / "numbers.svg").is_file()
    again = json.loads((tmp_path / "figures" / "numbers.json").read_text())
    assert command.with_blocks(text, again) == text


def test_the_page_is_that_of_its_figures() -> None:
    text = command.PAGE.read_text()
    found = json.loads(command.FIGURES.read_text())
    assert command.with_blocks(text, found) == text
    has_figures = bool(found["gsm8k"]["methods"])
    assert has_figures == command.FIGURES.with_suffix(".svg").is_file()
    if not has_figures:
        assert tables.NOTHING in text


COUNT = ["--count", "2"]
EMBEDDED = Path(models.__file__).parent / "embedded"


def with_all_kinds(work: Path) -> Path:
    """Write a world with cells of all kinds, in which questions have texts and paths folders."""
    folder = filled(work / "gsm8k")
    samples(folder / "samples-larger", {"q/1": [RIGHT] * 3, "q/2": [WRONG] * 3})
    evaluation(folder / "greedy", {"q/1": [(RIGHT, 1.0)], "q/2": [(WRONG, 1.0)]})
    (folder / "greedy" / "solutions.jsonl.gz").unlink()
    law: dict[str, Any] = {"kind": "nf4", "divergence": 1 / 3, "divergence_error": None}
    law |= dict.fromkeys(("solutions", "tokens", "particles", "questions", "steps"), 3)
    law |= {"share_left": 0.5, "least_left": 0.1}
    (folder / "quantized-nf4.json").write_text(json.dumps(law))
    config = {"policy": "/some/where/p.gguf", "dataset": "questions.jsonl"}
    for name in ("greedy", "bootstrap-4-probe"):
        (folder / name / "manifest.json").write_text(json.dumps({"config": config}))
    for name in ("samples", "samples-larger"):
        stages = {"samples": config, "labels": {}}
        (folder / name / "config.json").write_text(json.dumps({"stages": stages}))
    for path in folder.rglob("*.jsonl"):
        path.write_text(path.read_text().replace('"question": "q', '"question": "How many q'))
    return work


def told_by(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[str]:
    """What a command says."""
    command.main([str(word) for word in (*words, *COUNT)])
    return capsys.readouterr().out.splitlines()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.gz"))}


def test_records_make_the_same_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work, kept = with_all_kinds(tmp_path / "work"), tmp_path / "records"
    names = ["samples", "scores-probe", "samples-larger", "quantized-nf4", "greedy"]
    names = [f"gsm8k/{name}" for name in (*names, "bootstrap-4-probe")]
    assert told_by(capsys, "keep", work, "--records", kept) == names
    assert len(contents(kept)) == len(names)
    found = []
    for place in ([str(work)], []):
        numbers, page = tmp_path / "figures.json", tmp_path / "page.md"
        page.write_text(command.PAGE.read_text())
        options: list[str | Path] = ["--records", kept, "--figures", numbers, "--page", page]
        _ = told_by(capsys, "page", *place, *options)
        found.append((json.loads(numbers.read_text()), page.read_text()))
    assert found[0] == found[1]
    assert len(found[0][0]["gsm8k"]["there"]) == len(names)
    assert found[0][0]["gsm8k"]["rewards"] and found[0][0]["gsm8k"]["larger"]


def test_records_are_the_same_bytes_and_have_no_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, kept = with_all_kinds(tmp_path / "work"), tmp_path / "records"
    _ = told_by(capsys, "keep", work, "--records", kept)
    first = contents(kept)
    _ = told_by(capsys, "keep", work, "--records", kept)
    assert contents(kept) == first
    for content in first.values():
        text = gzip.decompress(content)
        assert not any(each in text for each in (b"How many", b"a 0", b"some/where"))
    with records.brought(kept, WORLDS) as brought:
        _ = told_by(capsys, "keep", brought, "--records", tmp_path / "again")
    assert contents(tmp_path / "again") == first


def test_a_record_is_replaced_when_the_cell_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, kept = with_all_kinds(tmp_path / "work"), tmp_path / "records"
    _ = told_by(capsys, "keep", work, "--records", kept)
    first = contents(kept)
    results = work / "gsm8k" / "bootstrap-4-probe" / "results.jsonl"
    whole = results.read_text().replace('"seconds": 2.0', '"seconds": 3.0')
    results.write_text(whole[:-20])
    (work / "gsm8k" / "samples" / "labels.jsonl").write_text("")
    said = told_by(capsys, "keep", work, "--records", kept)
    assert said == [f"gsm8k/{name}" for name in ("samples-larger", "quantized-nf4", "greedy")]
    assert contents(kept) == first
    begun = [*said, "gsm8k/bootstrap-4-probe"]
    assert told_by(capsys, "keep", work, "--records", tmp_path / "others") == begun
    assert len(contents(tmp_path / "others")) == len(begun)
    results.write_text(whole)
    assert "gsm8k/bootstrap-4-probe" in told_by(capsys, "keep", work, "--records", kept)
    new = contents(kept)
    assert [name for name in first if new[name] != first[name]] == ["bootstrap-4-probe.jsonl.gz"]


def test_evaluations_that_have_begun_are_kept_and_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, work, kept = tmp_path / "questions.jsonl", tmp_path / "work", tmp_path / "records"
    questions = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in (3, 4)]
    lines(dataset, [{"id": f"q/{n}"} | each for n, each in enumerate(questions)])
    reward = str(tmp_path / "some" / "reward")
    shutil.copytree(EMBEDDED / "minimath-reward", reward)
    asked: list[str | Path] = ["--dataset", dataset, "--policy", "minimath-policy"]
    asked += ["--reward", f"probe={reward}"]
    cell = ("bootstrap-4-probe", *asked)
    _ = told_by(capsys, "run", work, *cell)
    results = work / "gsm8k" / "bootstrap-4-probe" / "results.jsonl"
    whole = read_rows(results)
    lines(results, whole[:1])
    assert told_by(capsys, "keep", work, "--records", kept) == ["gsm8k/bootstrap-4-probe"]
    assert told_by(capsys, "keep", work, "--records", kept) == []  # nothing is new
    other, moved = tmp_path / "other", str(tmp_path / "elsewhere" / "reward")
    shutil.copytree(reward, moved)
    asked[-1] = f"probe={moved}"
    _ = told_by(capsys, "bring", other, "--records", kept, *asked)
    assert not figures_of(other, {"gsm8k": WORLD})["gsm8k"]["there"]
    _ = told_by(capsys, "run", other, "bootstrap-4-probe", *asked)
    found = read_rows(other / "gsm8k" / "bootstrap-4-probe" / "results.jsonl")
    assert [row["id"] for row in found] == [row["id"] for row in whole]
    assert found[0]["seconds"] == pytest.approx(whole[0]["seconds"], rel=1e-5)  # not run again
    assert found[1]["answer"] == whole[1]["answer"]
    assert told_by(capsys, "keep", other, "--records", kept) == ["gsm8k/bootstrap-4-probe"]


def test_the_records_of_the_project() -> None:
    """They are whole, and the page can be made of them."""
    for path in records.RECORDS.glob("*/*.jsonl.gz"):
        about, rows = records.read(path)
        assert about and (rows or path.name.startswith("quantized"))
    with records.brought(records.RECORDS, WORLDS) as brought:
        found = figures_of(brought, WORLDS)
    assert "samples" in found["gsm8k"]["there"] and found["gsm8k"]["rewards"]


def test_a_broken_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work, kept = with_all_kinds(tmp_path / "work"), tmp_path / "records"
    _ = told_by(capsys, "keep", work, "--records", kept)
    path = kept / "gsm8k" / "bootstrap-4-probe.jsonl.gz"
    whole = path.read_bytes()
    text = gzip.decompress(whole)
    without_a_line = b"".join(text.splitlines(keepends=True)[:-1])
    others = (text.replace(b"0.25", b"0.35"), without_a_line, b"", text[:40])
    for broken in (whole[:-9], whole[:60], b"", b"text", *map(gzip.compress, others)):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=f"as it was written. Got .*{path.name}"):
            records.read(path)
        with pytest.raises(InputError, match=path.name):
            _ = told_by(capsys, "page", "--records", kept)
    (kept / "gsm8k" / "greedy.jsonl.gz").write_bytes(whole)  # of another cell
    with pytest.raises(InputError, match="greedy.jsonl.gz"):
        records.read(kept / "gsm8k" / "greedy.jsonl.gz")


def test_cells_are_brought_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Samples of a real policy are whole again, and further cells are run on them."""
    policy = LanguageModel.from_pretrained("minimath-policy")
    texts = ["7 + 5 = 12\n\n12 - 8 = 4\n\n\\boxed{4}", "7 + 5 = 13\n\n13 - 8 = 5\n\n\\boxed{5}"]
    questions = {f"q/{n}": f"Tom has {n} pens. How many has he?" for n in (1, 2)}
    dataset = tmp_path / "questions.jsonl"
    lines(
        dataset,
        [{"id": name, "question": each, "answer": RIGHT} for name, each in questions.items()],
    )
    work, kept, other = tmp_path / "work", tmp_path / "records", tmp_path / "other"
    job = running.Job(WORLD, work / "gsm8k", dataset, "minimath-policy")
    drawn = with_all_kinds(work) / "gsm8k" / "samples"
    sampling = running.training_of(job, "samples").sampling(policy)
    rows, labels = list[dict[str, Any]](), list[dict[str, Any]]()
    for name, question in questions.items():
        ids = [policy.tokens.encode(text) for text in texts]
        for n, piece in enumerate(sampling.cut(ids)):
            correct = piece.text.endswith("{4}")
            rows.append(
                {"id": name, "split": "train", "question": question, "answer": RIGHT, "sample": n}
                | {"token_ids": list(ids[n]), "log_probs": [-0.01 * k for k in range(len(ids[n]))]}
                | {"text": piece.text, "finish_reason": "answer", "correct": correct}
                | {"found": RIGHT if correct else WRONG}
            )
            labels.append(
                {"id": name, "sample": n, "step_ends": list(piece.step_ends)}
                | {"steps": list(piece.steps), "labels": [float(correct)] * len(piece.steps)}
                | {"continuations": 0, "labeller": "outcome"}
            )
    lines(drawn / "samples.jsonl", rows)
    lines(drawn / "labels.jsonl", labels)
    (drawn / "scores-probe.jsonl").unlink()
    shutil.rmtree(work / "gsm8k" / "samples-larger")  # whose tokens nobody has drawn
    asked: list[str | Path] = ["--dataset", dataset, "--policy", "minimath-policy"]
    _ = told_by(capsys, "run", work, "scores-own-log-prob", *asked)
    _ = told_by(capsys, "keep", work, "--records", kept)
    (other / "gsm8k" / "greedy").mkdir(parents=True)
    said = told_by(capsys, "bring", other, "--records", kept, *asked)
    assert "samples: brought" in said and "greedy: left alone, since it is there" in said
    assert not list((other / "gsm8k" / "greedy").iterdir())
    again = told_by(capsys, "bring", other, "--records", kept, *asked)
    assert all(line.endswith("left alone, since it is there") for line in again)
    brought = other / "gsm8k" / "samples"
    assert read_rows(brought / "labels.jsonl") == labels
    same = [{**row, "log_probs": []} for row in read_rows(brought / "samples.jsonl")]
    assert same == [{**row, "log_probs": []} for row in rows]
    (other / "gsm8k" / "greedy").rmdir()
    assert "greedy: brought" in told_by(capsys, "bring", other, "--records", kept, *asked)
    worlds = {"gsm8k": WORLD}
    assert figures_of(other, worlds) == figures_of(work, worlds)
    scores = brought / "scores-own-log-prob.jsonl"
    kept_scores = read_rows(scores)
    scores.unlink()
    _ = told_by(capsys, "run", other, "scores-own-log-prob", "scores-arithmetic", *asked)
    for one, two in zip(read_rows(scores), kept_scores, strict=True):
        assert one["solution"] == two["solution"]
        assert one["log_odds"] == pytest.approx(two["log_odds"], rel=1e-4)
    assert "scores-arithmetic" in figures_of(other, worlds)["gsm8k"]["there"]
    # Scores stay with the samples that they are of.
    (brought / "samples.jsonl").write_text((drawn / "samples.jsonl").read_text()[:-20])
    scores.unlink()
    said = told_by(capsys, "bring", other, "--records", kept, *asked)
    assert "scores-own-log-prob: left out, since these are scores of other samples" in said


def test_texts_of_another_world_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, kept = with_all_kinds(tmp_path / "work"), tmp_path / "records"
    _ = told_by(capsys, "keep", work, "--records", kept)
    dataset = tmp_path / "others.jsonl"
    lines(dataset, [{"id": "q/1", "question": "How many?", "answer": RIGHT}])
    asked: list[str | Path] = [
        "--records",
        kept,
        "--dataset",
        dataset,
        "--policy",
        "minimath-policy",
    ]
    with pytest.raises(InputError, match="other steps"):
        _ = told_by(capsys, "bring", tmp_path / "one", *asked)
    (kept / "gsm8k" / "samples.jsonl.gz").unlink()
    (kept / "gsm8k" / "samples-larger.jsonl.gz").unlink()
    with pytest.raises(InputError, match="without 'q/2'"):
        _ = told_by(capsys, "bring", tmp_path / "two", *asked)
