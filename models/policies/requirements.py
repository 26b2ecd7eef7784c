"""What a run asks of a language model, held to what the server of one can do."""

from llmsmc.errors import InputError
from llmsmc.models.policies.policy import Demands
from llmsmc.models.servers.engine import Capabilities
from llmsmc.models.text.stopping import WholeAnswer
from llmsmc.models.text.thinking import ThinkingRule


def require(demands: Demands, found: Capabilities, address: str) -> None:
    """Raise `InputError`, which names what the server lacks, if it cannot do what is asked."""
    rule, temperature = demands.rule, demands.temperature
    unmet: tuple[str, str] | None = None
    if isinstance(rule, ThinkingRule):
        unmet = (
            "what thinking takes: steps that end otherwise before its closing tag than behind it",
            "thinking=None, or a LanguageModel",
        )
    elif found.whole_answers_only and not isinstance(rule, WholeAnswer | None):
        unmet = (
            "token ids, and so cannot go on with an answer",
            "steps that are whole answers (step=WholeAnswer()), or vLLM, SGLang or llama.cpp",
        )
    elif rule is not None and not found.token_ids and not found.whole_answers_only:
        unmet = ("token ids of what it has drawn", "a newer one (vLLM: 0.10.2) that draws text")
    elif demands.log_probs and not found.gives("raw", temperature):
        unmet = (
            f"log-probabilities at temperature 1 of tokens drawn at temperature {temperature:g}",
            "temperature 1, on one that gives log-probabilities",
        )
    elif demands.transition_log_probs and not found.gives("tempered", temperature):
        unmet = (
            f"the density of its draws at temperature {temperature:g}",
            "temperature 1, or one that gives log-probabilities at the temperature (vLLM: "
            "--logprobs-mode processed_logprobs)",
        )
    elif demands.token_scores and not found.token_scores:
        unmet = ("log-probabilities of tokens that it is given", "vLLM")
    elif demands.token_scores and temperature != 1:
        unmet = (f"log-probabilities of given tokens at temperature {temperature:g}", "1")
    elif demands.token_scores and not found.gives("tempered", 1.0):
        unmet = ("the density of its draws", "vLLM with log-probabilities")
    if unmet is not None:
        raise missing(unmet[0], found, address, unmet[1])


def missing(what: str, found: Capabilities, address: str, accepted: str) -> InputError:
    """Return the error that names what a server lacks."""
    version = f" {found.version}" if found.version else ""
    return InputError(
        f"The server does not give {what}. Got {found.engine}{version} at {address}; accepted: "
        f"{accepted}."
    )
