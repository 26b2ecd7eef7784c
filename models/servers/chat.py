"""Any OpenAI-compatible endpoint: whole answers by `/v1/chat/completions`.

It gives no ids and cannot continue an answer. Prompt and answer are kept as the bytes of their
text, which stand in the place of ids: the prompt as the JSON of the messages.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from llmsmc.errors import InputError
from llmsmc.models.servers.answer import Answer, Text, parsed
from llmsmc.models.servers.completion import Usage, token_counts
from llmsmc.models.servers.engine import Draw, Drawn
from llmsmc.models.text.constraint import Constraint, TokenMask
from llmsmc.models.text.stopping import EOS, LENGTH, Automaton, StepRule

END = 256  # the id behind those of the bytes: the end of the text


class _Message(Answer):
    content: Text


class _Choice(Answer):
    message: _Message
    finish_reason: Literal["stop", "length"]


class _Drawn(Answer):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Usage | None = None


@dataclass(frozen=True)
class Chat:
    """Requests and answers of a chat endpoint.

    Attributes:
        model: the name of the model there.
    """

    model: str

    path = "/v1/chat/completions"
    num_seeds = 2**31

    def body(self, draw: Draw) -> dict[str, Any]:
        """Return the request for an answer to the messages that the prompt is the JSON of."""
        return {
            "model": self.model,
            "messages": json.loads(bytes(draw.prompt)),
            "n": 1,
            "max_tokens": draw.max_tokens,
            "temperature": float(draw.temperature),
            "top_p": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": draw.seed,
            "stream": False,
        }

    def read(self, answer: Any) -> Drawn:
        """Return what the answer says; the end of the text is an id of its own."""
        found = parsed(_Drawn, answer, "an OpenAI-compatible server")
        choice, counts = found.choices[0], token_counts(found.usage)
        ids = tuple(choice.message.content.encode())
        if choice.finish_reason == "stop":
            return Drawn((*ids, END), EOS, None, *counts)
        return Drawn(ids, LENGTH, None, *counts)


class ByteVocabulary:
    """The vocabulary of texts as bytes."""

    def __init__(self) -> None:
        """Make the pieces: each byte, and the end."""
        self.size = END + 1
        self.pieces = [bytes([byte]) for byte in range(END)] + [b""]

    @property
    def ids(self) -> dict[str, int]:
        """The bytes with their ids."""
        return {f"<{byte:#04x}>": byte for byte in range(END)} | {"<end>": END}

    def prompt_ids(self, question: str, system: str | None = None) -> tuple[int, ...]:
        """Return the bytes of the messages as JSON.

        Raises:
            InputError: the question is blank, or has halves of characters.
        """
        for name, text in (("question", question), ("system prompt", system)):
            if text is not None or name == "question":
                _check_text(name, text)
        messages = [{"role": "user", "content": question}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return tuple(json.dumps(messages).encode())

    @property
    def special(self) -> frozenset[str]:
        """The texts of ids that are left out of texts: there are none but the end, without one."""
        return frozenset()

    def spelled(self, token_ids: Iterable[int]) -> str:
        """Return the text of the bytes."""
        return self.decode(token_ids)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the bytes of a text."""
        return tuple(text.encode())

    def decode(self, token_ids: Iterable[int], after: Iterable[int] = ()) -> str:
        """Return the text of the bytes."""
        return bytes(id for id in token_ids if id < END).decode(errors="replace")

    def automaton(self, rule: StepRule) -> Automaton:
        """Return the rule compiled for bytes."""
        return rule.automaton(self.pieces)

    def mask(self, constraint: Constraint) -> TokenMask:
        """Return the constraint compiled for bytes."""
        return TokenMask.of(constraint.automaton(self.pieces))


def _check_text(name: str, text: object) -> None:
    """Raise `InputError` unless it is a text that can be sent."""
    if not isinstance(text, str) or (name == "question" and not text.strip()):
        raise InputError(f"The {name} is a text. Got {text!r}; accepted: a string, not blank.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The {name} has half of a character. Got {text[error.start]!r}; accepted: Unicode."
        ) from error
