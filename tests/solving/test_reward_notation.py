"""Rewards by name, on the command line and in Python, checked before models are loaded."""

from pathlib import Path
from typing import Any

import pytest

import llmsmc
from llmsmc.errors import InputError
from llmsmc.evaluation.configuration import configuration
from llmsmc.evaluation.datasets import dataset_of
from llmsmc.inference import BootstrapFilter, Greedy
from llmsmc.models import GenerativeJudge, LanguageModel, RewardEnsemble, RewardModel
from llmsmc.models.rewards.own_log_prob import OwnLogProb
from llmsmc.models.rewards.policy_ratio import PolicyRatio
from llmsmc.solving import reward_notation
from llmsmc.solving.loading import loaded, shared
from llmsmc.solving.reward_loading import check_reward
from llmsmc.solving.reward_notation import joined, parse_reward
from llmsmc.solving.settings import Settings
from tests.cli.conftest import Command, error_line
from tests.cli.conftest import command as command  # noqa: F401 - a fixture
from tests.models.conftest import (  # noqa: F401 - fixtures
    policy,
    policy_folder,
    reward,
    reward_folder,
    reward_network,
    saved,
    tokenizer,
)

QUESTION = "What is 3 + 4?"


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("a model is loaded")

    for cls in (LanguageModel, RewardModel):
        monkeypatch.setattr(cls, "from_pretrained", load)


@pytest.mark.parametrize(
    ("text", "kind", "argument", "options"),
    [
        ("none", "none", "", {}),
        ("own-log-prob", "own-log-prob", "", {}),
        ("own-log-prob:tokens=min", "own-log-prob", "", {"tokens": "min"}),
        ("judge", "judge", "", {}),
        ("judge:num_critiques=2,max_tokens=8", "judge", "", {"num_critiques": 2, "max_tokens": 8}),
        ("judge:org/name,temperature=0", "judge", "org/name", {"temperature": 0.0}),
        ("ratio:org/name", "ratio", "org/name", {}),
        ("ratio:policy,reference=a/b", "ratio", "policy", {"reference": "a/b"}),
        ("ratio:a/b,coefficient=1e-2", "ratio", "a/b", {"coefficient": 0.01}),
        ("minimath-reward", "model", "minimath-reward", {}),
        ("org/judge", "model", "org/judge", {}),
        ("http://localhost:8000", "model", "http://localhost:8000", {}),
        ("math:gcd", "function", "math:gcd", {}),
    ],
)
def test_forms(text: str, kind: str, argument: str, options: dict[str, Any]) -> None:
    named = parse_reward(text)
    assert (named.kind, named.argument, dict(named.options)) == (kind, argument, options)
    assert named.parts == (named,) and joined([text]) == text


