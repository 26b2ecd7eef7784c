"""What every language model in this process does, whatever computes its logits.

Token ids are the state. Steps are drawn in a loop of our own, from the softmax at the temperature
asked for and from nothing else: what a checkpoint's generation settings say about top-k, penalties
and the like would change the law, and is not read. For each token the log-probability at
temperature 1 is recorded, and that under the law which was sampled.

Shapes: B rows, L generated tokens, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmsmc.core.cost import Cost
from llmsmc.models.caches.prefix_cache import PrefixCache
from llmsmc.models.caches.rows import Rows
from llmsmc.models.policies.decoding.requests import (
    ScoreRequest,
    StepRequest,
    StepTokens,
    TokenScores,
)
from llmsmc.models.policies.decoding.step_batch import StepBatch
from llmsmc.models.policies.decoding.token_scoring import score
from llmsmc.models.policies.policy import Demands
from llmsmc.models.pretrained.loading import context_length
from llmsmc.models.text.chat import MIN_SHARED, Prompt, prompt_ids, shared_beginning
from llmsmc.models.text.thinking import Thinking
from llmsmc.models.text.vocabulary import TokenizerVocabulary, eos_ids_of


class LocalLanguageModel(ABC):
    """A causal language model in this process, with its tokenizer.

    Attributes:
        tokenizer: its tokenizer, which must have a chat template.
        name: where it came from.
        quantization: how its weights were quantised when they were loaded, or None.
        stored: the precision of the weights in the GGUF file that it was read from, such as
            "Q4_K_M"; None for other files.
        device: the device on which the model runs.
        vocab_size: the number of ids that it knows.
        context_length: the number of positions it is built for.
        eos_ids: the ids that end a text.
        tokens: its vocabulary.
        prefixes: what it has computed of the beginnings that prompts share.
    """

    masks = True
    whole_answers_only = False

    def __init__(
        self,
        config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        device: torch.device,
        ends: Iterable[Any] = (),
        weights: nn.Module | None = None,
        quantization: str | None = None,
        stored: str | None = None,
    ) -> None:
        """Take what is known of a model.

        Args:
            config: its configuration.
            tokenizer: its tokenizer.
            name: where it came from.
            device: where it runs.
            ends: what names ids that end a text, besides these two.
            weights: weights that may change while it is used.
            quantization: see the class.
            stored: see the class.
        """
        self.tokenizer, self.name = tokenizer, name
        self.quantization, self.stored = quantization, stored
        self.device = device
        self.vocab_size = int(config.get_text_config().vocab_size)
        self.context_length = context_length(config)
        self.eos_ids = eos_ids_of(config, *ends, tokenizer)
        self.tokens = TokenizerVocabulary(tokenizer, self.vocab_size, device, self.eos_ids)
        self.prefixes = PrefixCache(weights or nn.Module(), self._prefix)
        self._shared_beginning = lru_cache(maxsize=8)(partial(shared_beginning, tokenizer))

    @property
    @abstractmethod
    def precision(self) -> str:
        """The precision of the computation, and that of the weights where it is another one."""

    @property
    @abstractmethod
    def weight_bytes(self) -> int:
        """The memory of the weights."""

    @abstractmethod
    def new_rows(self, num_rows: int) -> Rows:
        """Return so many empty rows; see `llmsmc.models.policies.decoding.requests.Network`."""

    @abstractmethod
    def forward(
        self,
        cache: Any,
        input_ids: Int[Tensor, "B q"],
        counts: Int[Tensor, " B"] | None = None,
        num_logits: int = 1,
        *,
        reads: bool = False,
    ) -> tuple[Float[Tensor, "B k V"], list[Float[Tensor, "B k D"]]]:
        """Extend rows, and return the logits behind the last k = `num_logits` of q new tokens.

        See `llmsmc.models.policies.decoding.requests.Network`.
        """

    @abstractmethod
    def log_probs(
        self, prompt_ids: Iterable[int], token_ids: Iterable[int]
    ) -> Float64[Tensor, " L"]:
        """Return log p of each id given what stands before it, in one pass.

        With an empty prompt the first id has nothing before it and only conditions the others.
        """

    def check(self, demands: Demands) -> None:  # noqa: B027 - nothing is refused
        """Accept everything that can be asked of a language model."""

    def prompt_ids(
        self, question: str, system: str | None = None, thinking: Thinking | None = None
    ) -> tuple[int, ...]:
        """Return the ids of the chat that asks the question, up to where the answer begins.

        Templates that can are told whether the policy is to think before it answers. A long
        beginning that the prompts of all questions share is marked, and computed only once.

        Raises:
            InputError: the question is empty, has characters that the tokenizer does not know,
                or leaves no room for an answer.
        """
        ids = prompt_ids(self.tokenizer, question, system, self.context_length, self.name, thinking)
        if len(ids) <= MIN_SHARED:
            return ids
        shared = self._shared_beginning(system, thinking)
        # The last id is fed with what follows it.
        is_shared = MIN_SHARED <= len(shared) < len(ids) and ids[: len(shared)] == shared
        return Prompt(ids, len(shared)) if is_shared else ids

    def sample_step(self, request: StepRequest) -> tuple[StepTokens, Cost]:
        """Draw one step for each of B particles, and tell what it has cost.

        Raises:
            NumericalError: a logit is NaN.
        """
        batch = StepBatch(self)
        batch.join([request])
        while not (answers := batch.advance()):
            pass
        ((_, drawn),) = answers
        if isinstance(drawn, Exception):
            raise drawn
        return drawn

    def score_tokens(self, request: ScoreRequest) -> tuple[TokenScores, Cost]:
        """Score given tokens by teacher forcing, all of a row in one pass; tell what it has cost.

        Returns:
            The scores, in which the first token scored stands first, and the cost.

        Raises:
            NumericalError: a logit is NaN.
        """
        (answer,) = score(self, [request])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _prefix(self, ids: tuple[int, ...]) -> Rows:
        """Return a row of these ids, which nothing stands before."""
        row = self.new_rows(1)
        self.forward(row, torch.tensor([ids], device=self.device), num_logits=0)
        return row
