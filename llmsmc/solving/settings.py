"""The settings of a run: its models and everything else but the algorithm."""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from llmsmc import defaults
from llmsmc.core.checks import require_choice, require_count, require_seconds
from llmsmc.errors import InputError
from llmsmc.grading.forms import answer_forms
from llmsmc.models.pretrained.names import (
    DTYPES,
    EMBEDDED,
    ENGINES,
    QUANTIZATIONS,
    is_gguf,
    resolve,
)
from llmsmc.models.servers.address import root_of
from llmsmc.models.text.template_text import template_text
from llmsmc.registry import AGGREGATIONS, CONVENTIONS
from llmsmc.solving.prompts import system_prompt
from llmsmc.solving.reward_notation import MODEL, POLICY, NamedReward, is_address, parse_reward

if TYPE_CHECKING:
    from llmsmc.models.policies.policy import Policy
    from llmsmc.models.rewards.aggregation import Aggregation
    from llmsmc.models.rewards.reward import Reward
    from llmsmc.models.rewards.reward_function import Scoring
    from llmsmc.models.text.stopping import StepRule
    from llmsmc.models.text.thinking import Thinking
else:  # classes that import torch, which names of models and numbers do not need
    Policy = Reward = Scoring = Aggregation = StepRule = Thinking = Any

SELECTIONS: Final = ("mode", "majority", "argmax", "sample")
"""Rules by which one answer is selected; see `llmsmc.solving.selection`."""

_LOADED_HERE: Final = {
    "policy": [
        "quantization",
        "double_quantization",
        "adapter",
        "policy_revision",
        "device_map",
        "chat_template",
        "engine",
    ],
    "reward": ["reward_quantization", "reward_device"],
}
"""Settings that say how a model is loaded in this process."""

_OF_TRANSFORMERS: Final = (
    "quantization",
    "double_quantization",
    "adapter",
    "policy_revision",
    "device_map",
    "dtype",
)
"""Settings by which the weights of a policy are not computed as they are in its file."""

_ON_SERVER: Final = {
    "policy": ["policy_model", "policy_tokenizer"],
    "reward": ["reward_model", "reward_tokenizer"],
}
"""Settings that say which model of a server it is."""

_OF_REWARD: Final = (
    *_LOADED_HERE["reward"],
    *_ON_SERVER["reward"],
    "reward_convention",
    "reward_calibration",
)

_OF_REQUESTS: Final = ("request_seconds", "retry_seconds", "max_answer_bytes")
"""Settings that limit the time and the size of answers of a server."""