def test_ensembles(tmp_path: Path) -> None:
    (tmp_path / "a+b").mkdir()
    texts = ["arithmetic:wrong=0.1", f"{tmp_path}/a+b", "judge:org/name,num_critiques=2"]
    text = joined(texts)
    assert text is not None
    named = parse_reward(f"{text},combine=min")
    assert [part.kind for part in named.parts] == ["arithmetic", "model", "judge"]
    assert named.parts[1].argument == str(tmp_path / "a+b")
    assert dict(named.options) == {"combine": "min"}
    assert dict(named.parts[2].options) == {"num_critiques": 2}
    assert joined([]) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "Got no reward beside policy="),
        ("--reward none", "weighs solutions by a reward. Got reward='none'"),
        ("--reward arithmetc", "Did you mean arithmetic?"),
        ("--reward juge:org/name", "no such model"),
        ("--reward nowhere/at/all", "There is no such model"),
        ("--reward ./nowhere", "A reward is written none, own-log-prob"),
        ("--reward math:nothing", "has nothing of that name"),
        ("--reward nomodule:name", "No module named 'nomodule'"),
        ("--reward own-log-prob:tokens=maen", "Got 'maen'; accepted: 'mean', 'sum', 'min'"),
        ("--reward own-log-prob:token=sum", "Got 'token=sum' in"),
        ("--reward arithmetic:wrong=2", "0 <= wrong <= 1"),
        ("--reward arithmetic:three", "is written arithmetic"),
        ("--reward judge:num_critiques=0", "num_critiques is a count"),
        ("--reward judge:http://localhost --aggregation last", "runs in this process"),
        ("--reward judge", "Got aggregation='product' beside reward='judge'"),
        ("--reward judge:./nowhere --aggregation last", "There is no such model"),
        ("--reward ratio", "Got nothing behind it"),
        ("--reward ratio:policy", "Got 'policy' twice"),
        ("--reward ratio:{policy} --aggregation last", "Got the policy twice"),
        ("--reward ratio:a/b,coefficient=x", "coefficient is a number"),
        ("--reward answer --aggregation last", "knows the answers of a data set"),
        ("--reward ensemble:arithmetic", "Got a single one"),
        ("--reward ensemble:arithmetic+none", "Got 'none' as one of them"),
        ("--reward arithmetic --reward ensemble:a/b+c/d", "rewards by themselves"),
        ("--reward ensemble:arithmetic+judge", "beside reward='ensemble:arithmetic+judge'"),
        ("--reward {policy}", "cannot be told from its config"),
        ("--reward {policy} --reward-convention trl", "not a process reward model"),
        ("--reward {policy} --reward-convention versa", "as a single token"),
        ("--reward {empty}", "cannot be loaded"),
        ("--reward arithmetic --reward-convention qwen", "reward_convention has no effect"),
        ("--reward own-log-prob --reward-device cpu", "reward_device has no effect"),
        ("--reward judge --aggregation last --reward-calibration 2", "reward_calibration"),
    ],
)
@pytest.mark.usefixtures("nothing_is_loaded")
def test_what_is_wrong_is_said_before_anything_is_loaded(
    command: Command,  # noqa: F811
    policy_folder: Path,  # noqa: F811
    tmp_path: Path,
    options: str,
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    line = options.format(policy=policy_folder, empty=tmp_path / "empty").split()
    error = error_line(command("solve", QUESTION, "--policy", policy_folder, *line))
    assert said in error and "Got " in error


@pytest.mark.usefixtures("nothing_is_loaded")
def test_the_same_in_python(policy_folder: Path) -> None:  # noqa: F811
    wrong: list[dict[str, Any]] = [
        {},
        {"reward": "none"},
        {"reward": "answer", "aggregation": "last"},
    ]
    for settings in wrong:
        with pytest.raises(InputError, match="accepted: "):
            llmsmc.solve(QUESTION, policy=policy_folder, **settings)
    with pytest.raises(InputError, match="cannot score while that draws"):
        llmsmc.solve_many(
            [QUESTION], policy=policy_folder, reward="judge", aggregation="last", tokens_meanwhile=4
        )
    with pytest.raises(InputError, match="on a server is no language model of judge"):
        llmsmc.solve(QUESTION, policy="http://localhost:1", reward="judge", aggregation="last")


def test_none_where_the_algorithm_can_do_without(policy: LanguageModel) -> None:  # noqa: F811
    settings: dict[str, Any] = {"policy": policy, "max_steps": 2, "max_tokens_per_step": 4}
    assert llmsmc.solve(QUESTION, "greedy", 0, **settings).num_particles == 1
    assert llmsmc.solve(QUESTION, "greedy", 0, reward="none", **settings).num_particles == 1
    settings |= {"reward": "none", "policy_inverse_temperature": 2.0}
    posterior = llmsmc.solve(QUESTION, "bootstrap", 0, particles=3, **settings)
    assert posterior.cost.reward_positions == 0
    for _, found in llmsmc.solve_many([QUESTION], particles=3, seed=0, **settings):
        assert not isinstance(found, Exception) and found.log_evidence == pytest.approx(
            posterior.log_evidence, abs=1e-5
        )


def test_configurations_of_earlier_evaluations_are_the_same(
    policy_folder: Path,  # noqa: F811
) -> None:
    dataset = dataset_of("rows", [{"question": "1 + 1?", "answer": "2"}])
    for settings, algorithm in (
        (Settings(), BootstrapFilter(2)),
        (Settings(policy=policy_folder), Greedy()),
    ):
        now = configuration(settings, algorithm, dataset, 0, {})
        before = now.values | {"reward": "minimath-reward"}  # as they were written
        assert not now.changes_from(before)
        assert now.hash == type(now)(before, now.defaults).hash
    for name in ("own-log-prob", "none", "arithmetic"):
        config = Settings(policy=policy_folder, reward=name).config()
        assert config["reward"] == name


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("own-log-prob", OwnLogProb),
        ("judge:max_tokens=4", GenerativeJudge),
        ("judge:{policy},max_tokens=4", GenerativeJudge),
        ("ratio:{other},coefficient=0.1", PolicyRatio),
        ("ratio:policy,reference={other}", PolicyRatio),
        ("ensemble:own-log-prob+arithmetic,combine=min", RewardEnsemble),
        ("ensemble:ratio:{other}+judge:{other},max_tokens=4", RewardEnsemble),
    ],
)
def test_models_are_loaded_once(
    monkeypatch: pytest.MonkeyPatch,
    policy: LanguageModel,  # noqa: F811
    policy_folder: Path,  # noqa: F811
    tmp_path: Path,
    text: str,
    kind: type[Any],
) -> None:
    other = saved(policy, tmp_path / "other")
    sources = list[str]()
    load = LanguageModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def watched(cls: Any, source: Any, *arguments: Any, **settings: Any) -> LanguageModel:
        sources.append(str(source))
        found: LanguageModel = load(cls, source, *arguments, **settings)
        return found

    monkeypatch.setattr(LanguageModel, "from_pretrained", classmethod(watched))
    text = text.format(policy=policy_folder, other=other)
    settings = Settings(
        policy=policy_folder, reward=text, aggregation="min", max_steps=2, max_tokens_per_step=4
    )
    algorithm = BootstrapFilter(2)
    check_reward(settings, algorithm)
    models = loaded(settings, algorithm)
    assert isinstance(models.reward, kind)
    assert sources == [str(policy_folder), *([str(other)] if str(other) in text else [])]
    assert shared(models).reward is not models.reward
    options: dict[str, Any] = {"max_steps": 2, "max_tokens_per_step": 4}
    posterior = llmsmc.solve(
        QUESTION,
        algorithm,
        0,
        **options | {"policy": models.policy, "reward": models.reward, "aggregation": "min"},
    )
    assert posterior.log_evidence < 0


