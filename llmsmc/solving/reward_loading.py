"""Rewards of the notation, loaded: models of the policy's own file are the policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from llmsmc.errors import InputError
from llmsmc.inference import Algorithm
from llmsmc.models import GenerativeJudge, ImplicitReward, LanguageModel, RewardEnsemble
from llmsmc.models.policies.policy import Policy
from llmsmc.models.pretrained.names import EMBEDDED
from llmsmc.models.rewards.answer_reward import AnswerReward
from llmsmc.models.rewards.arithmetic_reward import ArithmeticReward
from llmsmc.models.rewards.conventions.recognition import check_checkpoint
from llmsmc.models.rewards.own_log_prob import OwnLogProb
from llmsmc.models.rewards.policy_ratio import PolicyRatio
from llmsmc.models.rewards.reward import Reward
from llmsmc.models.rewards.reward_function import named_reward
from llmsmc.solving.reward_notation import (
    FOLDER,
    FOLDERS,
    FUNCTION,
    MODEL,
    POLICY,
    NamedReward,
    accepted_rewards,
    is_address,
)
from llmsmc.solving.settings import Settings

Network = Callable[[str], Reward]
"""From the name, the folder or the address of a process reward model to the model, loaded."""


def check_reward(
    settings: Settings,
    algorithm: Algorithm,
    *,
    has_answers: bool = False,
    tokens_meanwhile: int = 0,
) -> None:
    """Check the reward of a run before any model is loaded.

    Args:
        settings: the settings of the run.
        algorithm: the algorithm, which may ask for no reward.
        has_answers: whether the questions are those of a data set, with answers.
        tokens_meanwhile: how many tokens the policy draws while a thread of its own scores steps.

    Raises:
        InputError: the algorithm asks for a reward and there is none; or the reward cannot be had.
    """
    if not algorithm.needs_reward:
        return
    policy = _policy_name(settings)
    if settings.reward_or_default is None:
        raise InputError(
            f"{type(algorithm).__name__} weighs solutions by a reward, and only the embedded "
            f"policies have one of their own. Got no reward beside policy={policy!r}; "
            f"accepted: --reward (in Python reward=) with one of {accepted_rewards()}."
        )
    named = settings.named_reward
    if named is None:
        return
    if named.kind == "none" and settings.policy_inverse_temperature is None:
        raise InputError(
            f"{type(algorithm).__name__} weighs solutions by a reward. Got reward='none'; "
            "accepted: another reward, an algorithm that asks for none (greedy, "
            "self-consistency), or a power of the policy's law as the target "
            "(policy_inverse_temperature)."
        )
    for each in named.parts:
        _check_part(each, settings, has_answers)
    if tokens_meanwhile and any(_runs_policy(each, settings) for each in named.parts):
        raise InputError(
            "A reward that runs the policy cannot score while that draws. Got "
            f"tokens_meanwhile={tokens_meanwhile} beside reward={named.text!r}; accepted: 0, or "
            "another reward."
        )


def _check_part(named: NamedReward, settings: Settings, has_answers: bool) -> None:
    if named.kind == "answer" and not has_answers:
        raise InputError(
            "The reward `answer` knows the answers of a data set, and is no reward for a question "
            "by itself. Got a question without its answer; accepted: `llmsmc eval`, or another "
            "reward."
        )
    if POLICY in named.models and is_address(settings.policy):
        raise InputError(
            f"A policy on a server is no language model of {named.kind} here. Got "
            f"reward={named.text!r} beside policy={str(settings.policy)!r}; accepted: the name or "
            "the folder of a model that runs in this process."
        )
    if named.kind == "ratio" and all(_is_policy(name, settings) for name in named.models):
        raise InputError(
            f"A ratio is of two language models. Got the policy twice in {named.text!r}; accepted: "
            "another model."
        )
    if named.kind == FOLDER:
        check: Callable[[Path], None] | None = getattr(
            _class_of(named.argument), "check_folder", None
        )
        if check is not None:
            check(Path(named.argument))
    known = named.argument in EMBEDDED and settings.reward_convention is None
    if named.kind == MODEL and not known and not is_address(named.argument):
        check_checkpoint(named.argument, settings.reward_convention)


@dataclass(frozen=True, eq=False)
class Parts:
    """What rewards are made of.

    Attributes:
        settings: how models are loaded.
        network: loads a process reward model.
        policy: the policy; None where it is not loaded.
        answers: the right answer of each question, where they are known.
        models: the language models so far, by name.
    """

    settings: Settings
    network: Network
    policy: Policy | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    models: dict[str, LanguageModel] = field(default_factory=dict)

    def language_model(self, name: str) -> LanguageModel:
        """Return a language model; the policy itself, where it is of the same file.

        Raises:
            InputError: it cannot be loaded, or is a policy that runs elsewhere.
        """
        if name == POLICY or _is_policy(name, self.settings):
            policy = self.own_policy
            if not isinstance(policy, LanguageModel):
                raise InputError(
                    "A language model of a reward is computed by transformers. Got the policy "
                    f"{policy.name}, which is not; accepted: the name or the folder of a model, or "
                    "--engine transformers."
                )
            return policy
        if name not in self.models:
            self.models[name] = LanguageModel.from_pretrained(
                name,
                self.settings.reward_quantization,
                self.settings.reward_device or self.settings.device,
                self.settings.dtype,
            )
        return self.models[name]

    @property
    def own_policy(self) -> Policy:
        """The policy of the run."""
        assert self.policy is not None, "rewards that read it are loaded behind it"
        return self.policy


def load_named(named: NamedReward, parts: Parts) -> Reward:
    """Return the reward that has been named, loaded.

    Raises:
        InputError: it cannot be loaded.
    """
    return _LOADERS[named.kind](named, parts)


def _model(named: NamedReward, parts: Parts) -> Reward:
    return parts.network(named.argument)


def _function(named: NamedReward, parts: Parts) -> Reward:
    return named_reward(named.argument)


def _folder(named: NamedReward, parts: Parts) -> Reward:
    found: Reward = _class_of(named.argument).from_pretrained(named.argument, parts.own_policy)
    return found


def _own_log_prob(named: NamedReward, parts: Parts) -> Reward:
    return OwnLogProb(parts.own_policy, **named.options)


def _arithmetic(named: NamedReward, parts: Parts) -> Reward:
    return ArithmeticReward(**named.options)


def _answer(named: NamedReward, parts: Parts) -> Reward:
    return AnswerReward(parts.answers, **named.options)


def _judge(named: NamedReward, parts: Parts) -> Reward:
    (name,) = named.models
    return GenerativeJudge(parts.language_model(name), **named.options)


def _ratio(named: NamedReward, parts: Parts) -> Reward:
    options = {key: value for key, value in named.options.items() if key != "reference"}
    above, below = (POLICY if _is_policy(name, parts.settings) else name for name in named.models)
    if POLICY not in (above, below):
        models = (parts.language_model(name) for name in (above, below))
        return ImplicitReward(*models, **options)
    other = below if above == POLICY else above
    return PolicyRatio(
        parts.language_model(other), parts.own_policy, policy_above=above == POLICY, **options
    )


def _ensemble(named: NamedReward, parts: Parts) -> Reward:
    members = [load_named(member, parts) for member in named.members]
    return RewardEnsemble(members, name=named.text, **named.options)


_LOADERS: Final[dict[str, Callable[[NamedReward, Parts], Reward]]] = {
    MODEL: _model,
    FUNCTION: _function,
    FOLDER: _folder,
    "own-log-prob": _own_log_prob,
    "arithmetic": _arithmetic,
    "answer": _answer,
    "judge": _judge,
    "ratio": _ratio,
    "ensemble": _ensemble,
}


def _class_of(folder: str) -> Any:
    """Return the class of the reward that a folder holds."""
    marker = next(name for name in FOLDERS if (Path(folder) / name).is_file())
    module, _, name = FOLDERS[marker].partition(":")
    return getattr(import_module(module), name)


def _runs_policy(named: NamedReward, settings: Settings) -> bool:
    """Return whether a reward runs the network of the policy while it scores."""
    is_judge = named.kind == "judge" and _is_policy(named.models[0], settings)
    return is_judge or named.kind == FOLDER


def _is_policy(name: str, settings: Settings) -> bool:
    """Return whether a model is the policy of the run, as that is loaded."""
    if name == POLICY:
        return True
    changed = (settings.adapter, settings.policy_revision, settings.reward_device)
    quantization, own = settings.reward_quantization, settings.quantization or "none"
    is_same = _place(name) == _place(_policy_name(settings)) and not any(changed)
    return is_same and quantization in (None, own)


def _policy_name(settings: Settings) -> str:
    policy = settings.policy
    return str(policy) if isinstance(policy, str | Path) else policy.name


def _place(name: str) -> str:
    """Return the path of a model that lies here, the name of another one."""
    return str(Path(name).resolve()) if Path(name).exists() else name