@dataclass(frozen=True)
class Settings:
    """The models of a run, and how they are used.

    Attributes:
        policy: the language model: a name, a folder, a GGUF file, the address of a server
            (http://...), or one that is loaded already.
        reward: the process reward model, likewise; any other reward by the notation of
            `llmsmc.solving.reward_notation`, such as "own-log-prob" or "none", or as a value; or a
            function of the question and the steps that returns their scores, which may be named as
            "package.module:name". None for the reward model of the embedded policies; others have
            none of their own.
        quantization: the quantization of the weights of the policy: None (or "none"), "int8",
            "int8-dynamic", "nf4" or "fp4".
        proposal: the model that guided algorithms draw from: a quantization of the policy, or a
            language model that is loaded already.
        aggregation: the function from the scores of the steps to the score of the solution: a name,
            or a value.
        inverse_temperature: the exponent of the score.
        policy_inverse_temperature: the exponent, in the target, of the distribution of the policy
            at temperature 1; None for the distribution at the sampling temperature itself.
        temperature: the sampling temperature of the policy.
        max_steps: number of steps after which solutions are cut off.
        max_tokens_per_step: number of tokens at which a step is cut off.
        max_tokens: number of tokens at which the whole solution is cut off; by default as many as
            the context of the policy has room for.
        step: where a step ends: a delimiter, a number of tokens, or a rule.
        thinking: the settings of a policy that thinks before it answers.
        system: a system prompt, or the name of one (`llmsmc.solving.prompts`), which stands for
            its text; by default the prompt of the chat template.
        answer_forms: the forms in which answers are looked for, the preferred one first, in a text
            with commas or in a sequence; see `llmsmc.grading.extraction`.
        write_on: whether particles begin the next step while others finish theirs, where one
            question is under way; see `llmsmc.models.Reasoning`.
        device: where the models run; by default the CUDA device if there is one, else the CPU.
        reward_convention: the layout on which a reward model given by name was trained; by default
            the one that is recognised.
        reward_quantization: the quantization of the weights of a reward model given by name.
        reward_device: the device of the reward model; by default `device`.
        dtype: the precision of the models given by name: "float32", "bfloat16" or "float16"; by
            default single on the CPU, bfloat16 for large models where the processor computes in it,
            and elsewhere the precision of the checkpoint.
        device_map: how the layers of the policy are spread over several devices ("auto"), in place
            of `device`.
        double_quantization: whether the scales of 4-bit weights of the policy are quantised too.
        adapter: a PEFT adapter of the policy, a folder or a name on the hub.
        policy_revision: branch, tag or commit of a policy on the hub.
        chat_template: a chat template of the policy in place of its own: a text in the language
            Jinja, or a file with it.
        engine: what computes the logits of a policy in this process: "transformers", "llama-cpp",
            or "auto": llama.cpp for GGUF files if its bindings are installed and nothing else that
            is asked for needs transformers.
        reward_calibration: the temperature by which the log-odds of the reward model are divided:
            above 1 the model is less sure than it was trained to be, below 1 more.
        selection: the rule by which one answer is selected (see `llmsmc.solving.selection`).
        policy_model: the name of the policy on its server; None if that has a single model.
        policy_tokenizer: the model whose tokenizer the policy on a server has; by default the one
            of its name there.
        reward_model: the name of the reward model on its server, likewise.
        reward_tokenizer: the model whose tokenizer the reward model on a server has, likewise.
        request_seconds: the time that one answer of a server may take; by default 300.
        retry_seconds: the time for which a server that does not answer is asked again; by default
            600.
        max_answer_bytes: the size that an answer of a server may have; by default 32 MiB.
    """

    policy: str | Path | Policy = defaults.DEFAULT_POLICY
    reward: str | Path | Reward | Scoring | None = None
    quantization: str | None = defaults.DEFAULT_QUANTIZATION
    proposal: str | Policy = defaults.DEFAULT_PROPOSAL
    aggregation: str | Aggregation = defaults.DEFAULT_AGGREGATION
    inverse_temperature: float | int = 1.0
    policy_inverse_temperature: float | int | None = None
    temperature: float | int = defaults.DEFAULT_TEMPERATURE
    max_steps: int = defaults.DEFAULT_MAX_STEPS
    max_tokens_per_step: int = defaults.DEFAULT_MAX_TOKENS_PER_STEP
    max_tokens: int | None = None
    step: str | int | StepRule = defaults.DEFAULT_STEP
    thinking: Thinking | None = None
    system: str | None = None
    answer_forms: str | Sequence[str] = ",".join(defaults.DEFAULT_ANSWER_FORMS)
    write_on: bool = False
    device: str | None = None
    reward_convention: str | None = None
    reward_quantization: str | None = None
    reward_device: str | None = None
    dtype: str | None = None
    device_map: str | dict[str, Any] | None = None
    double_quantization: bool = False
    adapter: str | Path | None = None
    policy_revision: str | None = None
    chat_template: str | Path | None = None
    engine: str = "auto"
    reward_calibration: float | int = 1.0
    selection: str = defaults.DEFAULT_SELECTION
    policy_model: str | None = None
    policy_tokenizer: str | None = None
    reward_model: str | None = None
    reward_tokenizer: str | None = None
    request_seconds: float | int | None = None
    retry_seconds: float | int | None = None
    max_answer_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check everything that can be checked before a model is loaded."""
        require_choice("quantization", self.quantization or "none", QUANTIZATIONS)
        require_choice("reward_quantization", self.reward_quantization or "none", QUANTIZATIONS)
        if self.reward_convention is not None:
            CONVENTIONS.check(self.reward_convention)
        if isinstance(self.proposal, str):
            require_choice("proposal", self.proposal, QUANTIZATIONS)
        require_choice("selection", self.selection, SELECTIONS)
        require_choice("engine", self.engine, ENGINES)
        require_count("max_steps", self.max_steps)
        require_count("max_tokens_per_step", self.max_tokens_per_step)
        if self.max_tokens is not None:
            require_count("max_tokens", self.max_tokens)
        _ = answer_forms(self.answer_forms)
        if isinstance(self.system, str):
            object.__setattr__(self, "system", system_prompt(self.system))
        self._check_values()
        if self.dtype is not None:
            require_choice("dtype", self.dtype, DTYPES)
        if self.chat_template is not None:
            template_text(self.chat_template)
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
        self._check_limits()
        self._check_models()

    def _check_values(self) -> None:
        """Check settings that are a name or a value; the classes of the values need torch."""
        if isinstance(self.aggregation, str):
            AGGREGATIONS.check(self.aggregation)
        else:
            from llmsmc.models.rewards.aggregation import aggregation

            aggregation(self.aggregation)
        if self.step != defaults.DEFAULT_STEP:
            from llmsmc.models.text.stopping import step_rule

            step_rule(self.step)

    def _check_limits(self) -> None:
        """Check the limits for servers."""
        reward = self.named_reward
        on_server = is_address(self.policy) or (
            reward is not None and any(is_address(each.argument) for each in reward.parts)
        )
        for name in _OF_REQUESTS:
            value = getattr(self, name)
            if value is None:
                continue
            if not on_server:
                raise InputError(
                    f"{name} has no effect without a server. Got {value!r}; accepted: None, or the "
                    "address of a server as policy or reward."
                )
            if name == "max_answer_bytes":
                require_count(name, value)
            else:
                require_seconds(name, value, may_be_zero=name == "retry_seconds")

    def _check_models(self) -> None:
        """Check names of models and addresses of servers, and the settings that depend on them."""
        if isinstance(self.policy, str | Path):
            if is_address(self.policy):
                root_of(str(self.policy))
                self._require_unset("policy", "by a server", _LOADED_HERE["policy"])
            else:
                resolve(self.policy)
                self._require_unset("policy", "in this process", _ON_SERVER["policy"])
                if self.engine == "llama-cpp":
                    self._require_unset("policy", "by llama.cpp", _OF_TRANSFORMERS)
        reward = self.named_reward
        if reward is not None:
            effects = {name for each in reward.parts for name in _effective(each)}
            place = "here"
            if reward.kind == MODEL:
                place = "by a server" if is_address(reward.argument) else "in this process"
            elif reward.kind == "function":
                place = "by a function"
            without = [name for name in _OF_REWARD if name not in effects]
            self._require_unset("reward", place, without)
            if isinstance(self.aggregation, str):
                reward.check_aggregation(self.aggregation)

    def _require_unset(self, role: str, place: str, names: Sequence[str]) -> None:
        """Raise `InputError` if a setting is given that has no effect."""
        default = {each.name: each.default for each in fields(self)}
        for name in names:
            value = getattr(self, name)
            if value not in ("none", default[name]):
                raise InputError(
                    f"{name} has no effect on a model that is run {place}. Got "
                    f"{name}={value!r} beside {role}={str(getattr(self, role))!r}; accepted: "
                    "either of them."
                )

    @property
    def computed_by(self) -> str:
        """What computes a policy that is loaded here by its name: "llama-cpp" or "transformers"."""
        if self.engine != "auto":
            return self.engine
        is_file = _is_named(self.policy) and is_gguf(self.policy)
        if not is_file or self.device not in (None, "cpu"):
            return "transformers"
        default = {each.name: each.default for each in fields(self)}
        reward = self.named_reward
        is_plain = all(getattr(self, n) in ("none", default[n]) for n in _OF_TRANSFORMERS)
        reads_network = reward is not None and reward.reads_network
        is_there = importlib.util.find_spec("llama_cpp") is not None
        return "llama-cpp" if is_plain and is_there and not reads_network else "transformers"

    @property
    def reward_or_default(self) -> str | Path | Reward | Scoring | None:
        """The reward; the reward model of MiniMath for the policies of MiniMath by default."""
        if self.reward is not None:
            return self.reward
        policy = self.policy if isinstance(self.policy, str | Path) else self.policy.name
        return defaults.DEFAULT_REWARD if str(policy) in EMBEDDED else None

    @property
    def named_reward(self) -> NamedReward | None:
        """The reward as its name says; None for a value, and where there is none."""
        reward = self.reward_or_default
        return parse_reward(reward) if isinstance(reward, str | Path) else None

    def config(self) -> dict[str, Any]:
        """Return the settings that decide the result, as in a JSON file.

        Limits for servers are left out: a run may be resumed with more patience; so is the reward,
        where there is none.
        """
        from llmsmc.models.rewards.reward_function import as_reward
        from llmsmc.solving.step_notation import step_text

        names = [field.name for field in fields(self) if field.name not in _OF_REQUESTS]
        config: dict[str, Any] = {name: getattr(self, name) for name in names}
        for role in ("policy", "reward", "proposal"):
            model: Any = self.reward_or_default if role == "reward" else config[role]
            if model is None:
                del config[role]
                continue
            if isinstance(model, str | Path):
                config[role] = str(model)
            else:
                config[role] = (as_reward(model) if role == "reward" else model).name
        quantization = self.quantization
        if not isinstance(self.policy, str | Path):
            quantization = self.policy.quantization
        adapter = None if self.adapter is None else str(self.adapter)
        template = None if self.chat_template is None else template_text(self.chat_template)
        return (
            config
            | {
                "quantization": quantization or "none",
                "aggregation": self._aggregation_name(),
                "step": step_text(self.step),
                "thinking": None if self.thinking is None else self.thinking.config(),
                "adapter": adapter,
                "answer_forms": ",".join(answer_forms(self.answer_forms)),
                "chat_template": template,
                "engine": self.computed_by,
            }
            | self._chosen_here()
        )

    def _chosen_here(self) -> dict[str, Any]:
        """Return what the files of the models and the processor have decided, where they do.

        Precisions appear where they are not what they were before processors decided anything, and
        stand for the same results as where they are asked for.
        """
        from llmsmc.models.pretrained.loading import chosen_dtype, stored_precision

        chosen, reward = dict[str, Any](), self.named_reward
        is_computed_so = self.computed_by == "transformers"
        if self.dtype is None and _is_named(self.policy) and is_computed_so:
            chosen["dtype"] = chosen_dtype(self.policy, self.device, self.policy_revision)
        is_network = reward is not None and reward.kind == MODEL
        if self.dtype is None and is_network and _is_named(self.reward):
            device = self.reward_device or self.device
            chosen["reward_dtype"] = chosen_dtype(self.reward, device)
        if _is_named(self.policy) and is_gguf(self.policy):
            chosen["policy_weights"] = stored_precision(self.policy)
        return {name: value for name, value in chosen.items() if value is not None}

    def _aggregation_name(self) -> str:
        given = self.aggregation
        return given if isinstance(given, str) else AGGREGATIONS.name_of(given)

    def default_config(self) -> dict[str, Any]:
        """Return the configuration of default settings, for comparison with `config`."""
        thinking = None if self.thinking is None else self.thinking.default_config()
        return Settings().config() | {"thinking": thinking}


def _effective(reward: NamedReward) -> list[str]:
    """Return the settings that have an effect on a reward that has been named."""
    if reward.kind == MODEL:
        there = is_address(reward.argument)
        place = (_ON_SERVER if there else _LOADED_HERE)["reward"]
        return [*place, "reward_convention", "reward_calibration"]
    is_loaded = any(model != POLICY for model in reward.models)
    return _LOADED_HERE["reward"] if is_loaded else []


def _is_named(model: object) -> TypeGuard[str | Path]:
    """Return whether a model is loaded here by its name, folder or file."""
    return isinstance(model, str | Path) and not is_address(model)
