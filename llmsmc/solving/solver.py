"""From a question to the posterior of its answer."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

from llmsmc.core.checks import require_choice, require_count
from llmsmc.defaults import DEFAULT_ALGORITHM, DEFAULT_IN_FLIGHT, DEFAULT_STEP
from llmsmc.errors import InputError
from llmsmc.inference import Algorithm
from llmsmc.models import Reasoning, WholeAnswer
from llmsmc.models.batching.scheduler import run_together
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.no_answer import why_no_answer
from llmsmc.models.text.stopping import StepRule, step_rule
from llmsmc.results.posterior import Posterior
from llmsmc.solving import loading
from llmsmc.solving.algorithms import parse_algorithm
from llmsmc.solving.reward_loading import check_reward
from llmsmc.solving.selection import selected_answers
from llmsmc.solving.settings import Settings
from llmsmc.solving.step_notation import NamedRule


def reasoning(question: str, settings: Settings, algorithm: Algorithm) -> Reasoning:
    """Return the state-space model of a question; load the models that the algorithm needs.

    The question is checked before the reward model is loaded.
    """
    if algorithm.needs_proposal:
        loading.check_proposal(settings)
    policy = loading.load_policy(settings)
    model = Reasoning(
        policy,
        None,
        question,
        aggregation=settings.aggregation,
        inverse_temperature=settings.inverse_temperature,
        policy_inverse_temperature=settings.policy_inverse_temperature,
        temperature=settings.temperature,
        max_steps=settings.max_steps,
        max_tokens_per_step=settings.max_tokens_per_step,
        max_tokens=settings.max_tokens,
        step=chosen_step(settings, policy),
        thinking=settings.thinking,
        system=settings.system,
        answer_forms=settings.answer_forms,
        write_on=settings.write_on,
    )
    if algorithm.needs_proposal:
        model = replace(model, proposal_policy=loading.load_proposal(settings))
    if algorithm.needs_reward and loading.has_reward(settings):
        model = replace(model, reward=loading.load_reward(settings, policy=policy))
    return model


def chosen_step(settings: Settings, policy: Policy) -> str | int | StepRule:
    """Return the step rule; by default whole answers, where answers cannot be continued."""
    is_default = step_rule(settings.step) == step_rule(DEFAULT_STEP)
    if policy.whole_answers_only and is_default:
        return WholeAnswer()
    return settings.step.rule if isinstance(settings.step, NamedRule) else settings.step


def answered(posterior: Posterior, settings: Settings, model: Reasoning | None = None) -> Posterior:
    """Return the posterior with the answer of each rule of selection in its metadata.

    With the model of the question, the metadata also have why each particle has no answer
    (`llmsmc.models.reasoning.no_answer`), None for those that have one.
    """
    selected = selected_answers(posterior, settings.aggregation)
    metadata: dict[str, Any] = {"selection": settings.selection, "selected": selected}
    if model is not None:
        metadata["why_no_answer"] = why_no_answer(model, posterior.particles)
    return replace(posterior, metadata=posterior.metadata | metadata)


def solve(
    question: str,
    algorithm: str | Algorithm = DEFAULT_ALGORITHM,
    seed: int | None = None,
    particles: int | None = None,
    **settings: Any,
) -> Posterior:
    """Return the posterior of the solutions of a question; `.answers()` has the answers.

    ```python
    posterior = llmsmc.solve("Ann has 3 apples. She buys 4 more. How many has she?", seed=0)
    posterior.answers()  # {answer: probability}
    ```

    Args:
        question: the question.
        algorithm: `NAME[:key=value,...]` as on the command line, or an algorithm.
        seed: the seed, which repeats a run; without a seed, every run differs.
        particles: number of particles, for an algorithm given by name.
        settings: the fields of `Settings`. For many questions, load the models once and pass
            them as `policy=` and `reward=`.

    Raises:
        InputError: the question or a setting cannot be used.
        DegenerateWeightsError: all particles have weight zero; the error carries the posterior.
    """
    values, method = chosen(algorithm, particles, settings)
    return method.run(reasoning(question, values, method), seed=seed)


def solve_many(
    questions: Iterable[str],
    algorithm: str | Algorithm = DEFAULT_ALGORITHM,
    seed: int | None = None,
    particles: int | None = None,
    *,
    in_flight: int = DEFAULT_IN_FLIGHT,
    tokens_meanwhile: int = 0,
    **settings: Any,
) -> Iterator[tuple[int, Posterior | Exception]]:
    """Yield the number of each question with its posterior, or its error, as they finish.

    Several questions are in flight at a time and share the batches of the models, which is faster
    than one after the other; see `llmsmc.models.batching.scheduler`.

    ```python
    for number, posterior in llmsmc.solve_many(questions, seed=0):
        print(questions[number], posterior.answers())
    ```

    Args:
        questions: the questions; question n is solved with the seed `seed` + n.
        algorithm: as in `solve`.
        seed: repeats all runs bit for bit, given the same questions, `in_flight` and
            `tokens_meanwhile`.
        particles: as in `solve`.
        in_flight: the number of questions in flight at a time.
        tokens_meanwhile: the number of tokens drawn for other questions while a thread of its own
            scores steps; see `llmsmc.models.SharedReward`.
        settings: the fields of `Settings`. The models are loaded once.

    Raises:
        InputError: a setting cannot be used.
    """
    values, method = chosen(algorithm, particles, settings, tokens_meanwhile=tokens_meanwhile)
    require_count("in_flight", in_flight)
    require_count("tokens_meanwhile", tokens_meanwhile, minimum=0)
    models = loading.shared(loading.loaded(values, method), tokens_meanwhile)

    def run(number: int, question: str) -> Posterior:
        own = None if seed is None else seed + number
        return method.run(reasoning(question, models, method), seed=own)

    tasks = (partial(run, number, question) for number, question in enumerate(questions))
    return run_together(tasks, in_flight)


def chosen(
    algorithm: str | Algorithm,
    particles: int | None,
    settings: dict[str, Any],
    *,
    has_answers: bool = False,
    tokens_meanwhile: int = 0,
) -> tuple[Settings, Algorithm]:
    """Return the settings and the algorithm for the arguments of an entry point.

    For the arguments by name see `check_reward`.

    Raises:
        InputError: a setting cannot be used, or there is none of that name.
    """
    accepted = [field.name for field in fields(Settings)]
    for name in settings:
        require_choice("The name of a setting", name, ["algorithm", "seed", "particles", *accepted])
    values = Settings(**settings)
    if isinstance(algorithm, str):
        algorithm = parse_algorithm(algorithm, particles)
    elif particles is not None:
        raise InputError(
            f"An algorithm has its own number of particles. Got particles={particles!r} beside "
            f"{algorithm!r}; accepted: either of them."
        )
    check_reward(values, algorithm, has_answers=has_answers, tokens_meanwhile=tokens_meanwhile)
    return values, algorithm
