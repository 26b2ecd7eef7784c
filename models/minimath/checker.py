r"""The exact checker: it says whether all statements of a step are true, and if not, which is not.

A step is right if and only if every statement in it is true of the problem:

* each chain of equalities holds exactly, letters standing for their true values
  (``c = 90 + 40 = 130``; the words plus, minus, times, divided by, equals and the usual LaTeX
  are read as signs);
* what is said of a named quantity is one of its true values (``Ben has 23 apples``,
  ``apples of Ben: 23``, ``Term 5: ... = 20``);
* numbers called even or odd, or compared with one another, are so;
* a pair of numbers left over by Euclid's algorithm still has the greatest common divisor;
* the number in ``\boxed{}``, or called the answer, is the answer.

The wording is free: the checker looks for statements, not for the expected text. A step that
states nothing that can be checked is right (and says so), since it states nothing false.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import gcd

from llmsmc.models.minimath.problem import Problem
from llmsmc.models.minimath.world.expressions import Chain, evaluate, find_chains
from llmsmc.models.minimath.world.facts import Facts, Subject

NOTHING_STATED = "states nothing that can be checked"
LONGEST_STEP = 2000
"""Characters; a longer step is wrong, since no step of this world is."""


@dataclass(frozen=True)
class Verdict:
    """Whether a step is right, and why (not)."""

    correct: bool
    reason: str


def check_steps(problem: Problem, steps: Sequence[str]) -> list[Verdict]:
    """Return a verdict on each step by itself."""
    facts = problem.facts
    given = frozenset(Fraction(number) for number in _NUMBER.findall(problem.question))
    return [_check(step, facts, given) for step in steps]


def num_correct_steps(problem: Problem, steps: Sequence[str]) -> int:
    """Return the number of right steps before the first wrong one."""
    verdicts = check_steps(problem, steps)
    wrong = (index for index, verdict in enumerate(verdicts) if not verdict.correct)
    return next(wrong, len(verdicts))


def _check(step: str, facts: Facts, given: frozenset[Fraction]) -> Verdict:
    if len(step) > LONGEST_STEP:
        return Verdict(False, f"has {len(step)} characters; at most {LONGEST_STEP} are read")
    text, boxed = _normalised(step)
    checked = False
    for content in boxed:
        value = evaluate(content, facts.variables)
        if value != facts.answer:
            return Verdict(False, f"the answer is {facts.answer}, not {content.strip()[:40]}")
        checked = True
    for clauses in (_clauses(sentence) for sentence in _sentences(text)):
        subjects: tuple[Subject, ...] = ()
        claims: dict[tuple[Subject, ...], Fraction] = {}
        for clause in clauses:
            named, rest = _subjects_in(clause, facts)
            subjects = named or subjects  # later clauses speak of the same thing
            chains = find_chains(rest, facts.variables)
            for found in (
                _check_chains(chains),
                None if chains else _check_numbers(rest, facts, named, given),
                None if named else _check_value(rest, facts, subjects),
                _check_properties(rest),
                _check_pair(rest, text, facts),
                _check_answer(rest, facts),
            ):
                if found is not None and not found.correct:
                    return found
                checked = checked or found is not None
            if chains and subjects and not any(chains[-1].has_letters):
                claims[subjects] = _result(chains[-1])  # the last one counts: others lead to it
        for subjects, value in claims.items():
            if value not in _allowed(subjects, facts):
                return _untrue(subjects, value)
    return Verdict(True, "every statement holds" if checked else NOTHING_STATED)


# Statements. Each function returns None where it finds nothing to check.


def _check_chains(chains: Sequence[Chain]) -> Verdict | None:
    for chain in chains:
        if None in chain.values:
            return Verdict(False, f"{' = '.join(chain.parts)[:80]} cannot be read")
        if len(set(chain.values)) > 1:
            return Verdict(False, _why_unequal(chain))
    return Verdict(True, "") if chains else None


def _check_numbers(
    text: str, facts: Facts, subjects: tuple[Subject, ...], given: frozenset[Fraction]
) -> Verdict | None:
    """Check that a bare number beside a named quantity is true of it, or given."""
    if not subjects:
        return None
    numbers = [Fraction(number) for number in _NUMBER.findall(text)]
    known = _allowed(subjects, facts) | given
    for number in numbers:
        if number not in known:
            return _untrue(subjects, number)
    return Verdict(True, "") if numbers else None


def _check_value(text: str, facts: Facts, subjects: tuple[Subject, ...]) -> Verdict | None:
    """Check a clause that is a number alone: the value of the quantity named before it."""
    match = _VALUE.fullmatch(text.strip())
    if match is None or not subjects:
        return None
    value = Fraction(match.group(1))
    return Verdict(True, "") if value in _allowed(subjects, facts) else _untrue(subjects, value)


def _check_properties(text: str) -> Verdict | None:
    found = None
    for number, negated, word in _PARITY.findall(text):
        is_even = int(number) % 2 == 0
        if ((word == "even") == is_even) == bool(negated):
            return Verdict(False, f"{number} is {'even' if is_even else 'odd'}")
        found = Verdict(True, "")
    for left, negated, word, right in _COMPARISON.findall(text):
        larger, smaller = Fraction(left) > Fraction(right), Fraction(left) < Fraction(right)
        holds = larger if word in ("above", "greater than", "more than", "larger than") else smaller
        if holds == bool(negated):
            return Verdict(False, f"{left} is {'' if holds else 'not '}{word} {right}")
        found = Verdict(True, "")
    return found


def _check_pair(text: str, step: str, facts: Facts) -> Verdict | None:
    pairs = _PAIR.findall(text) if facts.divisors else []
    label = step.lstrip()[:1]
    for first, second in pairs:
        divisor = gcd(int(first), int(second))
        wanted = {facts.divisors[label]} if label in facts.divisors else {*facts.divisors.values()}
        if divisor not in wanted:
            due = " or ".join(str(value) for value in sorted(wanted))
            return Verdict(False, f"{first} and {second} have the divisor {divisor}, not {due}")
    return Verdict(True, "") if pairs else None


def _check_answer(text: str, facts: Facts) -> Verdict | None:
    match = _ANSWER.search(text)
    if match is None:
        return None
    if Fraction(match.group(1)) != facts.answer:
        return Verdict(False, f"the answer is {facts.answer}, not {match.group(1)}")
    return Verdict(True, "")


# Reading.

_NUMBER = re.compile(r"(?<![\d.])-?\d{1,30}(?:\.\d{1,30})?(?!\d)")
_VALUE = re.compile(rf"({_NUMBER.pattern})[.;!]?")
_PARITY = re.compile(r"(\d{1,30}) is (?:an )?(not )?(?:an )?(even|odd)\b")
_COMPARISON = re.compile(
    r"(\d{1,30}(?:\.\d{1,30})?) is (not )?"
    r"(above|below|greater than|more than|larger than|less than|smaller than) "
    r"(\d{1,30}(?:\.\d{1,30})?)"
)
_PAIR = re.compile(r"(\d{1,30}) and (\d{1,30})")
_ANSWER = re.compile(r"\banswer\b[^\d=]*?(-?\d{1,30}(?:\.\d{1,30})?)")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_SENTENCE_END = re.compile(r"(?<=[.;!?])\s+|\n+")
_CLAUSE_END = re.compile(r",\s+|:\s+|\s+(?:so|then|hence|thus|therefore|because|since)\s+")
_COMPARED_WITH = re.compile(r"\b(?:than|as(?! many| much)) \w+(?: and \w+)?")
_WORDS = (
    (re.compile(r"\bplus\b"), "+"),
    (re.compile(r"\bminus\b"), "-"),
    (re.compile(r"\b(?:times|multiplied by)\b(?=\s+[\dA-Za-z(])"), "*"),
    (re.compile(r"\bdivided by\b"), "/"),
    (re.compile(r"\b(?:equals|is equal to|makes|gives)\b"), "="),
    (re.compile(r"\\(?:cdot|times)\b|[×·]"), "*"),
    (re.compile(r"\\div\b|÷"), "/"),
    (re.compile(r"−"), "-"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\[,;!()\[\]]|\$|\*\*"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile(r"\b(?:gcd|greatest common divisor) of (\d+) and (\d+)"), r"gcd(\1,\2)"),
    (re.compile(r"((?:[-+*/]|\bof) *\d+|\)) is (?=\d)"), r"\1 = "),
    (re.compile(r"\b([A-Za-z]) is (?=\d)"), r"\1 = "),
)


def _normalised(step: str) -> tuple[str, list[str]]:
    """Return the text with words and LaTeX written as signs, and the contents of its boxes."""
    boxed = _BOXED.findall(step)
    text = _BOXED.sub(lambda match: f" {match.group(1)} ", step)
    for pattern, sign in _WORDS:
        text = pattern.sub(sign, text)
    return re.sub(r"^\s*(?:#+\s*)?(?:[Ss]tep\s+\d+|\d+)\s*[:.)]\s+(?=\S)", "", text), boxed


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def _clauses(sentence: str) -> list[str]:
    return [clause for clause in _CLAUSE_END.split(sentence.strip()) if clause]


def _mentions(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _subjects_in(clause: str, facts: Facts) -> tuple[tuple[Subject, ...], str]:
    """Return the subjects of a clause, and the clause without numbers that are part of a name."""
    named = []
    spoken_of = _COMPARED_WITH.sub(" ", clause)  # "than Ann": of Ann nothing is said
    for subject in facts.subjects:
        *words, last = subject.words
        if last.isdigit():  # "term 5": the number belongs to the name
            pattern = rf"(?<!\w){' '.join(map(re.escape, words))}\s+{last}(?!\d)"
            if re.search(pattern, clause, re.IGNORECASE):
                named.append(subject)
                clause = re.sub(pattern, " ", clause, flags=re.IGNORECASE)
        elif all(_mentions(spoken_of, word) for word in subject.words):
            named.append(subject)
    return tuple(named), clause


def _allowed(subjects: tuple[Subject, ...], facts: Facts) -> frozenset[Fraction]:
    """Return the true values of some subjects and, where that makes sense, their sums."""
    values = [Fraction(value) for subject in subjects for value in subject.values]
    allowed = set(values)
    if facts.additive:
        for size in range(2, min(len(values), 4) + 1):
            allowed |= {sum(group, Fraction(0)) for group in combinations(values, size)}
        allowed |= {abs(left - right) for left, right in combinations(values, 2)}
        allowed |= {left / right for left in values for right in values if right}
    return frozenset(allowed)


def _result(chain: Chain) -> Fraction:
    value = chain.values[-1]
    assert value is not None  # unreadable chains have been refused
    return value


def _untrue(subjects: tuple[Subject, ...], value: Fraction) -> Verdict:
    true = " or ".join(str(v) for v in sorted(subjects[0].values))
    return Verdict(False, f"{' '.join(subjects[0].words)}: {true}, not {value}")


def _why_unequal(chain: Chain) -> str:
    for index in range(1, len(chain.parts)):
        left, right = chain.values[index - 1], chain.values[index]
        if left != right:
            if chain.has_letters[index - 1] and not chain.has_letters[index]:
                return f"{chain.parts[index - 1]} is {left}, not {right}"
            return f"{chain.parts[index - 1]} is {left}, not {chain.parts[index]}"
    raise AssertionError("called with an equal chain")
