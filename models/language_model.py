"""A language model as the transition of a state-space model: it appends one step to each particle.

Token ids are the state. The model draws them in a loop of its own, from its own softmax at the
temperature asked for and from nothing else: what a checkpoint's generation settings say about
top-k, penalties and the like would change the law, and is not read. For each token the
log-probability at temperature 1 is recorded, and that under the law which was sampled.

Shapes: B rows, L generated tokens, V vocabulary.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from llmsmc.cost import Cost
from llmsmc.errors import InputError
from llmsmc.models.cache_rows import CacheRows
from llmsmc.models.chat import chat_ids, checked_text, decode
from llmsmc.models.constraint import Constraint, TokenMask
from llmsmc.models.pretrained import Placement, context_length, load_tokenizer, resolve
from llmsmc.models.row_cache import RowCache
from llmsmc.models.sampling import UniformTable
from llmsmc.models.step_batch import StepBatch
from llmsmc.models.step_tokens import StepRequest, StepTokens
from llmsmc.models.stopping import StepAutomaton, StepRule
from llmsmc.models.token_pieces import token_pieces
from llmsmc.models.token_scoring import ScoreRequest, TokenScores, score

_CONTEXT_OF_DECODING = 4  # tokens before a step that decide how it begins as text


class LanguageModel:
    """A causal language model with its tokenizer.

    Attributes:
        model: the transformers model, in evaluation mode.
        tokenizer: its tokenizer, which must have a chat template.
        name: where it came from.
        quantization: how its weights are quantised, or None.
        context_length: number of positions it is built for.
        eos_ids: the ids that end a text.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "",
        quantization: str | None = None,
    ) -> None:
        """Take a model that is loaded already; `from_pretrained` is the usual way."""
        self.model, self.tokenizer = model, tokenizer
        self.name, self.quantization = name or type(model).__name__, quantization
        self.context_length = context_length(model.config)
        self.eos_ids = _eos_ids(model, tokenizer)
        self._pieces: list[bytes] | None = None
        self._automata: dict[StepRule, StepAutomaton] = {}
        self._masks: dict[Constraint, TokenMask] = {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        quantization: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> "LanguageModel":
        """Load a model by its embedded name, its folder, or its name on the hub.

        Args:
            name_or_path: "minimath-policy", "minimath-policy-small", a folder in the Hugging
                Face layout with safetensors weights, or a name on the hub.
            quantization: None (or "none"), "int8", "nf4" or "fp4", by bitsandbytes.
            device: by default the CUDA device if there is one, else the CPU.
            dtype: by default single precision on the CPU, else that of the checkpoint.

        Raises:
            InputError: there is no such model, or it cannot be used as it is.
        """
        source = resolve(name_or_path)
        placement = Placement(device, dtype, quantization)
        tokenizer = load_tokenizer(source)
        model = placement.load(AutoModelForCausalLM, source)
        loaded = cls(model, tokenizer, name=str(name_or_path), quantization=placement.quantized)
        placement.warm_up(lambda: loaded.log_probs([], [0, 0]))
        return loaded

    def __repr__(self) -> str:
        """Show what the model is."""
        return f"LanguageModel({self.name!r}, quantization={self.quantization!r})"

    @property
    def device(self) -> torch.device:
        """The device on which the model runs."""
        return self.model.device

    def prompt_ids(self, question: str, system: str | None = None) -> tuple[int, ...]:
        """Return the ids of the chat that asks the question, up to where the answer begins.

        Raises:
            InputError: the question is empty, has characters that the tokenizer does not know,
                or leaves no room for an answer.
        """
        question = checked_text(self.tokenizer, "question", question)
        messages = [{"role": "user", "content": question}]
        if system is not None:
            system = checked_text(self.tokenizer, "system prompt", system)
            messages.insert(0, {"role": "system", "content": system})
        ids = chat_ids(self.tokenizer, messages)
        if len(ids) >= self.context_length:
            raise InputError(
                f"The question does not fit into the context of {self.name}. Got {len(ids)} "
                f"tokens; accepted: fewer than {self.context_length}."
            )
        return ids

    def decode(self, token_ids: Iterable[int], after: Iterable[int] = ()) -> str:
        """Return the text of the ids, as it reads behind the ids `after`."""
        context = list(after)[-_CONTEXT_OF_DECODING:]
        text = decode(self.tokenizer, [*context, *token_ids])
        return text[len(decode(self.tokenizer, context)) :] if context else text

    def automaton(self, rule: StepRule) -> StepAutomaton:
        """Return the rule compiled for this vocabulary; compiled once."""
        if rule not in self._automata:
            self._automata[rule] = rule.automaton(self._token_pieces()).to(self.device)
        return self._automata[rule]

    def mask(self, constraint: Constraint) -> TokenMask:
        """Return the constraint compiled for this vocabulary; compiled once."""
        if constraint not in self._masks:
            automaton = constraint.automaton(self._token_pieces()).to(self.device)
            self._masks[constraint] = TokenMask.of(automaton)
        return self._masks[constraint]

    def log_probs(
        self, prompt_ids: Iterable[int], token_ids: Iterable[int]
    ) -> Float64[Tensor, " L"]:
        """Return log p of each id given what stands before it: one plain, uncached forward pass.

        With an empty prompt the first id has nothing before it and only conditions the others.
        """
        prompt, tokens = list(prompt_ids), list(token_ids)
        start = max(len(prompt), 1)
        ids = torch.tensor([prompt + tokens], device=self.device)
        if ids.shape[1] <= start:
            return torch.zeros(0, dtype=torch.float64)
        with torch.no_grad():
            logits = self.model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1]
        chosen = logits.float().log_softmax(-1).gather(-1, ids[0, start:, None])
        log_probs: Tensor = chosen.squeeze(-1).double().cpu()
        return log_probs

    def sample_step(
        self,
        prompt_ids: tuple[int, ...],
        token_ids: Int[Tensor, "B L"],
        num_tokens: Int[Tensor, " B"],
        memory: CacheRows,
        *,
        rule: StepRule,
        max_tokens: int,
        max_total_tokens: int | None = None,
        temperature: float | int = 1.0,
        uniforms: UniformTable | None = None,
        particles: Int[Tensor, " B"] | None = None,
        step: int = 0,
        constraint: Constraint | None = None,
    ) -> tuple[StepTokens, Cost]:
        """Draw one step for each of B rows, and tell what it has cost.

        The arguments are the fields of `StepRequest`.

        Raises:
            NumericalError: a logit is NaN.
        """
        request = StepRequest(
            prompt_ids,
            token_ids,
            num_tokens,
            memory,
            rule,
            max_tokens,
            max_total_tokens,
            temperature,
            uniforms,
            particles,
            step,
            constraint,
        )
        return StepBatch(self).run(request)

    def score_tokens(
        self,
        prompt_ids: tuple[int, ...],
        token_ids: Int[Tensor, "B L"],
        num_tokens: Int[Tensor, " B"],
        starts: Int[Tensor, " B"],
        memory: CacheRows,
        *,
        temperature: float | int = 1.0,
    ) -> tuple[TokenScores, Cost]:
        """Score given tokens by teacher forcing, all of a row in one pass; tell what it has cost.

        The arguments are the fields of `ScoreRequest`.

        Returns:
            The scores, in which the first token scored stands first, and the cost.

        Raises:
            NumericalError: a logit is NaN.
        """
        request = ScoreRequest(prompt_ids, token_ids, num_tokens, starts, memory, temperature)
        (answer,) = score(self, [request])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _token_pieces(self) -> list[bytes]:
        if self._pieces is None:
            self._pieces = token_pieces(self.tokenizer, self.vocab_size)
        return self._pieces

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return int(self.model.config.get_text_config().vocab_size)

    def forward(self, cache: RowCache, input_ids: Int[Tensor, "B q"]) -> Float[Tensor, "B V"]:
        """Return the logits behind the last of q new tokens of each row; the caller commits."""
        return self.logits(cache, input_ids, keep=1)[:, -1]

    def logits(
        self, cache: RowCache, input_ids: Int[Tensor, "B q"], *, keep: int
    ) -> Float[Tensor, "B k V"]:
        """Return the logits behind the last `keep` of q new tokens; the caller commits."""
        slots = cache.begin(input_ids.shape[1])
        output = self.model(
            input_ids=input_ids,
            # Positions of padding may lie beyond the context; what is computed there is not used.
            position_ids=slots.position_ids.clamp(max=self.context_length - 1),
            attention_mask=slots.attention_mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: Tensor = output.logits
        return logits


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return every id that the checkpoint names as an end of text."""
    sources: list[Any] = [model.config, getattr(model, "generation_config", None), tokenizer]
    found: set[int] = set()
    for source in sources:
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return tuple(sorted(found))