class Probe(OwnLogProb):
    """A reward of a folder, which reads the policy."""

    @classmethod
    def check_folder(cls, folder: Path) -> None:
        if "broken" in folder.name:
            raise InputError(f"This probe cannot be read. Got {str(folder)!r}; accepted: another.")

    @classmethod
    def from_pretrained(cls, folder: str | Path, model: Any) -> "Probe":
        return cls(model, name=str(folder))


def test_a_folder_that_reads_the_policy(
    monkeypatch: pytest.MonkeyPatch,
    policy_folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(reward_notation.FOLDERS, "own.json", f"{__name__}:Probe")
    settings: dict[str, Any] = {"policy": policy_folder, "max_steps": 2, "max_tokens_per_step": 4}
    for name in ("probe", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.json").touch()
    models = loaded(Settings(reward=tmp_path / "probe", **settings), BootstrapFilter(2))
    assert isinstance(models.reward, Probe) and models.reward.policy is models.policy
    text = f"ensemble:{tmp_path}/probe+arithmetic"
    assert llmsmc.solve(QUESTION, particles=2, seed=0, reward=text, **settings).log_evidence < 0
    with pytest.raises(InputError, match="This probe cannot be read"):
        llmsmc.solve(QUESTION, reward=str(tmp_path / "broken"), **settings)


@pytest.mark.parametrize("in_flight", ["1", "2"])
def test_the_answer_is_a_ceiling_and_says_so(
    command: Command,  # noqa: F811
    policy_folder: Path,  # noqa: F811
    in_flight: str,
) -> None:
    Path("rows.jsonl").write_text(
        '{"question": "What is 1 + 1?", "answer": "2"}\n{"question": "3?", "answer": "3"}\n'
    )
    line = ["eval", "rows.jsonl", "--policy", policy_folder, "--particles", "2"]
    line += ["--max-steps", "2", "--max-tokens-per-step", "4", "--in-flight", in_flight]
    result = command(*line, "--reward", "answer", "--aggregation", "last")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "Reward: answer" in said and "knows the right answers" in said
    result = command(*line, "--reward", "own-log-prob", "--reward", "arithmetic")
    said = " ".join(result.output.split())
    assert "Reward: ensemble:own-log-prob+arithmetic" in said and "right answers" not in said


def test_the_report_names_the_reward(command: Command, policy_folder: Path) -> None:  # noqa: F811
    line = ["solve", QUESTION, "--policy", policy_folder, "--max-steps", "2"]
    line += ["--max-tokens-per-step", "4", "--particles", "2"]
    said = command(*line, "--reward", "own-log-prob:tokens=min").output
    assert "own-log-prob:tokens=min" in said
    assert "minimath" not in command(*line, "--algorithm", "greedy").output
