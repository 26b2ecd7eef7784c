"""What a policy writes: solutions are drawn once, and cut under each rule afterwards."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from llmsmc import defaults
from llmsmc.core.checks import require_count
from llmsmc.core.counted import agreeing, counted
from llmsmc.errors import InputError
from llmsmc.grading.grades import equivalent
from llmsmc.inference import SelfConsistency
from llmsmc.inspection.cutting import Written, cut_report
from llmsmc.inspection.proposing import RULES, proposals
from llmsmc.inspection.questions import questions_for
from llmsmc.inspection.report import Inspection, Question, Solution
from llmsmc.models import Reasoning, WholeAnswer
from llmsmc.models.batching.scheduler import run_together
from llmsmc.models.batching.shared import share_policy
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.models.text.thinking import Thinking
from llmsmc.models.text.vocabulary import SpelledVocabulary
from llmsmc.solving.prompts import system_prompt
from llmsmc.solving.step_notation import parse_step

MAX_TOKENS: Final = 512
SAMPLES: Final = 2
_SYSTEM: Final = "Answer."  # to find out whether a template takes one


def inspect_policy(
    policy: Policy,
    questions: Sequence[Question | str] | None = None,
    *,
    samples: int = SAMPLES,
    seed: int | None = None,
    rules: Sequence[str] = RULES,
    temperature: float | int = defaults.DEFAULT_TEMPERATURE,
    max_tokens: int = MAX_TOKENS,
    max_tokens_per_step: int = defaults.DEFAULT_MAX_TOKENS_PER_STEP,
    system: str | None = None,
    thinking: Thinking | None = None,
) -> Inspection:
    """Draw a few solutions of a policy, and report how step rules cut them and what suits it.

    ```python
    policy = llmsmc.models.LanguageModel.from_pretrained("minimath-policy")
    report = llmsmc.inspect_policy(policy, seed=0)
    [(rule.rule, rule.mean_steps) for rule in report.rules]
    ```

    Args:
        policy: the language model, loaded.
        questions: the questions, with or without reference answers; by default a few that any
            policy can be asked.
        samples: the number of solutions of each question.
        seed: repeats the solutions; without one, every call draws others.
        rules: the step rules to compare, as they are written on the command line.
        temperature: at which solutions are drawn; 0 takes the most probable token each time.
        max_tokens: number of tokens at which a solution is cut off.
        max_tokens_per_step: number of tokens at which a step is cut off, and the solution with it.
        system: a system prompt, or the name of one (`llmsmc.solving.prompts`); by default the one
            of the chat template.
        thinking: the settings of a policy that thinks before it answers.

    Raises:
        InputError: a rule, a question or a setting cannot be used.
    """
    begun = time.perf_counter()
    require_count("samples", samples)
    system = system_prompt(system)
    compiled = {name: parse_step(name) for name in rules}
    asked = tuple(
        Question(each) if isinstance(each, str) else each
        for each in (questions_for(policy.name) if questions is None else questions)
    )
    if not asked or not compiled:
        raise InputError(
            "A policy is asked something, and cut by some rule. Got "
            f"{counted(len(asked), 'question')} and {counted(len(compiled), 'rule')}; accepted: "
            "one or more of each."
        )
    tokens = policy.tokens
    if not isinstance(tokens, SpelledVocabulary):
        raise InputError(
            f"An inspection shows how tokens are spelled. Got {policy.name}, whose vocabulary does "
            "not say; accepted: a vocabulary with `pieces` and `spelled`."
        )
    shared = share_policy(policy)
    models = [
        Reasoning(
            shared,
            None,
            question.text,
            temperature=temperature,
            step=WholeAnswer(),
            max_steps=1,
            max_tokens_per_step=max_tokens,
            system=system,
            thinking=thinking,
            stop_at_answer=False,
        )
        for question in asked
    ]
    method = SelfConsistency(samples)
    tasks = [
        partial(_drawn, method, model, None if seed is None else seed + number)
        for number, model in enumerate(models)
    ]
    found = dict(run_together(tasks, in_flight=len(tasks)))
    written, solutions = list[Written](), list[Solution]()
    for number, question in enumerate(asked):
        particles = found[number]
        if isinstance(particles, Exception):
            raise particles
        for particle in particles:
            is_ended, answer = particle.finish_reason == "eos", particle.answer
            is_right = None if question.answer is None else equivalent(answer, question.answer)
            ids = tuple(particle.token_ids)
            written.append(Written(ids, is_ended))
            solutions.append(Solution(number, particle.text, len(ids), is_ended, answer, is_right))
    thinking_end = None if thinking is None else thinking.closing
    reports = tuple(
        cut_report(name, rule, tokens, written, max_tokens_per_step, thinking_end)
        for name, rule in compiled.items()
    )
    advice, remarks = proposals(
        reports, solutions, system, max_tokens, _takes_system(policy, asked[0].text, thinking)
    )
    prompt_ids = models[0].prompt_ids
    names = {id: token for token, id in tokens.ids.items()}
    return Inspection(
        policy=policy.name,
        context_length=policy.context_length,
        ends={id: names.get(id, "") for id in policy.eos_ids},
        system=system,
        prompt=tokens.spelled(prompt_ids),
        prompt_tokens=len(prompt_ids),
        temperature=float(temperature),
        max_tokens=max_tokens,
        max_tokens_per_step=max_tokens_per_step,
        questions=asked,
        solutions=tuple(solutions),
        rules=reports,
        proposals=advice,
        remarks=(*_of_tokens(policy, written), *remarks),
        generated_tokens=sum(each.num_tokens for each in solutions),
        seconds=time.perf_counter() - begun,
    )


def _drawn(method: SelfConsistency, model: Reasoning, seed: int | None) -> ReasoningParticles:
    particles = method.run(model, seed=seed).particles
    assert isinstance(particles, ReasoningParticles)
    return particles


def _takes_system(policy: Policy, question: str, thinking: Thinking | None) -> bool:
    try:
        return bool(policy.prompt_ids(question, _SYSTEM, thinking))
    except InputError:
        return False


def _of_tokens(policy: Policy, written: Sequence[Written]) -> tuple[str, ...]:
    """Return remarks on special tokens that are drawn within solutions."""
    special = {policy.tokens.ids[token]: token for token in sorted(policy.tokens.special)}
    drawn = [id for each in written for id in each.token_ids if id not in policy.eos_ids]
    counts = {token: drawn.count(id) for id, token in special.items() if id in drawn}
    return tuple(
        f"{token} was drawn {agreeing(count, 'once', f'{count} times')} within solutions: it does "
        "not end a turn, and no text shows it."
        for token, count in counts.items()
    )
