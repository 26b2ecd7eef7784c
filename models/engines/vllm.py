"""vLLM: `/v1/completions` with ids in and out.

With the settings of its command line as they are, log-probabilities are those at temperature 1,
before any truncation ("raw"); with `--logprobs-mode processed_logprobs` those at the temperature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmsmc.models.engines.completion import only_choice, token_counts
from llmsmc.models.engines.engine import Draw, Drawn, unreadable
from llmsmc.models.policies.stopping import EOS, LENGTH, STOP

# What would change the law if the server filled it in from its own defaults or the checkpoint's.
NEUTRAL: Final = {
    "n": 1,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_tokens": 0,
    "ignore_eos": False,
    "stop_token_ids": [],
    "logit_bias": None,
    "echo": False,
    "stream": False,
    "add_special_tokens": False,
}


@dataclass(frozen=True)
class Vllm:
    """Requests and answers of vLLM.

    Attributes:
        model: the name under which the model is served.
    """

    model: str

    path = "/v1/completions"
    num_seeds = 2**53

    def body(self, draw: Draw) -> dict[str, Any]:
        """Return the request for a text."""
        return NEUTRAL | {
            "model": self.model,
            "prompt": list(draw.prompt),
            "max_tokens": draw.max_tokens,
            "temperature": float(draw.temperature),
            "seed": draw.seed,
            "stop": [] if draw.stop is None else [draw.stop],
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "logprobs": 0,
            "return_token_ids": True,
        }

    def read(self, answer: Any) -> Drawn:
        """Return what the answer says; no stop reason is an end only if nothing was cut off."""
        choice = only_choice("vLLM", answer)
        ids = choice.get("token_ids")
        if not isinstance(ids, list):
            raise unreadable("vLLM", choice, "it has no token_ids")
        finish, stop = choice.get("finish_reason"), choice.get("stop_reason")
        if finish not in ("stop", "length"):
            raise unreadable("vLLM", choice, f"the text ended by {finish!r}")
        reason = LENGTH if finish == "length" else STOP if isinstance(stop, str) else EOS
        log_probs = (choice.get("logprobs") or {}).get("token_logprobs")
        complete = tuple(log_probs) if log_probs and len(log_probs) == len(ids) else None
        return Drawn(tuple(ids), reason, complete, *token_counts(answer, generated=len(ids)))

    def label_body(
        self, prompt: Sequence[int], labels: Sequence[int], temperature: float = 1.0
    ) -> dict[str, Any]:
        """Return the request for the log-probabilities of the labels as the next token."""
        draw = Draw(tuple(prompt), 1, temperature, 0)
        return self.body(draw) | {
            "logprobs": 1,
            "logprob_token_ids": list(labels),
            "return_tokens_as_token_ids": True,
        }

    def read_labels(self, answer: Any, labels: Sequence[int]) -> list[float]:
        """Return the log-probabilities of the labels."""
        choice = only_choice("vLLM", answer)
        table = (choice.get("logprobs") or {}).get("top_logprobs") or [{}]
        found = [table[0].get(f"token_id:{label}") for label in labels]
        if None in found:
            raise unreadable("vLLM", choice, "it has no log-probabilities of the named tokens")
        return [float(value) for value in found]

    def score_body(self, ids: Sequence[int]) -> dict[str, Any]:
        """Return the request for the log-probability of each id of a prompt."""
        return self.body(Draw(tuple(ids), 1, 1.0, 0)) | {"prompt_logprobs": 0}

    def read_scores(self, answer: Any, ids: Sequence[int]) -> list[float]:
        """Return the log-probabilities of all ids but the first."""
        choice = only_choice("vLLM", answer)
        table = choice.get("prompt_logprobs") or []
        if len(table) != len(ids):
            raise unreadable("vLLM", choice, "it does not score the prompt")
        return [
            float(scores[str(id)]["logprob"]) for id, scores in zip(ids[1:], table[1:], strict=True)
        ]
