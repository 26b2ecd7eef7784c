"""System prompts by name, for Python and the command line alike."""

import hashlib
import inspect

import pytest

from llmsmc.cli.chosen_settings import chosen_settings
from llmsmc.cli.evaluate import evaluate
from llmsmc.cli.solve import solve
from llmsmc.grading.extraction import extract_answer
from llmsmc.inference import SelfConsistency
from llmsmc.models import LanguageModel
from llmsmc.solving.prompts import PROMPTS
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import reasoning
from tests.models.conftest import policy, policy_folder, tokenizer  # noqa: F401 - fixtures

DIGESTS = {
    "boxed": "4042cfd8374cd92c",
    "search-and-learn": "68c36c29da04e38d",
    "worked": "879383b26b621d25",
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
    for text in ("Be brief.", "Boxed", "boxed ", "the boxed prompt"):
        assert Settings(system=text).system == text
    assert Settings().system is None


@pytest.mark.parametrize("command", [solve, evaluate])
def test_the_help_lists_the_names(command: object) -> None:
    option = inspect.signature(command).parameters["system"]  # type: ignore[arg-type]
    assert all(name in option.annotation.__metadata__[0].help for name in PROMPTS)


def test_the_example_is_worked_as_it_asks() -> None:
    solution = PROMPTS["worked"].partition("Solution: ")[2]
    assert extract_answer(solution) == "20"
    assert [step.count("=") for step in solution.split("\n\n")] == [1, 1, 1, 0]
