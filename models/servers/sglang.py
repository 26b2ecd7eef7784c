"""SGLang: `/generate` with ids in and out.

Log-probabilities of drawn tokens are those at the temperature, before any truncation, unless the
server was told otherwise by its environment. A seed counts only on a server that was started with
`--enable-deterministic-inference`; on others it is ignored, and runs cannot be repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from llmsmc.models.servers.answer import (
    Answer,
    Count,
    LogProb,
    TokenId,
    TokenIds,
    at_most_certain,
    parsed,
    unreadable,
)
from llmsmc.models.servers.engine import Draw, Drawn
from llmsmc.models.text.stopping import EOS, LENGTH, STOP

# A log-probability, its token, and the text of that.
_Entry = Annotated[tuple[LogProb, TokenId, Any], Field(strict=False)]
_Entries = Annotated[list[_Entry], Field(fail_fast=True)]


class _Finish(Answer):
    type: Literal["stop", "length"]
    matched: int | str | None = None


class _Info(Answer):
    finish_reason: _Finish
    output_token_logprobs: _Entries | None = None
    prompt_tokens: Count | None = None
    cached_tokens: Count | None = None
    completion_tokens: Count | None = None


class _Drawn(Answer):
    output_ids: TokenIds
    meta_info: _Info


class _LabelInfo(Answer):
    output_token_ids_logprobs: list[_Entries]


class _Labels(Answer):
    meta_info: _LabelInfo


@dataclass(frozen=True)
class SGLang:
    """Requests and answers of SGLang."""

    path = "/generate"
    num_seeds = 2**31

    def body(self, draw: Draw) -> dict[str, Any]:
        """Return the request for a text."""
        return {
            "input_ids": list(draw.prompt),
            "sampling_params": {
                "n": 1,
                "max_new_tokens": draw.max_tokens,
                "min_new_tokens": 0,
                "temperature": float(draw.temperature),
                "top_p": 1.0,
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "ignore_eos": False,
                "stop": [] if draw.stop is None else [draw.stop],
                "stop_token_ids": [],
                "no_stop_trim": True,
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
                "sampling_seed": draw.seed,
            },
            "return_logprob": True,
            "logprob_start_len": -1,
            "top_logprobs_num": 0,
            "stream": False,
        }

    def read(self, answer: Any) -> Drawn:
        """Return what the answer says."""
        found = parsed(_Drawn, answer, "SGLang")
        ids, info, finish = tuple(found.output_ids), found.meta_info, found.meta_info.finish_reason
        reason = STOP if isinstance(finish.matched, str) else EOS
        scored = info.output_token_logprobs or []
        if scored and tuple(id for _, id, _ in scored) != ids:
            cause = "its log-probabilities are of other tokens than it has drawn"
            raise unreadable("SGLang", cause, scored)
        read = info.prompt_tokens or 0
        return Drawn(
            token_ids=ids,
            reason=LENGTH if finish.type == "length" else reason,
            log_probs=at_most_certain(log_prob for log_prob, _, _ in scored) or None,
            prompt_tokens=read,
            cached_tokens=min(info.cached_tokens or 0, read),
            generated_tokens=info.completion_tokens or len(ids),
        )

    def label_body(
        self, prompt: Sequence[int], labels: Sequence[int], temperature: float = 1.0
    ) -> dict[str, Any]:
        """Return the request for the log-probabilities of the labels as the next token."""
        body = self.body(Draw(tuple(prompt), 1, temperature, 0))
        return body | {"token_ids_logprob": list(labels)}

    def read_labels(self, answer: Any, labels: Sequence[int]) -> list[float]:
        """Return the log-probabilities of the labels."""
        rows = parsed(_Labels, answer, "SGLang").meta_info.output_token_ids_logprobs
        found = {id: log_prob for log_prob, id, _ in (rows[0] if rows else [])}
        if not set(labels) <= set(found):
            cause = "it has no log-probabilities of the named tokens"
            raise unreadable("SGLang", cause, rows)
        return list(at_most_certain(found[label] for label in labels))
