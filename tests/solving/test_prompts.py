"""System prompts by name, for Python and the command line alike."""

import hashlib
import inspect

import pytest

import llmsmc
from llmsmc.cli.chosen_settings import chosen_settings
from llmsmc.cli.evaluate import evaluate
from llmsmc.cli.solve import solve
from llmsmc.errors import InputError
from llmsmc.grading.extraction import extract_answer
from llmsmc.inference import SelfConsistency
from llmsmc.models import LanguageModel
from llmsmc.models.rewards.equations import equations
from llmsmc.solving.prompts import PROMPTS
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import reasoning
from tests.models.conftest import policy, policy_folder, tokenizer  # noqa: F401 - fixtures

DIGESTS = {
    "boxed": "4042cfd8374cd92c",
    "search-and-learn": "68c36c29da04e38d",
    "worked": "c155d65e9039109d",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_name_is_the_text_that_is_sent(
    name: str,
    policy: LanguageModel,  # noqa: F811
) -> None:
    text = PROMPTS[name]
    settings = Settings(policy=policy, system=name, max_tokens=3)
    assert settings.config()["system"] == settings.system == text and r"\boxed{" in text
    given = {key: each.default for key, each in inspect.signature(solve).parameters.items()}
    assert chosen_settings(given | {"system": name}).system == text
    model = reasoning("What is 3 + 4?", settings, SelfConsistency(1))
    assert text in policy.tokens.decode(model.prompt_ids)
    # Text that is quoted from elsewhere is another text once a character differs.
    assert hashlib.blake2b(text.encode(), digest_size=8).hexdigest() == DIGESTS[name]


def test_any_other_text_is_a_prompt() -> None:
    for text in (
        "Be brief.",
        "Brief!",
        "boxed ",
        "the boxed prompt",
        r"请将最终答案放在\boxed{}中。",
        "",
    ):
        assert Settings(system=text).system == text
    assert Settings().system is None


@pytest.mark.parametrize("word", ["boxd", "workd", "Boxed", "WORKED", "worker", "search_and_learn"])
def test_a_misspelt_name_is_no_prompt(word: str, policy: LanguageModel) -> None:  # noqa: F811
    said = f"Got '{word}'; accepted: boxed, search-and-learn, worked, or"
    with pytest.raises(InputError, match=said):
        Settings(system=word)
    with pytest.raises(InputError, match=said):
        llmsmc.inspect_policy(policy, ["1 + 1?"], system=word)
    given = {key: each.default for key, each in inspect.signature(solve).parameters.items()}
    with pytest.raises(InputError, match=said):
        chosen_settings(given | {"system": word})


def test_an_inspection_takes_names(policy: LanguageModel) -> None:  # noqa: F811
    report = llmsmc.inspect_policy(
        policy, ["1 + 1?"], system="boxed", samples=1, seed=0, max_tokens=2
    )
    assert report.system == PROMPTS["boxed"]


@pytest.mark.parametrize("command", [solve, evaluate])
def test_the_help_lists_the_names(command: object) -> None:
    option = inspect.signature(command).parameters["system"]  # type: ignore[arg-type]
    assert all(name in option.annotation.__metadata__[0].help for name in PROMPTS)


def test_the_examples_are_worked_as_the_prompt_asks() -> None:
    asks, *examples = PROMPTS["worked"].split("\n\nProblem: ")
    assert "one calculation in each" in asks
    for answer, example in zip(("20", "240"), examples, strict=True):
        _, solution = example.split("\n", 1)
        *calculations, last = solution.split("\n\n")
        assert extract_answer(last) == answer and last == rf"\boxed{{{answer}}}"
        assert all([each.holds for each in equations(text)] == [True] for text in calculations)
