"""vLLM: `/v1/completions` with ids in and out.

With the settings of its command line as they are, log-probabilities are those at temperature 1,
before any truncation ("raw"); with `--logprobs-mode processed_logprobs` those at the temperature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from llmsmc.models.servers.answer import (
    Answer,
    LogProb,
    LogProbs,
    TokenIds,
    at_most_certain,
    parsed,
    unreadable,
)
from llmsmc.models.servers.completion import Usage, token_counts
from llmsmc.models.servers.engine import Draw, Drawn
from llmsmc.models.text.stopping import EOS, LENGTH, STOP

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


class _LogProbs(Answer):
    token_logprobs: LogProbs | None = None


class _TopLogProbs(Answer):
    top_logprobs: list[dict[str, LogProb] | None]


class _Scored(Answer):
    logprob: LogProb


class _Choice(Answer):
    token_ids: TokenIds
    finish_reason: Literal["stop", "length"]
    stop_reason: int | str | None = None
    logprobs: _LogProbs | None = None


class _Labelled(Answer):
    logprobs: _TopLogProbs


class _ScoredPrompt(Answer):
    prompt_logprobs: Annotated[list[dict[str, _Scored] | None], Field(fail_fast=True)]


class _Drawn(Answer):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Usage | None = None


class _Labels(Answer):
    choices: Annotated[list[_Labelled], Field(min_length=1)]


class _Scores(Answer):
    choices: Annotated[list[_ScoredPrompt], Field(min_length=1)]


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
        found = parsed(_Drawn, answer, "vLLM")
        choice = found.choices[0]
        ids, said = tuple(choice.token_ids), choice.logprobs or _LogProbs()
        reason = STOP if isinstance(choice.stop_reason, str) else EOS
        reason = LENGTH if choice.finish_reason == "length" else reason
        return Drawn(
            ids,
            reason,
            at_most_certain(said.token_logprobs or ()) or None,
            *token_counts(found.usage, generated=len(ids)),
        )

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
        said = parsed(_Labels, answer, "vLLM").choices[0].logprobs
        found = (said.top_logprobs[0] if said.top_logprobs else None) or {}
        names = [f"token_id:{label}" for label in labels]
        if not set(names) <= set(found):
            cause = "it has no log-probabilities of the named tokens"
            raise unreadable("vLLM", cause, found)
        return list(at_most_certain(found[name] for name in names))

    def score_body(self, ids: Sequence[int]) -> dict[str, Any]:
        """Return the request for the log-probability of each id of a prompt."""
        return self.body(Draw(tuple(ids), 1, 1.0, 0)) | {"prompt_logprobs": 0}

    def read_scores(self, answer: Any, ids: Sequence[int]) -> list[float]:
        """Return the log-probabilities of all ids but the first."""
        table = parsed(_Scores, answer, "vLLM").choices[0].prompt_logprobs
        wanted = list(zip(map(str, ids[1:]), table[1:], strict=False))
        if len(table) != len(ids) or not all(row and id in row for id, row in wanted):
            raise unreadable("vLLM", "it does not score the prompt", table)
        return list(at_most_certain(row[id].logprob for id, row in wanted if row))
