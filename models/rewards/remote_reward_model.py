"""A process reward model behind a vLLM server, in the place of one in this process.

The convention lays a solution out in ids here, as for a `RewardModel`. Scores come back in one of
two ways: of models with two labels, from the pooling of their tokens, a row for each position or
each marker; of models that are language models, as the log-probabilities of the two labels as the
next token behind each step, for which the server has what stands before cached.

Solutions that agree are scored once. One that the server does not score fails.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any, Final, Protocol, runtime_checkable

from pydantic import Field

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError, ServerError
from llmsmc.models.caches.rows import CacheHandle, CacheRows
from llmsmc.models.pretrained.loading import load_plain_tokenizer, resolve
from llmsmc.models.rewards.calibration import require_temperature
from llmsmc.models.rewards.conventions.convention import REMEMBERED, Convention, Layout
from llmsmc.models.rewards.conventions.recognition import (
    architecture_of,
    convention_class,
    made,
    named_convention,
)
from llmsmc.models.rewards.reward import (
    READINGS,
    Memoryless,
    Reading,
    Solution,
    Steps,
    checked_steps,
)
from llmsmc.models.servers.answer import Answer, Pair, parsed, unreadable
from llmsmc.models.servers.client import MAX_ANSWER_BYTES, TIMEOUT, Client
from llmsmc.models.servers.engine import Capabilities, LabelEngine
from llmsmc.models.servers.probe import probe
from llmsmc.registry import CONVENTIONS

POOLED: Final = ("qwen", "trl")
"""Conventions with two labels, which are read from pooled tokens."""


@runtime_checkable
class _Labelled(Protocol):
    """A convention of language models, in which two tokens are the labels."""

    @property
    def label_ids(self) -> tuple[int, int]: ...


class RemoteRewardModel(Memoryless):
    """A process reward model that a vLLM server runs.

    Attributes:
        name: of the model.
        address: of the server.
        capabilities: what the server can do, as found out when this was made.
        convention: the layout that it reads.
        calibration: the temperature by which log-odds are divided.
        context_length: number of tokens that a solution may have.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        convention: str | type[Convention] | None = None,
        *,
        tokenizer: str | None = None,
        calibration: float | int = 1.0,
        api_key: str | None = None,
        timeout: float | int = TIMEOUT,
        retry_for: float | int | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_connections: int = 64,
        **settings: Any,
    ) -> None:
        """Ask the server what it is, load the tokenizer, and have a solution scored.

        Args:
            base_url: the address, such as "http://localhost:8000/v1".
            model: its name on the server; not needed if that has a single one.
            convention: the layout on which the model was trained: "qwen" or "trl" of a server of
                pooling models (`--runner pooling`); "rlhflow", "math-shepherd" or "versa" of one
                that generates; None where config and tokenizer tell.
            tokenizer: the embedded name, folder or name on the hub of a checkpoint with the same
                tokenizer; by default the name of the model.
            calibration: a temperature by which log-odds are divided.
            api_key: sent to this address alone; shown nowhere and never written.
            timeout: seconds that one try may take, to the last byte of the answer.
            retry_for: seconds for which a request that gets no answer is tried again (600).
            max_answer_bytes: how large an answer may be, as it is sent and as it is unpacked.
            max_connections: number of requests under way at once.
            settings: of the convention, such as `separator=` of "trl".

        Raises:
            InputError: the convention cannot be read from this server.
            ServerError: nothing answers there.
        """
        require_temperature(calibration)
        if isinstance(convention, str):
            convention = named_convention(convention)
        self._client = Client(
            base_url,
            api_key=api_key,
            timeout=timeout,
            retry_for=retry_for,
            max_answer_bytes=max_answer_bytes,
            max_connections=max_connections,
        )
        found = probe(self._client, model)
        self.address, self.name = self._client.root, found.model
        self.capabilities: Capabilities = found.capabilities
        self.calibration = calibration
        self.context_length = self.capabilities.context_length or 2**31
        source = resolve(self.name if tokenizer is None else tokenizer)
        loaded = load_plain_tokenizer(source)
        chosen = convention_class(convention, architecture_of(source), loaded, source)
        self.convention = made(chosen, loaded, settings)
        self._reading = self._chosen_reading(found.engine)
        self._layout = lru_cache(REMEMBERED)(self.convention.layout)
        self.score("1 + 1", ["2"])

    def __repr__(self) -> str:
        """Show which model it is, and where."""
        return f"RemoteRewardModel({self.address!r}, {self.name!r})"

    def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        self._client.close()

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the probability that each step is right.

        Raises:
            InputError: a step is blank, or the solution does not fit into the context.
            ServerError: the server does not score it.
        """
        read = checked_steps(steps)
        if not read:
            return []
        layout = self._layout(question, read)
        self._check_length(len(layout.ids))
        (scores,), _ = self._asked([(layout, len(read))])
        if isinstance(scores, ServerError):
            raise scores
        return [1 / (1 + math.exp(-value)) if value > -700 else 0.0 for value in scores]

    def check(self, question: str) -> None:
        """Raise `InputError` if the question cannot be read, or leaves no room for a step."""
        self._check_length(len(self._layout(question, ()).ids) + 1)

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether these steps can be scored within the context."""
        return len(self._layout(question, READINGS[reading](steps)).ids) <= self.context_length

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float] | ServerError], CacheHandle, Cost]:
        """Return the log-odds of the new steps; see `llmsmc.models.rewards.reward.Reward`.

        Raises:
            ServerError: the server scores none of the solutions.
        """
        begun = time.perf_counter()
        jobs: dict[Solution, tuple[Layout, int]] = {}
        for solution in solutions:
            if solution.new and solution not in jobs:
                read = READINGS[reading](solution.steps)
                jobs[solution] = (
                    self._layout(question, read),
                    min(len(solution.new), len(read)),
                )
        answers, cost = self._asked(list(jobs.values()))
        errors = [answer for answer in answers if isinstance(answer, ServerError)]
        if errors and len(errors) == len(answers):
            raise errors[0]
        known = dict(zip(jobs, answers, strict=True))
        log_odds = [known.get(solution, []) for solution in solutions]
        cost += Cost.of_failures(each for each in log_odds if isinstance(each, ServerError))
        cost += Cost(reward_seconds=time.perf_counter() - begun)
        return log_odds, CacheRows.none(len(solutions)), cost

    def _asked(
        self, jobs: Sequence[tuple[Layout, int]]
    ) -> tuple[list[list[float] | ServerError], Cost]:
        """Return the log-odds of the last steps of each layout, or why there are none."""
        requests = [self._reading.requests(layout, count) for layout, count in jobs]
        asked = [each for job in requests for each in job]
        answers = iter(
            self._client.post_all(
                self._reading.path, [body for body, _ in asked], [read for _, read in asked]
            )
        )
        results: list[list[float] | ServerError] = []
        cost = Cost(model_calls=len(asked))
        for (layout, _), job in zip(jobs, requests, strict=True):
            own = [next(answers) for _ in job]
            cost += Cost(scored_tokens=len(layout.ids), reward_positions=len(layout.ids))
            error = next((answer for answer in own if isinstance(answer, ServerError)), None)
            scores = [value for answer in own if isinstance(answer, list) for value in answer]
            results.append(error or [value / self.calibration for value in scores])
        return results, cost

    def _chosen_reading(self, engine: Any) -> "_Pooled | _Labels":
        """Return how the convention is read from this server.

        Raises:
            InputError: it cannot be.
        """
        found = self.capabilities
        if isinstance(self.convention, _Labelled):
            if found.label_scores and isinstance(engine, LabelEngine):
                self.context_length -= 1  # the token that is drawn has a place, too
                return _Labels(engine, self.convention.label_ids)
            needs = "the log-probabilities of named tokens (logprob_token_ids)"
        elif type(self.convention) in [CONVENTIONS[name] for name in POOLED]:
            if found.engine == "vllm" and not found.token_ids:
                return _Pooled(self.name)
            needs = "pooled tokens: vLLM with --runner pooling"
        else:
            raise InputError(
                "A server gives labels, not values. Got the convention "
                f"{type(self.convention).__name__}; accepted: qwen, trl, rlhflow, math-shepherd "
                "and versa, or a RewardModel in this process."
            )
        raise InputError(
            f"The server does not give what {type(self.convention).__name__} reads. Got "
            f"{found.engine} at {self.address}; accepted: one with {needs}."
        )

    def _check_length(self, length: int) -> None:
        if length > self.context_length:
            raise InputError(
                f"The solution does not fit into the context of {self.name}. Got {length} tokens; "
                f"accepted: {self.context_length} at most."
            )


