"""State-space models: reasoning with its policies and rewards, models of numbers, Pyro programs."""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports

if TYPE_CHECKING:
    from llmsmc.models.batching.shared import SharedLanguageModel as SharedLanguageModel
    from llmsmc.models.batching.shared import SharedReward as SharedReward
    from llmsmc.models.policies.language_model import LanguageModel as LanguageModel
    from llmsmc.models.policies.llama_cpp_model import LlamaCppModel as LlamaCppModel
    from llmsmc.models.policies.remote_language_model import (
        RemoteLanguageModel as RemoteLanguageModel,
    )
    from llmsmc.models.pyro.pyro_model import PyroModel as PyroModel
    from llmsmc.models.pyro.to_pyro import to_pyro as to_pyro
    from llmsmc.models.reasoning.model import Reasoning as Reasoning
    from llmsmc.models.rewards.calibration import fit_temperature as fit_temperature
    from llmsmc.models.rewards.generative_judge import GenerativeJudge as GenerativeJudge
    from llmsmc.models.rewards.implicit_reward import ImplicitReward as ImplicitReward
    from llmsmc.models.rewards.remote_reward_model import RemoteRewardModel as RemoteRewardModel
    from llmsmc.models.rewards.reward_ensemble import RewardEnsemble as RewardEnsemble
    from llmsmc.models.rewards.reward_function import RewardFunction as RewardFunction
    from llmsmc.models.rewards.reward_model import RewardModel as RewardModel
    from llmsmc.models.state_space.hidden_markov import HiddenMarkov as HiddenMarkov
    from llmsmc.models.state_space.linear_gaussian import LinearGaussian as LinearGaussian
    from llmsmc.models.state_space.stochastic_volatility import (
        StochasticVolatility as StochasticVolatility,
    )
    from llmsmc.models.state_space.tabular_language_model import (
        TabularLanguageModel as TabularLanguageModel,
    )
    from llmsmc.models.text.constraint import WithoutText as WithoutText
    from llmsmc.models.text.constraint import WithoutTokens as WithoutTokens
    from llmsmc.models.text.fences import OutsideFences as OutsideFences
    from llmsmc.models.text.regular_expression import RegularExpression as RegularExpression
    from llmsmc.models.text.stopping import WholeAnswer as WholeAnswer
    from llmsmc.models.text.thinking import Thinking as Thinking

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "llmsmc.models.rewards.calibration": ["fit_temperature"],
        "llmsmc.models.text.constraint": ["WithoutText", "WithoutTokens"],
        "llmsmc.models.rewards.generative_judge": ["GenerativeJudge"],
        "llmsmc.models.state_space.hidden_markov": ["HiddenMarkov"],
        "llmsmc.models.rewards.implicit_reward": ["ImplicitReward"],
        "llmsmc.models.policies.language_model": ["LanguageModel"],
        "llmsmc.models.policies.llama_cpp_model": ["LlamaCppModel"],
        "llmsmc.models.state_space.linear_gaussian": ["LinearGaussian"],
        "llmsmc.models.pyro.pyro_model": ["PyroModel"],
        "llmsmc.models.reasoning.model": ["Reasoning"],
        "llmsmc.models.text.fences": ["OutsideFences"],
        "llmsmc.models.text.regular_expression": ["RegularExpression"],
        "llmsmc.models.policies.remote_language_model": ["RemoteLanguageModel"],
        "llmsmc.models.rewards.remote_reward_model": ["RemoteRewardModel"],
        "llmsmc.models.rewards.reward_ensemble": ["RewardEnsemble"],
        "llmsmc.models.rewards.reward_function": ["RewardFunction"],
        "llmsmc.models.rewards.reward_model": ["RewardModel"],
        "llmsmc.models.batching.shared": ["SharedLanguageModel", "SharedReward"],
        "llmsmc.models.state_space.stochastic_volatility": ["StochasticVolatility"],
        "llmsmc.models.text.stopping": ["WholeAnswer"],
        "llmsmc.models.state_space.tabular_language_model": ["TabularLanguageModel"],
        "llmsmc.models.text.thinking": ["Thinking"],
        "llmsmc.models.pyro.to_pyro": ["to_pyro"],
    },
)
