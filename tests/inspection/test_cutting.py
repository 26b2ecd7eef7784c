"""Solutions that are cut afterwards have the steps that a run with the rule would have drawn."""

from collections.abc import Iterable
from typing import Any

import pytest

from llmsmc.inference import Greedy
from llmsmc.inspection import inspect_policy
from llmsmc.inspection.cutting import Written, cut_report
from llmsmc.models import Reasoning
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.text.stopping import Automaton, StepRule
from llmsmc.solving.step_notation import parse_step
from tests.models.conftest import policy, policy_folder, tokenizer  # noqa: F401 - fixtures

QUESTION = "What is 12 plus 30?"


class Pieces:
    """A vocabulary of given pieces."""

    def __init__(self, *texts: str) -> None:
        self.texts = dict.fromkeys(piece for text in texts for piece in text.split("|"))
        self.pieces = [piece.encode() for piece in self.texts]

    def ids(self, text: str) -> tuple[int, ...]:
        return tuple(list(self.texts).index(piece) for piece in text.split("|"))

    def automaton(self, rule: StepRule) -> Automaton:
        return rule.automaton(self.pieces)

    def decode(self, token_ids: Iterable[int], after: Iterable[int] = ()) -> str:
        return b"".join(self.pieces[id] for id in token_ids).decode()


def cut(rule: str, *texts: str, limit: int = 99, ended: bool = True) -> Any:
    tokens: Any = Pieces(*texts)
    solutions = [Written(tokens.ids(text), ended) for text in texts]
    return cut_report(rule, parse_step(rule), tokens, solutions, limit)


def test_what_is_measured() -> None:
    report = cut(r"\n\n", "So|:\n\nThe| sum|.\n\n|Is| 4|.", "A|.\n\n|B|.\r\n\r\n|")
    assert (report.num_steps, report.mean_steps, report.most_steps) == (5, 2.5, 3)
    assert (report.median_tokens, report.longest, report.ended) == (2.0, 3, 1.0)
    assert report.straddling == 1  # ":\n\nThe"
    assert report.endings[0] == (".\n\n", 2) and sum(n for _, n in report.endings) == 4
    assert report.answered == 0.0


def test_solutions_end_with_their_answer_or_where_a_step_is_cut_off() -> None:
    text = "a|\n\n|\\boxed{1}|\n\n|More|\n\n|b"
    assert cut(r"\n\n", text).most_steps == 2 and cut(r"\n\n", text).answered == 1.0
    report = cut(r"\n\n", "a|b|c|\n\n|d", "a|\n\n|b|c|d|e", limit=3)
    assert (report.num_steps, report.ended, report.longest) == (3, 1 / 3, 2)
    assert cut(r"\n\n", "a|\n\n|b", ended=False).ended == 1.0  # the limit is no limit of a step
    assert cut("tokens:2", "a|b|c|d").straddling is None


def test_blocks_of_code() -> None:
    text = "Run:|\n\n|```|py\n|a|\n\n|b|\n|```|\n\n|Done"
    assert cut(r"\n\n", text).num_steps == 4
    assert cut(r"fences:\n\n", text).num_steps == 3
    report = cut(r"fences:\n\n", "Run.\n\n```|\n\n|```|\n|So")
    assert (report.num_steps, report.straddling, report.endings) == (2, 0, (("\n", 1),))


@pytest.mark.parametrize("rule", [r"\n\n", r"fences:\n\n", r"\n", "regex:[a-m]", "tokens:7"])
def test_the_steps_are_those_of_a_run(policy: LanguageModel, rule: str) -> None:  # noqa: F811
    report = inspect_policy(
        policy, [QUESTION], samples=1, rules=[rule], temperature=0, max_tokens=40
    )
    model = Reasoning(policy, None, QUESTION, step=parse_step(rule), max_steps=None, max_tokens=40)
    best = Greedy().run(model, seed=0).best()
    assert report.rules[0].num_steps == len(best.steps)
    assert report.solutions[0].text == best.text and not report.solutions[0].is_right
