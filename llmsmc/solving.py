"""From a question to the posterior of its answer, with the models given by name."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from llmsmc.algorithms import needs_proposal, needs_reward, parse_algorithm
from llmsmc.checks import require_choice, require_count
from llmsmc.defaults import (
    DEFAULT_AGGREGATION,
    DEFAULT_ALGORITHM,
    DEFAULT_IN_FLIGHT,
    DEFAULT_MAX_STEPS,
    DEFAULT_MAX_TOKENS_PER_STEP,
    DEFAULT_POLICY,
    DEFAULT_PROPOSAL,
    DEFAULT_QUANTIZATION,
    DEFAULT_REWARD,
    DEFAULT_TEMPERATURE,
)
from llmsmc.errors import InputError
from llmsmc.inference import Algorithm
from llmsmc.models import LanguageModel, Reasoning, RewardModel
from llmsmc.models.aggregation import aggregation
from llmsmc.models.conventions import CONVENTIONS
from llmsmc.models.pretrained import resolve
from llmsmc.models.quantization import QUANTIZATIONS
from llmsmc.models.reward import Reward
from llmsmc.models.reward_function import Scoring, as_reward
from llmsmc.models.shared import SharedLanguageModel, SharedReward
from llmsmc.models.together import run_together
from llmsmc.posterior import Posterior


@dataclass(frozen=True)
class Settings:
    """Which models reason, and how.

    Attributes:
        policy: the language model: a name, a folder, or one that is loaded already.
        reward: the process reward model, likewise; any other reward; or a function of the question
            and the steps that returns their scores.
        quantization: of the weights of the policy: None (or "none"), "int8", "nf4" or "fp4".
        proposal: what guided algorithms draw from: the quantization of the policy there, or a
            language model that is loaded already.
        aggregation: how the scores of the steps make that of the solution.
        inverse_temperature: the exponent of the score.
        policy_inverse_temperature: the exponent of the law of the policy at temperature 1; None for
            the law at the sampling temperature itself.
        temperature: at which steps are drawn.
        max_steps: number of steps after which solutions are cut off.
        max_tokens_per_step: number of tokens at which a step is cut off.
        system: a system prompt; by default what the chat template provides.
        device: where the models run; by default the CUDA device if there is one, else the CPU.
        reward_convention: the layout on which a reward model given by name was trained; by default
            the one that is recognised.
        reward_quantization: of the weights of a reward model given by name.
        reward_device: where it runs; by default on `device`.
    """

    policy: str | Path | LanguageModel = DEFAULT_POLICY
    reward: str | Path | Reward | Scoring = DEFAULT_REWARD
    quantization: str | None = DEFAULT_QUANTIZATION
    proposal: str | LanguageModel = DEFAULT_PROPOSAL
    aggregation: str = DEFAULT_AGGREGATION
    inverse_temperature: float | int = 1.0
    policy_inverse_temperature: float | int | None = None
    temperature: float | int = DEFAULT_TEMPERATURE
    max_steps: int = DEFAULT_MAX_STEPS
    max_tokens_per_step: int = DEFAULT_MAX_TOKENS_PER_STEP
    system: str | None = None
    device: str | None = None
    reward_convention: str | None = None
    reward_quantization: str | None = None
    reward_device: str | None = None

    def __post_init__(self) -> None:
        """Check everything that can be checked before a model is loaded."""
        require_choice("quantization", self.quantization or "none", QUANTIZATIONS)
        require_choice("reward_quantization", self.reward_quantization or "none", QUANTIZATIONS)
        if self.reward_convention is not None:
            require_choice("reward_convention", self.reward_convention, CONVENTIONS)
        if isinstance(self.proposal, str):
            require_choice("proposal", self.proposal, QUANTIZATIONS)
        require_count("max_steps", self.max_steps)
        require_count("max_tokens_per_step", self.max_tokens_per_step)
        aggregation(self.aggregation)
        for name in ("temperature", "inverse_temperature", "policy_inverse_temperature"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(
                    f"{name} is a number. Got {value!r}; accepted: 0 <= {name} < infinity."
                )
        for model in (self.policy, self.reward):
            if isinstance(model, str | Path):
                resolve(model)

    def config(self) -> dict[str, Any]:
        """Return the settings as they would stand in a JSON file."""
        config: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for role in ("policy", "reward", "proposal"):
            model = config[role]
            named = str(model) if isinstance(model, str | Path) else None
            config[role] = named or (as_reward(model) if role == "reward" else model).name
        quantization = self.quantization
        if isinstance(self.policy, LanguageModel):
            quantization = self.policy.quantization
        return config | {"quantization": quantization or "none"}


def load_policy(settings: Settings) -> LanguageModel:
    """Return the language model of the settings, loaded."""
    if isinstance(settings.policy, LanguageModel):
        return settings.policy
    return LanguageModel.from_pretrained(
        settings.policy, quantization=settings.quantization, device=settings.device
    )


def load_reward(settings: Settings) -> Reward:
    """Return the reward of the settings, loaded."""
    if not isinstance(settings.reward, str | Path):
        return as_reward(settings.reward)
    return RewardModel.from_pretrained(
        settings.reward,
        settings.reward_convention,
        device=settings.reward_device or settings.device,
        quantization=settings.reward_quantization,
    )


def load_proposal(settings: Settings) -> LanguageModel:
    """Return the language model that guided algorithms draw from, loaded."""
    if isinstance(settings.proposal, LanguageModel):
        return settings.proposal
    if isinstance(settings.policy, LanguageModel):
        raise InputError(
            "A policy that is loaded already is not quantized once more. Got "
            f"proposal={settings.proposal!r}; accepted: a LanguageModel."
        )
    return LanguageModel.from_pretrained(
        settings.policy, quantization=settings.proposal, device=settings.device
    )


def loaded(settings: Settings, algorithm: Algorithm) -> Settings:
    """Return the settings with what models the algorithm needs in place of their names."""
    if needs_proposal(algorithm):
        settings = replace(settings, proposal=load_proposal(settings))
    if needs_reward(algorithm):
        settings = replace(settings, reward=load_reward(settings))
    return replace(settings, policy=load_policy(settings))


def shared(settings: Settings) -> Settings:
    """Return the settings with models that runs can share in the place of those that are loaded."""
    policy, proposal, reward = settings.policy, settings.proposal, settings.reward
    if isinstance(policy, LanguageModel):
        settings = replace(settings, policy=SharedLanguageModel(policy))
    if isinstance(proposal, LanguageModel):
        settings = replace(settings, proposal=SharedLanguageModel(proposal))
    if not isinstance(reward, str | Path):
        settings = replace(settings, reward=SharedReward(as_reward(reward)))
    return settings


def reasoning(question: str, settings: Settings, algorithm: Algorithm) -> Reasoning:
    """Return the state-space model of a question, loading what the algorithm needs.

    The question is checked before the reward model is loaded.
    """
    model = Reasoning(
        load_policy(settings),
        None,
        question,
        aggregation=settings.aggregation,
        inverse_temperature=settings.inverse_temperature,
        policy_inverse_temperature=settings.policy_inverse_temperature,
        temperature=settings.temperature,
        max_steps=settings.max_steps,
        max_tokens_per_step=settings.max_tokens_per_step,
        system=settings.system,
    )
    if needs_proposal(algorithm):
        model = replace(model, proposal_policy=load_proposal(settings))
    return replace(model, reward=load_reward(settings)) if needs_reward(algorithm) else model


def solve(
    question: str,
    algorithm: str | Algorithm = DEFAULT_ALGORITHM,
    seed: int | None = None,
    particles: int | None = None,
    **settings: Any,
) -> Posterior:
    """Return the posterior of the solutions of a question; `.answers()` is that of the answer.

    ```python
    posterior = llmsmc.solve("Ann has 3 apples. She buys 4 more. How many has she?", seed=0)
    posterior.answers()  # {answer: probability}
    ```

    Args:
        question: the question.
        algorithm: `NAME[:key=value,...]` as on the command line, or an algorithm.
        seed: repeats a run; without one, every run is a new one.
        particles: number of particles, for an algorithm given by name.
        settings: the fields of `Settings`. For many questions, load the models once and pass
            them as `policy=` and `reward=`.

    Raises:
        InputError: the question or a setting cannot be used.
        DegenerateWeightsError: no particle is left with a weight; carries the posterior.
    """
    chosen, method = _chosen(algorithm, particles, settings)
    return method.run(reasoning(question, chosen, method), seed=seed)


def solve_many(
    questions: Iterable[str],
    algorithm: str | Algorithm = DEFAULT_ALGORITHM,
    seed: int | None = None,
    particles: int | None = None,
    *,
    in_flight: int = DEFAULT_IN_FLIGHT,
    **settings: Any,
) -> Iterator[tuple[int, Posterior | Exception]]:
    """Yield the posterior of each question with its number, as they come, or its error.

    Several questions are under way at a time and share the batches of the models, which is faster
    than one after the other; see `llmsmc.models.together`.

    ```python
    for number, posterior in llmsmc.solve_many(questions, seed=0):
        print(questions[number], posterior.answers())
    ```

    Args:
        questions: the questions; question n is solved with the seed `seed` + n.
        algorithm: as in `solve`.
        seed: repeats all runs bit for bit, given the same questions and the same `in_flight`.
        particles: as in `solve`.
        in_flight: how many questions are under way at a time.
        settings: the fields of `Settings`. The models are loaded once.

    Raises:
        InputError: a setting cannot be used.
    """
    chosen, method = _chosen(algorithm, particles, settings)
    require_count("in_flight", in_flight)
    models = shared(loaded(chosen, method))

    def run(number: int, question: str) -> Posterior:
        own = None if seed is None else seed + number
        return method.run(reasoning(question, models, method), seed=own)

    tasks = (partial(run, number, question) for number, question in enumerate(questions))
    return run_together(tasks, in_flight)


def _chosen(
    algorithm: str | Algorithm, particles: int | None, settings: dict[str, Any]
) -> tuple[Settings, Algorithm]:
    """Return the settings and the algorithm that a caller means."""
    accepted = [field.name for field in fields(Settings)]
    for name in settings:
        require_choice("The name of a setting", name, ["algorithm", "seed", "particles", *accepted])
    chosen = Settings(**settings)
    if isinstance(algorithm, str):
        algorithm = parse_algorithm(algorithm, particles)
    elif particles is not None:
        raise InputError(
            f"An algorithm has its own number of particles. Got particles={particles!r} beside "
            f"{algorithm!r}; accepted: either of them."
        )
    return chosen, algorithm
