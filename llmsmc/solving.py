"""From a question to the posterior of its answer, with the models given by name."""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

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
    DEFAULT_SELECTION,
    DEFAULT_STEP,
    DEFAULT_TEMPERATURE,
)
from llmsmc.errors import InputError
from llmsmc.inference import Algorithm
from llmsmc.models import LanguageModel, Reasoning, RewardModel, WholeAnswer
from llmsmc.models.aggregation import aggregation
from llmsmc.models.conventions import CONVENTIONS
from llmsmc.models.engines.address import root_of
from llmsmc.models.policy import Policy
from llmsmc.models.pretrained import DTYPES, resolve
from llmsmc.models.quantization import QUANTIZATIONS
from llmsmc.models.reward import Reward
from llmsmc.models.reward_function import Scoring, as_reward
from llmsmc.models.shared import SharedLanguageModel, SharedReward
from llmsmc.models.stopping import StepRule, step_rule
from llmsmc.models.thinking import Thinking
from llmsmc.models.together import run_together
from llmsmc.posterior import Posterior
from llmsmc.selection import SELECTIONS, selected_answers
from llmsmc.step_text import step_text

API_KEY_VARIABLE: Final = "LLMSMC_API_KEY"

_LOADED_HERE: Final = {
    "policy": [
        "quantization",
        "double_quantization",
        "adapter",
        "policy_revision",
        "device_map",
    ],
    "reward": ["reward_quantization", "reward_device"],
}
"""Settings that say how a model is loaded in this process."""


