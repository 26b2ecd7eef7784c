"""What a server is asked, and what an engine makes of it.

An engine only translates: a request into the JSON body that its server understands, and the answer
into ids, log-probabilities and why the text ended. It sends nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

LogProbs = Literal["raw", "tempered"]
"""Which law log-probabilities are of: that at temperature 1, or that at the temperature."""


@dataclass(frozen=True)
class Draw:
    """What is asked for: a text behind a prompt.

    Attributes:
        prompt: ids.
        max_tokens: at which the text is cut off.
        temperature: of the softmax; 0 takes the most probable token.
        seed: of the random numbers.
        stop: a text with which it may end, None for none.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float | int
    seed: int
    stop: str | None = None


@dataclass(frozen=True)
class Drawn:
    """What came back.

    Attributes:
        token_ids: the text.
        reason: EOS, STOP or LENGTH of `llmsmc.models.text.stopping`.
        log_probs: of the ids, of the kind that the engine gives; None if it gives none.
        prompt_tokens: how many ids the server has read as the prompt.
        cached_tokens: how many of these it did not compute; 0 if it does not say.
        generated_tokens: how many ids it has drawn.
    """

    token_ids: tuple[int, ...]
    reason: int
    log_probs: tuple[float, ...] | None
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int


@dataclass(frozen=True)
class Capabilities:
    """What a server can do, as found out when it was first asked.

    Attributes:
        engine: what runs there: "vllm", "sglang", "llama.cpp" or "chat".
        version: of the engine, as far as it says.
        token_ids: whether it takes and gives ids, so that an answer can be continued.
        log_probs: which log-probabilities it gives of the tokens drawn; None for none.
        token_scores: whether it scores tokens that it is given, at temperature 1.
        label_scores: whether it gives the log-probabilities of tokens that are named.
        seeds: whether a seed repeats a text.
        context_length: how many tokens prompt and text may have; None if it does not say.
    """

    engine: str
    version: str = ""
    token_ids: bool = False
    log_probs: LogProbs | None = None
    token_scores: bool = False
    label_scores: bool = False
    seeds: bool = False
    context_length: int | None = None

    @property
    def whole_answers_only(self) -> bool:
        """Whether answers cannot be continued, since no ids go in and out."""
        return self.engine == "chat"

    def gives(self, kind: LogProbs, temperature: float | int) -> bool:
        """Return whether what it says is of this kind, or is the same at temperature 1."""
        return self.log_probs is not None and (self.log_probs == kind or temperature == 1)


@runtime_checkable
class Engine(Protocol):
    """How one kind of server is asked."""

    @property
    def path(self) -> str:
        """Where requests go, behind the address."""
        ...

    @property
    def num_seeds(self) -> int:
        """How many seeds there are: 0 up to one less than that."""
        ...

    def body(self, draw: Draw) -> dict[str, Any]:
        """Return the request for a text, every field that the law depends on in it."""
        ...

    def read(self, answer: Any) -> Drawn:
        """Return what the answer says.

        Raises:
            ServerError: it is not an answer to this request.
        """
        ...


@runtime_checkable
class LabelEngine(Engine, Protocol):
    """One that says how probable some tokens are as the next one."""

    def label_body(
        self, prompt: Sequence[int], labels: Sequence[int], temperature: float = 1.0
    ) -> dict[str, Any]:
        """Return the request for the log-probabilities of the labels behind a prompt."""
        ...

    def read_labels(self, answer: Any, labels: Sequence[int]) -> list[float]:
        """Return them, in the order of the labels."""
        ...


@runtime_checkable
class ScoringEngine(Engine, Protocol):
    """One that scores ids that it is given."""

    def score_body(self, ids: Sequence[int]) -> dict[str, Any]:
        """Return the request for the log-probability of each id, given those before it."""
        ...

    def read_scores(self, answer: Any, ids: Sequence[int]) -> list[float]:
        """Return them for all ids but the first, which has nothing before it."""
        ...
