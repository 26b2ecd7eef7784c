"""What is inferred: state-space models."""

from typing import TYPE_CHECKING

from llmsmc._lazy import lazy_exports

if TYPE_CHECKING:
    from llmsmc.models.calibration import fit_temperature as fit_temperature
    from llmsmc.models.constraint import WithoutText as WithoutText
    from llmsmc.models.constraint import WithoutTokens as WithoutTokens
    from llmsmc.models.generative_judge import GenerativeJudge as GenerativeJudge
    from llmsmc.models.hidden_markov import HiddenMarkov as HiddenMarkov
    from llmsmc.models.implicit_reward import ImplicitReward as ImplicitReward
    from llmsmc.models.language_model import LanguageModel as LanguageModel
    from llmsmc.models.linear_gaussian import LinearGaussian as LinearGaussian
    from llmsmc.models.pyro_model import PyroModel as PyroModel
    from llmsmc.models.reasoning import Reasoning as Reasoning
    from llmsmc.models.regular_expression import RegularExpression as RegularExpression
    from llmsmc.models.remote_language_model import RemoteLanguageModel as RemoteLanguageModel
    from llmsmc.models.remote_reward_model import RemoteRewardModel as RemoteRewardModel
    from llmsmc.models.reward_ensemble import RewardEnsemble as RewardEnsemble
    from llmsmc.models.reward_function import RewardFunction as RewardFunction
    from llmsmc.models.reward_model import RewardModel as RewardModel
    from llmsmc.models.shared import SharedLanguageModel as SharedLanguageModel
    from llmsmc.models.shared import SharedReward as SharedReward
    from llmsmc.models.stochastic_volatility import StochasticVolatility as StochasticVolatility
    from llmsmc.models.stopping import WholeAnswer as WholeAnswer
    from llmsmc.models.tabular_language_model import TabularLanguageModel as TabularLanguageModel
    from llmsmc.models.thinking import Thinking as Thinking
    from llmsmc.models.to_pyro import to_pyro as to_pyro

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "llmsmc.models.calibration": ["fit_temperature"],
        "llmsmc.models.constraint": ["WithoutText", "WithoutTokens"],
        "llmsmc.models.generative_judge": ["GenerativeJudge"],
        "llmsmc.models.hidden_markov": ["HiddenMarkov"],
        "llmsmc.models.implicit_reward": ["ImplicitReward"],
        "llmsmc.models.language_model": ["LanguageModel"],
        "llmsmc.models.linear_gaussian": ["LinearGaussian"],
        "llmsmc.models.pyro_model": ["PyroModel"],
        "llmsmc.models.reasoning": ["Reasoning"],
        "llmsmc.models.regular_expression": ["RegularExpression"],
        "llmsmc.models.remote_language_model": ["RemoteLanguageModel"],
        "llmsmc.models.remote_reward_model": ["RemoteRewardModel"],
        "llmsmc.models.reward_ensemble": ["RewardEnsemble"],
        "llmsmc.models.reward_function": ["RewardFunction"],
        "llmsmc.models.reward_model": ["RewardModel"],
        "llmsmc.models.shared": ["SharedLanguageModel", "SharedReward"],
        "llmsmc.models.stochastic_volatility": ["StochasticVolatility"],
        "llmsmc.models.stopping": ["WholeAnswer"],
        "llmsmc.models.tabular_language_model": ["TabularLanguageModel"],
        "llmsmc.models.thinking": ["Thinking"],
        "llmsmc.models.to_pyro": ["to_pyro"],
    },
)
