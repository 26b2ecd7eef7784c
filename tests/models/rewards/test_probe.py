"""A probe reads the policy while it writes, and says the same when it reads a solution again."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import sample_problem
from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.batching.scheduler import run_together
from llmsmc.models.batching.shared import SharedLanguageModel
from llmsmc.models.policies import fingerprint
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.models.rewards.probe import LabelledSolution, Probe, judged, train_probe

QUESTIONS = [sample_problem(level, number).question for level in (1, 2, 3) for number in range(3)]


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    return LanguageModel.from_pretrained("minimath-policy-small")


def solutions(policy: LanguageModel, question: str, count: int = 4) -> ReasoningParticles:
    model = Reasoning(policy, None, question)
    generator = torch.Generator().manual_seed(len(question))
    state = model.sample_initial(count, generator=generator)
    for t in range(1, 12):
        state = model.sample_transition(t, state, generator=generator)
    return state


@pytest.fixture(scope="module")
def labelled(policy: LanguageModel) -> list[LabelledSolution]:
    found = []
    for number, question in enumerate(QUESTIONS):
        drawn = solutions(policy, question)
        for n, particle in enumerate(drawn):
            ends = tuple(drawn.step_ends[n, : len(particle.steps)].tolist())
            found.append(
                LabelledSolution(
                    question,
                    drawn.prompt_ids,
                    particle.token_ids,
                    ends,
                    tuple(float(len(step) % 2) for step in particle.steps),
                    "validation" if number % 3 == 2 else "train",
                    f"{number}/{n}",
                    particle.finish_reason in ("eos", "answer"),
                )
            )
    return found


@pytest.fixture(scope="module")
def folder(
    policy: LanguageModel,
    labelled: list[LabelledSolution],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("probe")
    train_probe(policy, labelled, path / "reward", work=path / "work", epochs=2)
    return path


def test_what_is_read_while_writing_is_what_is_read_again(
    policy: LanguageModel, labelled: list[LabelledSolution], folder: Path
) -> None:
    probe = Probe.from_pretrained(folder / "reward", policy)
    model = Reasoning(policy, probe, QUESTIONS[5], aggregation="last")
    run = BootstrapFilter(6).run(model, seed=3)
    assert run.cost.reward_positions == 0
    particles = run.particles
    for n, particle in enumerate(particles):
        expected = torch.tensor(particle.rewards, dtype=torch.float64)
        unread = dataclasses.replace(particles, log_odds=particles.log_odds * torch.nan)
        unread = dataclasses.replace(unread, num_scored=torch.zeros_like(unread.num_scored))
        again, _ = model.observe_path(0, unread[[n]], None)
        torch.testing.assert_close(
            again.log_odds[0, : len(expected)].sigmoid(), expected, rtol=0, atol=2e-4
        )
    one = labelled[:3]
    for each, found in zip(one, judged(probe, one, folder / "other"), strict=True):
        drawn = solutions(policy, each.question)
        state, _ = Reasoning(policy, probe, each.question).observe_path(0, drawn, None)
        row = [tuple(p.token_ids) for p in drawn].index(each.token_ids)
        live = state.log_odds[row, : len(found)]
        torch.testing.assert_close(
            live, torch.tensor(found, dtype=torch.float64), rtol=0, atol=2e-3
        )


def test_runs_that_share_their_batches_say_the_same(policy: LanguageModel, folder: Path) -> None:
    probe = Probe.from_pretrained(folder / "reward", policy)
    shared = SharedLanguageModel(policy)

    def task(question: str, model: LanguageModel) -> float:
        return BootstrapFilter(4).run(Reasoning(model, probe, question), seed=1).log_evidence

    alone = [task(question, policy) for question in QUESTIONS[:3]]
    tasks = [lambda question=question: task(question, shared) for question in QUESTIONS[:3]]
    together = dict(run_together(tasks, 3))
    assert [together[n] for n in range(3)] == pytest.approx(alone, abs=1e-4)


def test_a_training_repeats_and_takes_up_what_was_read(
    policy: LanguageModel, labelled: list[LabelledSolution], folder: Path
) -> None:
    read: list[int] = []
    again = folder / "again"
    train_probe(
        policy,
        labelled,
        again,
        work=folder / "work",
        epochs=2,
        progress=lambda stage, done, total: read.append(done),
    )
    for name in ("probe.json", "probe.safetensors"):
        assert (again / name).read_bytes() == (folder / "reward" / name).read_bytes()
    shard = next((folder / "work").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:100])
    train_probe(policy, labelled, again, work=folder / "work", epochs=2)
    assert (again / "probe.json").read_bytes() == (folder / "reward" / "probe.json").read_bytes()


def test_another_policy_is_refused(folder: Path) -> None:
    other = LanguageModel.from_pretrained("minimath-policy")
    with pytest.raises(InputError, match="policy that it was trained for"):
        Probe.from_pretrained(folder / "reward", other)


@pytest.mark.parametrize("count", [1, 2, 63, 64, 136_134_656, 2**31 + 1])
def test_places_of_a_fingerprint(count: int) -> None:
    places = fingerprint._places(count)
    assert int(places[0]) == 0 and int(places[-1]) == count - 1
    assert bool((places.diff() >= 0).all())


def test_changed_weights_are_refused_and_another_precision_is_not(folder: Path) -> None:
    half = LanguageModel.from_pretrained("minimath-policy-small", dtype="bfloat16")
    Probe.from_pretrained(folder / "reward", half)
    changed = LanguageModel.from_pretrained("minimath-policy-small")
    with torch.no_grad():
        changed.model.model.layers[0].mlp.down_proj.weight.add_(0.01)
    with pytest.raises(InputError, match="other weights"):
        Probe.from_pretrained(folder / "reward", changed)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"layers": [1], "width": 1e9}', '{"layers": "abc"}']
)
def test_what_is_no_probe_is_refused(tmp_path: Path, text: str, policy: LanguageModel) -> None:
    (tmp_path / "probe.json").write_text(text)
    with pytest.raises(InputError, match="no probe in this folder"):
        Probe.from_pretrained(tmp_path, policy)


def test_weights_that_are_cut_short_are_refused(
    tmp_path: Path, folder: Path, policy: LanguageModel
) -> None:
    settings = json.loads((folder / "reward" / "probe.json").read_text())
    (tmp_path / "probe.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="no weights"):
        Probe.from_pretrained(tmp_path, policy)
    (tmp_path / "probe.safetensors").write_bytes(
        (folder / "reward" / "probe.safetensors").read_bytes()[:200]
    )
    with pytest.raises(InputError, match="cannot be read"):
        Probe.from_pretrained(tmp_path, policy)


def test_labels_of_one_class_are_refused(
    policy: LanguageModel, labelled: list[LabelledSolution], tmp_path: Path
) -> None:
    same = [dataclasses.replace(each, labels=(1.0,) * len(each.labels)) for each in labelled]
    with pytest.raises(InputError, match="all right"):
        train_probe(policy, same, tmp_path / "reward", work=tmp_path / "work")


def test_a_folder_is_a_reward_by_its_name(folder: Path) -> None:
    from llmsmc import solve

    found = solve(
        QUESTIONS[0],
        policy="minimath-policy-small",
        reward=str(folder / "reward"),
        aggregation="last",
        particles=3,
    )
    assert found.cost.reward_positions == 0
    with pytest.raises(InputError, match="policy that it was trained for"):
        solve(QUESTIONS[0], policy="minimath-policy", reward=str(folder / "reward"))
