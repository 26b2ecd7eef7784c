"""Wrong steps are kept and drawn anew: nothing is learnt twice, under the law of the policy."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Example, load
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.minimath.checker import check_steps
from llmsmc.models.minimath.datasets import minimath_train
from llmsmc.models.minimath.problem import Problem
from llmsmc.models.rewards.probe import FeatureFolder, read_solutions
from llmsmc.models.text.stopping import Delimiter
from llmsmc.solving.settings import Settings
from llmsmc.training import redrawing
from llmsmc.training.checkers import minimath
from llmsmc.training.labels import Labelling, label_missing
from llmsmc.training.lines import Lines, Row
from llmsmc.training.redrawing import redrawn
from llmsmc.training.samples import draw_missing
from llmsmc.training.sampling import Sampling
from llmsmc.training.scoring import joined, labelled_solution
from llmsmc.training.stages import RewardTraining

EXAMPLES = load("minimath-train").part(":12").examples


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    return LanguageModel.from_pretrained("minimath-policy-small")


@pytest.fixture(scope="module")
def sampling(policy: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Sampling:
    folder = FeatureFolder(tmp_path_factory.mktemp("redrawing") / "features", policy)
    return Sampling(
        policy,
        Delimiter(),
        num_samples=3,
        max_tokens=200,
        in_flight=4,
        features=folder,
        checker=minimath,
    )


def drawn(path: Path, sampling: Sampling, examples: tuple[Example, ...] = EXAMPLES) -> list[Row]:
    for _ in draw_missing(examples, sampling, Lines(path)):
        pass
    return Lines(path).rows


def test_each_step_that_is_drawn_is_labelled_once(sampling: Sampling, tmp_path: Path) -> None:
    rows = drawn(tmp_path / "samples.jsonl", sampling)
    labels = Lines(tmp_path / "labels.jsonl")
    for _ in label_missing(rows, sampling, Labelling("checker", minimath), labels):
        pass
    problems = {each.question: each for each in map(problem_of, EXAMPLES)}
    seen, by_question = Counter[tuple[str, int, tuple[str, ...]]](), dict[str, list[Row]]()
    for row, label in zip(rows, labels.rows, strict=True):
        by_question.setdefault(row["id"], []).append(row)
        if row["split"] == "test":
            assert row["given"] == 0 and row["finish_reason"] != "checker"
            continue
        steps, told = label["steps"], label["labels"]
        assert told[: row["given"]] == [None] * row["given"]
        truth = [float(each.correct) for each in check_steps(problems[row["question"]], steps)]
        assert told[row["given"] :] == truth[row["given"] :]
        # All before the last is right, and a solution that is not the first of its steps is wrong.
        assert all(truth[:-1]) and (row["given"] == 0 or truth[-1] == 0)
        if row["given"]:
            assert row["given"] == len(steps) - 1
            seen[(row["id"], row["given"], tuple(steps[:-1]))] += 1
    assert len(seen) > 5, "no wrong step"
    for (name, given, before), count in seen.items():
        assert count <= redrawing.TRIES * sampling.num_samples
        # Another solution has the steps that were given.
        assert any(
            row["given"] == 0 and row["text"].startswith("".join(before))
            for row in by_question[name]
        ), (name, given)
    assert {row["of"] for row in by_question[EXAMPLES[0].id]} == {len(by_question[EXAMPLES[0].id])}


def problem_of(example: Example) -> Problem:
    return next(each for each in minimath_train() if each.question == example.question)


def test_what_is_recorded_of_them_is_what_is_read(sampling: Sampling, tmp_path: Path) -> None:
    rows = drawn(tmp_path / "samples.jsonl", sampling)
    labels = Lines(tmp_path / "labels.jsonl")
    for _ in label_missing(rows, sampling, Labelling("checker", minimath), labels):
        pass
    folder = sampling.features
    assert folder is not None
    solutions = [
        labelled_solution(each, folder.policy.prompt_ids) for each in joined(rows, labels.rows)
    ]
    assert any(each.given for each in solutions)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("llmsmc.models.rewards.probe.training.score")
        kept = list(read_solutions(folder.policy, solutions, None, folder.path))
    read = list(read_solutions(folder.policy, solutions, None, tmp_path / "read"))
    for solution, one, other in zip(solutions, kept, read, strict=True):
        assert len(one.known) == len(solution.step_ends) - solution.given == len(solution.is_end)
        torch.testing.assert_close(one.known, other.known, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.states, other.states, rtol=2e-3, atol=2e-3)


def test_rows_that_are_missing_are_drawn_again(sampling: Sampling, tmp_path: Path) -> None:
    """One question at a time they are the same bit for bit."""
    sampling, examples = replace(sampling, in_flight=1), EXAMPLES[:5]
    whole = drawn(tmp_path / "whole.jsonl", sampling, examples)
    path = tmp_path / "cut.jsonl"
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for kept in (1, len(lines) - 1):
        path.write_bytes(b"".join(lines[:kept]))
        assert drawn(path, sampling, examples) == whole


@pytest.mark.quick
def test_the_law_of_a_step_is_that_of_the_policy(policy: LanguageModel) -> None:
    """All first steps that are drawn, right and wrong, beside those without a checker."""
    example = EXAMPLES[3]
    sampling = Sampling(policy, Delimiter(), num_samples=2000, max_tokens=60, checker=minimath)
    found = redrawn(policy, example.question, sampling, torch.Generator().manual_seed(1))
    texts = [policy.tokens.decode(each.token_ids) for each in found if each.given == 0]
    again = Counter(text.split("\n\n")[0] for text in texts)
    model = Reasoning(policy, None, example.question)
    state = model.sample_initial(4000, generator=torch.Generator().manual_seed(2))
    plain = Counter(steps[0].strip() for steps in state.steps)
    sizes, num_compared = (again.total(), plain.total()), 0
    for text in plain | again:
        share = (plain[text] + again[text]) / sum(sizes)
        if share * min(sizes) > 10:
            error = (share * (1 - share) * sum(1 / size for size in sizes)) ** 0.5
            difference = plain[text] / plain.total() - again[text] / again.total()
            assert abs(difference) < 4.5 * error, text
            num_compared += 1
    assert num_compared > 1


def test_a_checker_that_fails_is_told(sampling: Sampling, tmp_path: Path) -> None:
    def fails(question: str, steps: Sequence[str]) -> list[bool]:
        raise ValueError("no")

    rows = drawn(tmp_path / "rows.jsonl", replace(sampling, checker=fails), EXAMPLES[:4])
    assert any("A checker takes a question" in row.get("error", "") for row in rows)


def test_redrawing_without_a_checker_is_refused() -> None:
    with pytest.raises(InputError, match="where a checker tells them"):
        RewardTraining(Settings(policy="minimath-policy-small"), load("minimath-dev"), redraw=True)
