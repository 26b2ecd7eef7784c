"""Questions for policies of which nothing else is known, and those of the world of MiniMath."""

from random import Random
from typing import Final

from llmsmc.inspection.report import Question
from llmsmc.models.minimath.problem import LEVELS, draw_problem
from llmsmc.models.pretrained.names import EMBEDDED

QUESTIONS: Final = (
    Question(
        "A baker sells 24 rolls in the morning and half as many in the afternoon. A roll costs "
        "$0.75. How many dollars does she take in that day?",
        "27",
    ),
    Question("Solve for x: 3(x - 4) + 5 = 2x + 9.", "16"),
    Question(
        "A train leaves at 9:40 and arrives at 13:05 after a stop of 15 minutes. For how many "
        "minutes was it moving?",
        "190",
    ),
    Question(
        "Write a short Python function that adds up the even numbers from 1 to n, and work out "
        "what it returns for n = 20.",
        "110",
    ),
)


def questions_for(policy: str) -> tuple[Question, ...]:
    """Return the questions for a policy: for an embedded one those of the world that it knows."""
    if policy not in EMBEDDED:
        return QUESTIONS
    drawn = (draw_problem(Random(f"inspect/{level}"), level) for level in sorted(LEVELS))
    return tuple(Question(problem.question, problem.answer) for problem in drawn)
