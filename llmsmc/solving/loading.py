"""The models of the settings, loaded: in this process, or reached behind a server."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from llmsmc.errors import InputError
from llmsmc.inference import Algorithm
from llmsmc.models import LanguageModel, RewardModel
from llmsmc.models.batching.shared import SharedReward, share_policy
from llmsmc.models.policies.llama_cpp_model import LlamaCppModel
from llmsmc.models.policies.local_language_model import LocalLanguageModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.rewards.reward import Reward
from llmsmc.models.rewards.reward_function import as_reward
from llmsmc.models.servers.address import same_server
from llmsmc.models.servers.key import checked_key
from llmsmc.solving.reward_loading import Parts, load_named
from llmsmc.solving.reward_notation import is_address
from llmsmc.solving.settings import Settings

Keys = Callable[[Settings, str], str | None]
"""From the settings and "policy" or "reward" to the key of the server that it runs on."""

_OPENAI: Final = "https://api.openai.com/v1"


def given_key(settings: Settings, role: str) -> str | None:
    """Return the key of a server that the owner of the keys has named; None if there is none.

    Keys are read from the environment only, and each belongs to one address. `named_key` comes
    first, then LLMSMC_POLICY_API_KEY and LLMSMC_REWARD_API_KEY, then LLMSMC_API_KEY, which belongs
    to the policy if the policy is on a server, and to the reward otherwise.
    """
    key = named_key(settings, role) or _variable(f"LLMSMC_{role.upper()}_API_KEY")
    if key is not None:
        return key
    address = str(getattr(settings, role))
    first = str(settings.policy) if is_address(settings.policy) else address
    return _variable("LLMSMC_API_KEY") if same_server(first, address) else None


def named_key(settings: Settings, role: str) -> str | None:
    """Return the key of a server that a file may have named: one that is said to be for there.

    LLMSMC_API_KEYS has ADDRESS=KEY for each, with blanks between them. OPENAI_API_KEY is the key of
    the address of OpenAI.

    Raises:
        InputError: LLMSMC_API_KEYS has something else in it.
    """
    address = str(getattr(settings, role))
    for number, entry in enumerate(os.environ.get("LLMSMC_API_KEYS", "").split(), start=1):
        place, _, key = entry.partition("=")
        if not is_address(place) or not key:
            raise InputError(
                "LLMSMC_API_KEYS has an address and its key, with = between them, for each server. "
                f"Got something else as number {number}; accepted: http://host:port/v1=KEY."
            )
        if same_server(place, address):
            return key
    return _variable("OPENAI_API_KEY") if same_server(address, _OPENAI) else None


def _variable(name: str) -> str | None:
    """Return the key in a variable of the environment; None where that is missing or blank."""
    text = os.environ.get(name, "")
    try:
        return checked_key(text) if text.strip() else None
    except InputError as error:
        raise InputError(f"{name} cannot be used. {error}") from None


def load_policy(settings: Settings, key: Keys = given_key) -> Policy:
    """Return the language model of the settings, loaded; `key` finds the key of its server."""
    if not isinstance(settings.policy, str | Path):
        return settings.policy
    if is_address(settings.policy):
        from llmsmc.models import RemoteLanguageModel

        return RemoteLanguageModel(
            str(settings.policy),
            settings.policy_model,
            tokenizer=settings.policy_tokenizer,
            api_key=key(settings, "policy"),
            **_limits(settings),
        )
    return _language_model(settings, settings.quantization)


def _limits(settings: Settings) -> dict[str, Any]:
    """Return the limits of time and size for a server, as far as they are set."""
    said = {
        "timeout": settings.request_seconds,
        "retry_for": settings.retry_seconds,
        "max_answer_bytes": settings.max_answer_bytes,
    }
    return {name: value for name, value in said.items() if value is not None}


def load_reward(
    settings: Settings,
    key: Keys = given_key,
    *,
    policy: Policy | None = None,
    answers: Mapping[str, str] | None = None,
) -> Reward:
    """Return the reward of the settings, loaded.

    Args:
        settings: the settings.
        key: finds the key of its server.
        policy: the policy, loaded, of which some rewards are made.
        answers: the right answer of each question, for the reward `answer`.

    Raises:
        InputError: it cannot be loaded.
    """
    reward, named = settings.reward_or_default, settings.named_reward
    if named is None:
        assert reward is not None and not isinstance(reward, str | Path), "see check_reward"
        if settings.reward_calibration != 1:
            raise InputError(
                "Only a reward model that is loaded by its name is calibrated so. Got "
                f"reward_calibration={settings.reward_calibration!r}; accepted: the name of a "
                "reward model, or RewardModel(..., calibration=)."
            )
        return as_reward(reward)
    network = partial(_reward_model, settings, key)
    return load_named(named, Parts(settings, network, policy, answers or {}))


def _reward_model(settings: Settings, key: Keys, name: str) -> Reward:
    """Return the process reward model of that name, loaded."""
    if is_address(name):
        from llmsmc.models import RemoteRewardModel

        return RemoteRewardModel(
            name,
            settings.reward_model,
            settings.reward_convention,
            tokenizer=settings.reward_tokenizer,
            calibration=settings.reward_calibration,
            api_key=key(_on_server(settings, name), "reward"),
            **_limits(settings),
        )
    return RewardModel.from_pretrained(
        name,
        settings.reward_convention,
        device=settings.reward_device or settings.device,
        dtype=settings.dtype,
        quantization=settings.reward_quantization,
        calibration=settings.reward_calibration,
    )


def _on_server(settings: Settings, address: str) -> Settings:
    """Return the settings with a reward on that server, and without the rest of an ensemble."""
    if settings.reward == address:
        return settings
    return replace(settings, reward=address, reward_quantization=None, reward_device=None)


def check_proposal(settings: Settings) -> None:
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
    check_proposal(settings)
    return _language_model(settings, settings.proposal)


def _language_model(settings: Settings, quantization: str | None) -> LocalLanguageModel:
    assert isinstance(settings.policy, str | Path), "checked by check_proposal"
    if settings.computed_by == "llama-cpp" and quantization in (None, "none"):
        return LlamaCppModel.from_pretrained(settings.policy, chat_template=settings.chat_template)
    return LanguageModel.from_pretrained(
        settings.policy,
        quantization=quantization,
        device=settings.device,
        dtype=settings.dtype,
        double_quantization=settings.double_quantization and quantization in ("nf4", "fp4"),
        device_map=settings.device_map,
        adapter=settings.adapter,
        revision=settings.policy_revision,
        chat_template=settings.chat_template,
    )


def loaded(
    settings: Settings, algorithm: Algorithm, answers: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings with the models that the algorithm needs in place of their names.

    A reward that is not made of the policy is loaded before it.

    Args:
        settings: the settings.
        algorithm: the algorithm.
        answers: the right answer of each question, for the reward `answer`.
    """
    if algorithm.needs_proposal:
        settings = replace(settings, proposal=load_proposal(settings))
    weighs = algorithm.needs_reward and has_reward(settings)
    named = settings.named_reward
    reads_policy = named is not None and named.reads_policy
    reward = None
    if weighs and not reads_policy:
        reward = load_reward(settings, answers=answers)
    policy = load_policy(settings)
    if weighs and reads_policy:
        reward = load_reward(settings, policy=policy, answers=answers)
    if reward is not None:
        settings = with_reward(settings, reward)
    return replace(settings, policy=policy)


def has_reward(settings: Settings) -> bool:
    """Return whether there is a reward at all, for an algorithm that asks for one."""
    named = settings.named_reward
    return named is None or named.kind != "none"


def with_reward(settings: Settings, reward: Reward) -> Settings:
    """Return the settings with a reward that is loaded, and how it was loaded left out."""
    return replace(settings, reward=reward, reward_calibration=1.0)


def shared(settings: Settings, tokens_meanwhile: int = 0) -> Settings:
    """Return the settings with models that runs can share in place of the loaded models.

    For `tokens_meanwhile` see `SharedReward`.
    """
    policy, proposal, reward = settings.policy, settings.proposal, settings.reward
    if not isinstance(policy, str | Path):
        settings = replace(settings, policy=share_policy(policy))
    if not isinstance(proposal, str):
        settings = replace(settings, proposal=share_policy(proposal))
    if reward is not None and not isinstance(reward, str | Path):
        own = SharedReward(as_reward(reward), tokens_meanwhile=tokens_meanwhile)
        settings = replace(settings, reward=own)
    return settings
