"""The tokens of a model: how a question becomes ids, how ids become text, and rules over ids."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import torch
from transformers import PreTrainedTokenizerBase

from llmsmc.errors import InputError
from llmsmc.models.text.chat import chat_ids, checked_text, decode, says
from llmsmc.models.text.constraint import Constraint, TokenMask
from llmsmc.models.text.stopping import Automaton, StepRule
from llmsmc.models.text.thinking import Thinking
from llmsmc.models.text.token_pieces import token_pieces

_CONTEXT_OF_DECODING: Final = 4  # tokens before a step that decide how it begins as text
_MAX_LENGTHS: Final = 4096  # of the texts of such tokens that are remembered


class Vocabulary:
    """A tokenizer with a chat template, and what is compiled for its tokens.

    Attributes:
        tokenizer: the tokenizer.
        size: how many ids the model has; some of them may have no token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, size: int, device: torch.device | None = None
    ) -> None:
        """Take a tokenizer; what is compiled for it lies on `device`."""
        self.tokenizer, self.size = tokenizer, size
        self._device = device or torch.device("cpu")
        self._pieces: list[bytes] | None = None
        self._automata: dict[StepRule, Automaton] = {}
        self._masks: dict[Constraint, TokenMask] = {}
        self._length = lru_cache(_MAX_LENGTHS)(self._text_length)

    @property
    def ids(self) -> dict[str, int]:
        """The tokens with their ids."""
        return dict(self.tokenizer.get_vocab())

    @property
    def special(self) -> frozenset[str]:
        """The tokens that are left out of texts."""
        added = self.tokenizer.added_tokens_decoder.values()
        return frozenset(token.content for token in added if token.special)

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each id."""
        if self._pieces is None:
            self._pieces = token_pieces(self.tokenizer, self.size)
        return self._pieces

    def prompt_ids(
        self,
        question: str,
        system: str | None,
        context_length: int,
        name: str,
        thinking: Thinking | None = None,
    ) -> tuple[int, ...]:
        """Return the ids of the chat that asks the question, up to where the answer begins.

        Templates that can are told whether the policy is to think before it answers.

        Raises:
            InputError: the question is empty, has characters that the tokenizer does not know,
                or leaves no room for an answer; or the chat template takes no system prompt.
        """
        tags = () if thinking is None else (thinking.opening, thinking.closing)
        question = checked_text(self.tokenizer, "question", question, tags)
        messages = [{"role": "user", "content": question}]
        if system is not None:
            system = checked_text(self.tokenizer, "system prompt", system, tags)
            messages.insert(0, {"role": "system", "content": system})
        ids = self._chat_ids(messages, thinks=thinking is not None)
        if len(ids) >= context_length:
            raise InputError(
                f"The question does not fit into the context of {name}. Got {len(ids)} "
                f"tokens; accepted: fewer than {context_length}."
            )
        return ids

    def _chat_ids(self, messages: list[dict[str, str]], *, thinks: bool) -> tuple[int, ...]:
        """Return the ids of a chat; the errors of a system prompt say what can be done."""
        system = messages[0]["content"] if messages[0]["role"] == "system" else None
        if system is None:
            return chat_ids(self.tokenizer, messages, thinks=thinks)
        try:
            ids = chat_ids(self.tokenizer, messages, thinks=thinks)
        except InputError as error:
            _ = chat_ids(self.tokenizer, messages[1:], thinks=thinks)  # or it is not at fault
            got = str(error).partition(" Got ")[2].partition("; accepted")[0]
            raise _no_system_prompt(got) from error
        if not says(self.tokenizer, ids, system):
            raise _no_system_prompt("one that leaves it out")
        return ids

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text, with nothing put around it."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Iterable[int], after: Iterable[int] = ()) -> str:
        """Return the text of the ids, as it reads behind the ids `after`."""
        context = tuple(after)[-_CONTEXT_OF_DECODING:]
        text = decode(self.tokenizer, [*context, *token_ids])
        return text[self._length(context) :] if context else text

    def _text_length(self, context: tuple[int, ...]) -> int:
        """Return how long the text of the ids is; steps end alike, so that few are new."""
        return len(decode(self.tokenizer, context))

    def automaton(self, rule: StepRule) -> Automaton:
        """Return the rule compiled for these tokens; compiled once."""
        if rule not in self._automata:
            self._automata[rule] = rule.automaton(self.pieces).to(self._device)
        return self._automata[rule]

    def mask(self, constraint: Constraint) -> TokenMask:
        """Return the constraint compiled for these tokens; compiled once."""
        if constraint not in self._masks:
            automaton = constraint.automaton(self.pieces).to(self._device)
            self._masks[constraint] = TokenMask.of(automaton)
        return self._masks[constraint]


def _no_system_prompt(got: str) -> InputError:
    return InputError(
        f"The chat template of the policy takes no system prompt. Got {got}; accepted: no system "
        "prompt (leave --system out), and its text at the start of the question."
    )


def eos_ids_of(*sources: Any) -> tuple[int, ...]:
    """Return every id that a config, a tokenizer or other parts of a checkpoint name as an end."""
    found: set[int] = set()
    for source in sources:
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return tuple(sorted(found))