_Read = Callable[[Any], list[float]]
"""From an answer to log-odds."""


class _Position(Answer):
    data: Annotated[list[Pair], Field(fail_fast=True)]


class _Pooling(Answer):
    data: Annotated[list[_Position], Field(min_length=1)]


@dataclass(frozen=True)
class _Pooled:
    """Two labels at each position, or at each marker, by `/pooling`."""

    model: str

    path = "/pooling"

    def requests(self, layout: Layout, count: int) -> list[tuple[dict[str, Any], _Read]]:
        """Return one request; logits are asked for, in which nothing saturates."""
        body = {
            "model": self.model,
            "input": list(layout.ids),
            "task": "token_classify",
            "use_activation": False,
            "encoding_format": "float",
        }
        return [(body, partial(self._log_odds, layout=layout, count=count))]

    def _log_odds(self, answer: Any, layout: Layout, count: int) -> list[float]:
        """Return the difference of the logits of the last `count` steps."""
        rows = parsed(_Pooling, answer, "vLLM").data[0].data
        if len(rows) == len(layout.ids):
            rows = [rows[place] for place in layout.reads]
        if len(rows) != len(layout.reads):
            marker = layout.ids[layout.reads[0]]
            cause = (
                f"it has {len(rows)} scores for {len(layout.reads)} steps; is the server started "
                f"with --pooler-config '{{\"step_tag_id\": {marker}}}'?"
            )
            raise unreadable("vLLM", cause, rows)
        return [good - bad for bad, good in rows[-count:]]


@dataclass(frozen=True)
class _Labels:
    """The log-probabilities of two tokens as the next one, behind each step."""

    engine: LabelEngine
    label_ids: tuple[int, int]

    @property
    def path(self) -> str:
        """Where requests go."""
        return self.engine.path

    def requests(self, layout: Layout, count: int) -> list[tuple[dict[str, Any], _Read]]:
        """Return one request for each of the last `count` steps."""
        return [
            (self.engine.label_body(layout.ids[: place + 1], self.label_ids), self._log_odds)
            for place in layout.reads[-count:]
        ]

    def _log_odds(self, answer: Any) -> list[float]:
        """Return the difference of the log-probabilities, which is that of the logits."""
        good, bad = self.engine.read_labels(answer, self.label_ids)
        return [good - bad]
