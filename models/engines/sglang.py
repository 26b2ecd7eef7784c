"""SGLang: `/generate` with ids in and out.

Log-probabilities of drawn tokens are those at the temperature, before any truncation, unless the
server was told otherwise by its environment. A seed counts only on a server that was started with
`--enable-deterministic-inference`; on others it is ignored, and runs cannot be repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmsmc.models.engines.engine import Draw, Drawn, unreadable
from llmsmc.models.policies.stopping import EOS, LENGTH, STOP


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
        info = _info(answer)
        ids = answer.get("output_ids")
        finish = info.get("finish_reason") or {}
        if not isinstance(ids, list) or finish.get("type") not in ("stop", "length"):
            got = finish.get("message") or finish.get("type")
            raise unreadable("SGLang", answer, f"the text ended by {got!r}")
        stopped = finish["type"] == "stop"
        by_text = isinstance(finish.get("matched"), str)
        log_probs = [float(entry[0]) for entry in info.get("output_token_logprobs") or []]
        return Drawn(
            token_ids=tuple(ids),
            reason=LENGTH if not stopped else STOP if by_text else EOS,
            log_probs=tuple(log_probs) if ids and len(log_probs) == len(ids) else None,
            prompt_tokens=int(info.get("prompt_tokens") or 0),
            cached_tokens=int(info.get("cached_tokens") or 0),
            generated_tokens=int(info.get("completion_tokens") or len(ids)),
        )

    def label_body(
        self, prompt: Sequence[int], labels: Sequence[int], temperature: float = 1.0
    ) -> dict[str, Any]:
        """Return the request for the log-probabilities of the labels as the next token."""
        body = self.body(Draw(tuple(prompt), 1, temperature, 0))
        return body | {"token_ids_logprob": list(labels)}

    def read_labels(self, answer: Any, labels: Sequence[int]) -> list[float]:
        """Return the log-probabilities of the labels."""
        rows = _info(answer).get("output_token_ids_logprobs") or [[]]
        found = {int(entry[1]): float(entry[0]) for entry in rows[0] or []}
        if not set(labels) <= set(found):
            raise unreadable("SGLang", answer, "it has no log-probabilities of the named tokens")
        return [found[label] for label in labels]


def _info(answer: Any) -> dict[str, Any]:
    info = answer.get("meta_info") if isinstance(answer, dict) else None
    if not isinstance(info, dict):
        raise unreadable("SGLang", answer, "it has no meta_info")
    return info
