"""The server of llama.cpp: `/completion` with ids in and out.

It takes the text of a stop word out of `content`, but leaves its ids in `tokens` and drops the
probabilities of its last tokens: log-probabilities of whole steps cannot be had.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from llmsmc.models.servers.answer import Answer, Count, TokenIds, parsed, unreadable
from llmsmc.models.servers.engine import Draw, Drawn
from llmsmc.models.text.stopping import EOS, LENGTH, STOP

_REASONS: Final = {"eos": EOS, "word": STOP, "limit": LENGTH}

# Its own defaults are not neutral; only the temperature is left of the samplers.
NEUTRAL: Final = {
    "samplers": ["temperature"],
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "dynatemp_range": 0.0,
    "repeat_penalty": 1.0,
    "repeat_last_n": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
    "xtc_probability": 0.0,
    "mirostat": 0,
    "n_probs": 0,
    "n_keep": 0,
    "ignore_eos": False,
    "cache_prompt": True,
    "return_tokens": True,
    "stream": False,
}


class _Timings(Answer):
    cache_n: Count | None = None


class _Drawn(Answer):
    tokens: TokenIds
    stop_type: Literal["eos", "word", "limit"]
    tokens_predicted: Count | None = None
    tokens_evaluated: Count | None = None
    timings: _Timings | None = None


@dataclass(frozen=True)
class LlamaCpp:
    """Requests and answers of llama.cpp."""

    path = "/completion"
    num_seeds = 2**32 - 1  # the last one stands for a random seed

    def body(self, draw: Draw) -> dict[str, Any]:
        """Return the request for a text; temperature 0 is greedy there."""
        return NEUTRAL | {
            "prompt": list(draw.prompt),
            "n_predict": draw.max_tokens,
            "temperature": float(draw.temperature),
            "seed": draw.seed,
            "stop": [] if draw.stop is None else [draw.stop],
        }

    def read(self, answer: Any) -> Drawn:
        """Return what the answer says."""
        found = parsed(_Drawn, answer, "llama.cpp")
        predicted, read = found.tokens_predicted or 0, found.tokens_evaluated or 0
        if predicted and not found.tokens:
            raise unreadable("llama.cpp", "it has no tokens", answer)
        timings = found.timings or _Timings()
        return Drawn(
            token_ids=tuple(found.tokens),
            reason=_REASONS[found.stop_type],
            log_probs=None,
            prompt_tokens=read,
            cached_tokens=min(timings.cache_n or 0, read),
            generated_tokens=predicted or len(found.tokens),
        )