@dataclass(frozen=True)
class Settings:
    """Which models reason, and how.

    Attributes:
        policy: the language model: a name, a folder, the address of a server (http://...), or one
            that is loaded already.
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
        step: where a step ends: a delimiter, a number of tokens, or a rule.
        thinking: what is known of the thinking of a policy that thinks before it answers.
        system: a system prompt; by default what the chat template provides.
        device: where the models run; by default the CUDA device if there is one, else the CPU.
        reward_convention: the layout on which a reward model given by name was trained; by default
            the one that is recognised.
        reward_quantization: of the weights of a reward model given by name.
        reward_device: where it runs; by default on `device`.
        dtype: the precision of the models given by name: "float32", "bfloat16" or "float16"; by
            default single on the CPU, else that of the checkpoint.
        device_map: how the layers of the policy are spread over several devices ("auto"), in place
            of `device`.
        double_quantization: whether the scales of 4-bit weights of the policy are quantised too.
        adapter: a PEFT adapter of the policy, a folder or a name on the hub.
        policy_revision: branch, tag or commit of a policy on the hub.
        reward_calibration: the temperature by which its log-odds are divided: above 1 it is less
            sure of itself than it was trained to be, below 1 more.
        selection: the rule by which one answer is selected (see `llmsmc.selection`).
        policy_model: the name of the policy on its server; None if that has a single model.
        policy_tokenizer: whose tokenizer it has; by default that of its name on the server.
        reward_model: the same of a reward model on a server.
        reward_tokenizer: the same of a reward model on a server.
    """

    policy: str | Path | Policy = DEFAULT_POLICY
    reward: str | Path | Reward | Scoring = DEFAULT_REWARD
    quantization: str | None = DEFAULT_QUANTIZATION
    proposal: str | Policy = DEFAULT_PROPOSAL
    aggregation: str = DEFAULT_AGGREGATION
    inverse_temperature: float | int = 1.0
    policy_inverse_temperature: float | int | None = None
    temperature: float | int = DEFAULT_TEMPERATURE
    max_steps: int = DEFAULT_MAX_STEPS
    max_tokens_per_step: int = DEFAULT_MAX_TOKENS_PER_STEP
    step: str | int | StepRule = DEFAULT_STEP
    thinking: Thinking | None = None
    system: str | None = None
    device: str | None = None
    reward_convention: str | None = None
    reward_quantization: str | None = None
    reward_device: str | None = None
    dtype: str | None = None
    device_map: str | dict[str, Any] | None = None
    double_quantization: bool = False
    adapter: str | Path | None = None
    policy_revision: str | None = None
    reward_calibration: float | int = 1.0
    selection: str = DEFAULT_SELECTION
    policy_model: str | None = None
    policy_tokenizer: str | None = None
    reward_model: str | None = None
    reward_tokenizer: str | None = None

    def __post_init__(self) -> None:
        """Check everything that can be checked before a model is loaded."""
        require_choice("quantization", self.quantization or "none", QUANTIZATIONS)
        require_choice("reward_quantization", self.reward_quantization or "none", QUANTIZATIONS)
        if self.reward_convention is not None:
            require_choice("reward_convention", self.reward_convention, CONVENTIONS)
        if isinstance(self.proposal, str):
            require_choice("proposal", self.proposal, QUANTIZATIONS)
        require_choice("selection", self.selection, SELECTIONS)
        require_count("max_steps", self.max_steps)
        require_count("max_tokens_per_step", self.max_tokens_per_step)
        aggregation(self.aggregation)
        step_rule(self.step)
        if self.dtype is not None:
            require_choice("dtype", self.dtype, DTYPES)
        if self.double_quantization:
            require_choice("quantization", self.quantization, ("nf4", "fp4"))
        for name in ("temperature", "inverse_temperature", "policy_inverse_temperature"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(
                    f"{name} is a number. Got {value!r}; accepted: 0 <= {name} < infinity."
                )
        if not 0 < self.reward_calibration < math.inf:
            raise InputError(
                f"A temperature is positive. Got reward_calibration={self.reward_calibration!r}; "
                "accepted: 0 < reward_calibration < infinity."
            )
        self._check_models()

    def _check_models(self) -> None:
        """Check the names of models and the addresses of servers, and what is said beside them."""
        for role, model in (("policy", self.policy), ("reward", self.reward)):
            if not isinstance(model, str | Path):
                continue
            on_server = [f"{role}_model", f"{role}_tokenizer"]
            here = _LOADED_HERE[role]
            if is_address(model):
                root_of(str(model))
            else:
                resolve(model)
            for name in here if is_address(model) else on_server:
                value = getattr(self, name)
                if value not in (None, "none", False):
                    place = "by a server" if is_address(model) else "in this process"
                    raise InputError(
                        f"{name} has no effect on a model that is run {place}. Got {value!r} "
                        f"beside {role}={str(model)!r}; accepted: either of them."
                    )

    def config(self) -> dict[str, Any]:
        """Return the settings as they would stand in a JSON file."""
        config: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for role in ("policy", "reward", "proposal"):
            model = config[role]
            named = str(model) if isinstance(model, str | Path) else None
            config[role] = named or (as_reward(model) if role == "reward" else model).name
        quantization = self.quantization
        if not isinstance(self.policy, str | Path):
            quantization = self.policy.quantization
        adapter = None if self.adapter is None else str(self.adapter)
        return config | {
            "quantization": quantization or "none",
            "step": step_text(self.step),
            "thinking": None if self.thinking is None else self.thinking.config(),
            "adapter": adapter,
        }


def is_address(model: object) -> bool:
    """Return whether a model is given by the address of a server."""
    return isinstance(model, str) and model.startswith(("http://", "https://"))


def api_key() -> str | None:
    """Return the key that servers are shown, which stands in the environment and nowhere else."""
    return os.environ.get(API_KEY_VARIABLE) or None


def load_policy(settings: Settings) -> Policy:
    """Return the language model of the settings, loaded."""
    if not isinstance(settings.policy, str | Path):
        return settings.policy
    if is_address(settings.policy):
        from llmsmc.models import RemoteLanguageModel

        return RemoteLanguageModel(
            str(settings.policy),
            settings.policy_model,
            tokenizer=settings.policy_tokenizer,
            api_key=api_key(),
        )
    return _language_model(settings, settings.quantization)


def load_reward(settings: Settings) -> Reward:
    """Return the reward of the settings, loaded."""
    if not isinstance(settings.reward, str | Path):
        if settings.reward_calibration != 1:
            raise InputError(
                "A reward that is loaded already has its own temperature. Got reward_calibration="
                f"{settings.reward_calibration!r}; accepted: the name of a reward model, or "
                "RewardModel(..., calibration=)."
            )
        return as_reward(settings.reward)
    if is_address(settings.reward):
        from llmsmc.models import RemoteRewardModel

        return RemoteRewardModel(
            str(settings.reward),
            settings.reward_model,
            settings.reward_convention,
            tokenizer=settings.reward_tokenizer,
            calibration=settings.reward_calibration,
            api_key=api_key(),
        )
    return RewardModel.from_pretrained(
        settings.reward,
        settings.reward_convention,
        device=settings.reward_device or settings.device,
        dtype=settings.dtype,
        quantization=settings.reward_quantization,
        calibration=settings.reward_calibration,
    )


def _check_proposal(settings: Settings) -> None:
    """Raise `InputError` if there is nothing to make a proposal of."""
    if not isinstance(settings.proposal, str):
        return
    if is_address(settings.policy):
        raise InputError(
            "A policy on a server is not quantized once more to propose steps. Got "
            f"proposal={settings.proposal!r} beside policy={settings.policy!r}; accepted: a "
            "LanguageModel with the same tokens as proposal=, from Python."
        )
    if not isinstance(settings.policy, str | Path):
        raise InputError(
            "A policy that is loaded already is not quantized once more. Got "
            f"proposal={settings.proposal!r}; accepted: a LanguageModel."
        )


def load_proposal(settings: Settings) -> Policy:
    """Return the language model that guided algorithms draw from, loaded.

    Raises:
        InputError: there is nothing to make it of.
    """
    if not isinstance(settings.proposal, str):
        return settings.proposal
    _check_proposal(settings)
    return _language_model(settings, settings.proposal)


def _language_model(settings: Settings, quantization: str | None) -> LanguageModel:
    assert isinstance(settings.policy, str | Path), "checked by _check_proposal"
    return LanguageModel.from_pretrained(
        settings.policy,
        quantization=quantization,
        device=settings.device,
        dtype=settings.dtype,
        double_quantization=settings.double_quantization and quantization in ("nf4", "fp4"),
        device_map=settings.device_map,
        adapter=settings.adapter,
        revision=settings.policy_revision,
    )


def loaded(settings: Settings, algorithm: Algorithm) -> Settings:
    """Return the settings with what models the algorithm needs in place of their names."""
    if needs_proposal(algorithm):
        settings = replace(settings, proposal=load_proposal(settings))
    if needs_reward(algorithm):
        settings = replace(settings, reward=load_reward(settings), reward_calibration=1.0)
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
    if needs_proposal(algorithm):
        _check_proposal(settings)
    policy = load_policy(settings)
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
        step=_step(settings, policy),
        thinking=settings.thinking,
        system=settings.system,
    )
    if needs_proposal(algorithm):
        model = replace(model, proposal_policy=load_proposal(settings))
    return replace(model, reward=load_reward(settings)) if needs_reward(algorithm) else model


def _step(settings: Settings, policy: Policy) -> str | int | StepRule:
    """Return where a step ends: by default with the answer, where it cannot be continued."""
    is_default = step_rule(settings.step) == step_rule(DEFAULT_STEP)
    return WholeAnswer() if policy.whole_answers_only and is_default else settings.step


def answered(posterior: Posterior, settings: Settings) -> Posterior:
    """Return the posterior with what each rule of selection makes of it in its metadata."""
    selected = selected_answers(posterior, settings.aggregation)
    return replace(
        posterior,
        metadata=posterior.metadata | {"selection": settings.selection, "selected": selected},
    )


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
