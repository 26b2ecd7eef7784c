"""The one-liner."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import llmsmc
import llmsmc.solving.solver
from llmsmc.errors import InputError
from llmsmc.grading.forms import answer_forms
from llmsmc.inference import BestOfN, SelfConsistency
from llmsmc.models import LanguageModel, RewardModel
from llmsmc.solving.loading import load_reward, loaded
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import answered, reasoning
from tests.models.conftest import (  # noqa: F401 - fixtures
    policy,
    policy_folder,
    reward,
    reward_folder,
    reward_network,
    tokenizer,
)
from tests.solutions import population

QUESTION = "What is 3 + 4?"


@pytest.fixture
def settings(policy: LanguageModel, reward: RewardModel) -> dict[str, Any]:  # noqa: F811
    return {"policy": policy, "reward": reward, "max_steps": 3}


def test_a_posterior_of_answers(settings: dict[str, Any]) -> None:
    posterior = llmsmc.solve(QUESTION, seed=1, particles=4, **settings)
    assert posterior.algorithm == "BootstrapFilter" and posterior.num_particles == 4
    assert sum(posterior.answers().values()) == pytest.approx(1)
    again = llmsmc.solve(QUESTION, "bootstrap:num_particles=4", 1, **settings)
    assert again.log_evidence == posterior.log_evidence
    assert llmsmc.solve(QUESTION, particles=4, **settings).seed != 1


def test_models_by_name(policy_folder: Path, reward_folder: Path) -> None:  # noqa: F811
    posterior = llmsmc.solve(
        QUESTION,
        "best-of-n",
        particles=2,
        policy=policy_folder,
        reward=str(reward_folder),
        quantization=None,
        max_steps=2,
    )
    assert posterior.algorithm == "BestOfN"


def test_an_algorithm_as_it_is(settings: dict[str, Any]) -> None:
    posterior = llmsmc.solve(QUESTION, SelfConsistency(3), seed=0, **settings)
    assert posterior.num_particles == 3
    with pytest.raises(InputError, match="Got particles=4 beside BestOfN"):
        llmsmc.solve(QUESTION, BestOfN(2), particles=4, **settings)


def test_the_temperature_of_a_reward_model(
    policy_folder: Path,  # noqa: F811
    reward_folder: Path,  # noqa: F811
    reward: RewardModel,  # noqa: F811
) -> None:
    chosen = Settings(policy=policy_folder, reward=reward_folder, reward_calibration=4.0)
    models = loaded(chosen, BestOfN(2))
    assert isinstance(models.reward, RewardModel)
    steps = ["3 + 4 = 7\n\n"]
    flat, trained = models.reward.log_odds(QUESTION, steps), reward.log_odds(QUESTION, steps)
    assert flat.tolist() == pytest.approx((trained / 4).tolist())
    assert (
        answered(BestOfN(2).run(reasoning(QUESTION, models, BestOfN(2))), chosen).metadata[
            "selection"
        ]
        == "mode"
    )
    with pytest.raises(InputError, match="accepted: 0 < reward_calibration"):
        Settings(reward_calibration=0.0)
    with pytest.raises(InputError, match="Only a reward model that is loaded by its name"):
        load_reward(Settings(reward=reward, reward_calibration=2.0))


def test_the_whole_solution_has_a_limit(settings: dict[str, Any]) -> None:
    posterior = llmsmc.solve(QUESTION, SelfConsistency(4), 0, max_tokens=5, **settings)
    counts = posterior.particles.num_tokens
    assert counts.max() == 5 and "length" in {each.finish_reason for each in posterior.particles}
    longer = llmsmc.solve(QUESTION, SelfConsistency(4), 0, **settings).particles
    assert longer.num_tokens.max() > 5
    for n in range(4):  # cut off, and otherwise the same
        assert torch.equal(
            posterior.particles.token_ids[n, : counts[n]], longer.token_ids[n, : counts[n]]
        )
    with pytest.raises(InputError, match="max_tokens is a count"):
        Settings(max_tokens=0)


def test_answers_are_looked_for_in_the_forms_of_the_settings(settings: dict[str, Any]) -> None:
    """Only a box ends a solution, where it is among the forms."""
    text = "The answer is 3.\n\nSo \\boxed{7}.\n\nNo, 8.\n\n"
    for forms, answer, ended in (
        ("boxed,hashes", "7", True),
        (("phrase", "boxed"), "3", True),
        ("last-number, phrase", "3", False),
    ):
        chosen = Settings(**settings, answer_forms=forms)
        model = reasoning(QUESTION, chosen, SelfConsistency(1))
        assert model._nothing(2).answer_forms == answer_forms(forms)
        assert model._sampler.finish_reasons.stop_at_answer is ended
        texts = population([[each + "\n\n" for each in text.split("\n\n")[:-1]]], num_cut_off=1)
        particles = replace(texts, answer_forms=model._nothing(1).answer_forms)
        assert particles.answers() == [answer] == [particles[0].answer]
    assert chosen.config()["answer_forms"] == "last-number,phrase"
    with pytest.raises(InputError, match="Got 'box'; accepted: one or several of boxed"):
        Settings(answer_forms="box")


def test_settings_that_do_not_exist(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Got 'temprature'; accepted: .*'temperature'"):
        llmsmc.solve(QUESTION, temprature=2.0, **settings)


def test_the_configuration_names_what_was_used(
    policy: LanguageModel,  # noqa: F811
    reward: RewardModel,  # noqa: F811
    policy_folder: Path,  # noqa: F811
) -> None:
    config = Settings(policy=policy, reward=reward, quantization="nf4").config()
    assert config["policy"] == policy.name and config["reward"] == reward.name
    assert config["quantization"] == "none"  # that of the model, not the one asked for
    config = Settings(policy=policy_folder, reward=reward, quantization=None).config()
    assert config["policy"] == str(policy_folder) and config["quantization"] == "none"


def test_the_name_is_the_function() -> None:
    assert callable(llmsmc.solve) and "solve" in llmsmc.__all__


def test_many_questions_at_a_time(settings: dict[str, Any]) -> None:
    questions = ["What is 3 + 4?", "a bell \x07", "What is 12 plus 30?"]
    found = dict(llmsmc.solve_many(questions, particles=4, seed=5, in_flight=2, **settings))
    assert isinstance(found[1], InputError)
    for n in (0, 2):
        alone, together = llmsmc.solve(questions[n], particles=4, seed=5 + n, **settings), found[n]
        assert not isinstance(together, Exception)
        assert together.log_evidence == pytest.approx(alone.log_evidence, abs=1e-4)
    with pytest.raises(InputError, match="in_flight is a count"):
        llmsmc.solve_many(questions, in_flight=0, **settings)
    with pytest.raises(InputError, match="tokens_meanwhile is a count"):
        llmsmc.solve_many(questions, tokens_meanwhile=-1, **settings)
    with pytest.raises(InputError, match="one of a few words"):
        llmsmc.solve_many(questions, polciy=None)
