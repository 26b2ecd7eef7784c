"""Putting a question to a model: what may stand in a prompt, and how it becomes ids."""

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Collection, Iterable
from typing import Final

from transformers import PreTrainedTokenizerBase

from llmsmc.core.worker_pool import ERROR, TIMEOUT
from llmsmc.errors import InputError
from llmsmc.models.text.template_pool import POOL, SECONDS
from llmsmc.models.text.thinking import Thinking
from llmsmc.models.text.vocabulary import decode, neutralized

# Templates that print the date of today would make a prompt depend on the day of the run.
PROMPT_DATE: Final = "01 Jan 2025"
_ANYTHING: Final = "Answer briefly."
MIN_SHARED: Final = 64  # ids, from which on it is worth a pass of its own to compute them once
_UNLIKE: Final = ("0", "What is 1 + 1?", "  How?", "\nWhy?")  # questions, to a tokenizer


class Prompt(tuple[int, ...]):
    """The ids of a prompt, of which the prompts of other questions share the first `num_shared`."""

    num_shared: int

    def __new__(cls, ids: Iterable[int], num_shared: int) -> "Prompt":
        """Take the ids, and how many of them are shared."""
        prompt = super().__new__(cls, ids)
        prompt.num_shared = num_shared
        return prompt


def chat_text(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    date: str = PROMPT_DATE,
    *,
    thinks: bool = False,
) -> str:
    """Return a chat as text, up to where the next text of the assistant begins.

    The template is rendered in a process apart, which is limited in time and memory.

    Raises:
        InputError: the template refuses the chat, does not come to an end, or writes too much.
    """
    settings: dict[str, object] = {
        **{name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "add_generation_prompt": True,
        "date_string": date,
        # Two names for one thing, of Qwen3 and of Granite; other templates know neither.
        "enable_thinking": thinks,
        "thinking": thinks,
    }
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise _not_rendered("several with no default", "is named 'default'") from error
    answer = POOL.ask("render", SECONDS, template, json.dumps(messages), json.dumps(settings))
    if answer == TIMEOUT:
        raise _not_rendered(f"one that is still at work after {SECONDS:g} s", "ends at once")
    if answer == ERROR:
        raise _not_rendered("one whose process broke down over it", "needs little memory")
    kind, said = json.loads(answer)
    if kind == "characters":
        raise _not_rendered(f"one that writes {said:,} characters", "writes what is said")
    if kind == "error":
        roles = [message["role"] for message in messages]
        turns = ", ".join(roles[:3]) + (", ..." if len(roles) > 3 else "")
        got = f"one that says {_shown(said)} to the turns {turns}"
        raise _not_rendered(got, "takes these")
    assert isinstance(said, str)
    return said


def _not_rendered(got: str, accepted: str) -> InputError:
    return InputError(
        f"The chat template of the tokenizer renders no chat. Got {got}; accepted: a template that "
        f"{accepted}."
    )


def _shown(text: str) -> str:
    """Return what a template has said of an error, on one line and in printed characters."""
    return repr(" ".join(text.split())[:200].rstrip(": "))


def chat_ids(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, thinks: bool = False
) -> tuple[int, ...]:
    """Return the ids of a chat up to where the assistant's text begins.

    Rendered as text first: the template writes the special tokens that a chat starts with, so the
    tokenizer must not add them once more.
    """
    text = chat_text(tokenizer, messages, thinks=thinks)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError("The chat template of the tokenizer renders a question as nothing.")
    return tuple(ids)


def checked_text(
    tokenizer: PreTrainedTokenizerBase, name: str, text: object, markers: Collection[str] = ()
) -> str:
    """Return the text as it may stand in a prompt.

    Special tokens and `markers` written out in it are taken apart: they are data, not markup.

    Raises:
        InputError: the text is empty, contains control characters, or has characters that the
            tokenizer does not know.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"The {name} is a text. Got {text!r}; accepted: a string, not blank.")
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs" or (category == "Cc" and character not in "\n\r\t"):
            raise InputError(
                f"The {name} contains a control character. Got {character!r}; accepted: printed "
                "characters, spaces, tabs and line breaks."
            )
    text = neutralized(tokenizer, text, markers)
    decoded = decode(tokenizer, tokenizer.encode(text, add_special_tokens=False))
    lost = set(_letters(text)) - set(_letters(decoded))
    if lost:
        raise InputError(
            f"The {name} has characters that the tokenizer does not know. Got "
            f"{''.join(sorted(lost))[:20]!r}; accepted: text that it can represent."
        )
    return text


def says(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int], text: str) -> bool:
    """Return whether a text stands in a prompt, up to spacing."""
    return _letters(text) in _letters(decode(tokenizer, ids))


def _letters(text: str) -> str:
    """Return the text up to spacing and to ways of writing one character."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    system: str | None,
    context_length: int,
    name: str,
    thinking: Thinking | None = None,
) -> tuple[int, ...]:
    """Return the ids of the chat that asks the question, up to where the answer begins.

    Templates that can are told whether the policy is to think before it answers.

    The system prompt stands at the start of the question where the template has no other place.

    Raises:
        InputError: the question is empty, has characters that the tokenizer does not know,
            or leaves no room for an answer; or the chat template renders nothing.
    """
    tags = () if thinking is None else (thinking.opening, thinking.closing)
    question = checked_text(tokenizer, "question", question, tags)
    messages = [{"role": "user", "content": question}]
    if system is not None:
        system = checked_text(tokenizer, "system prompt", system, tags)
        messages.insert(0, {"role": "system", "content": system})
    ids = _chat_ids(tokenizer, messages, thinks=thinking is not None)
    if len(ids) >= context_length:
        raise InputError(
            f"The question does not fit into the context of {name}. Got {len(ids)} "
            f"tokens; accepted: fewer than {context_length}."
        )
    return ids


def shared_beginning(
    tokenizer: PreTrainedTokenizerBase, system: str | None, thinking: Thinking | None
) -> tuple[int, ...]:
    """Return the ids with which prompts begin, whatever the question.

    These are what questions that have nothing in common share, so that they do not depend on the
    questions that are asked. There are none where the tokenizer cannot write one of those.
    """
    try:
        prompts = [
            prompt_ids(tokenizer, each, system, sys.maxsize, "", thinking) for each in _UNLIKE
        ]
    except InputError:
        return ()
    return tuple(os.path.commonprefix(prompts))


def takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the chat template has a place for a system prompt.

    Where it has none, the system prompt stands at the start of the question.
    """
    chat = [{"role": "system", "content": _ANYTHING}, {"role": "user", "content": "1 + 1"}]
    try:
        ids = chat_ids(tokenizer, chat)
    except InputError:
        return False
    return all(says(tokenizer, ids, message["content"]) for message in chat)


def _chat_ids(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, thinks: bool
) -> tuple[int, ...]:
    """Return the ids of a chat.

    A template that refuses a system prompt, or leaves it or the question beside it out, gets its
    text in the question.
    """
    if messages[0]["role"] != "system":
        return chat_ids(tokenizer, messages, thinks=thinks)
    system, *_ = texts = [message["content"] for message in messages]
    with contextlib.suppress(InputError):
        ids = chat_ids(tokenizer, messages, thinks=thinks)
        if all(says(tokenizer, ids, text) for text in texts):
            return ids
    folded = {"role": "user", "content": "\n\n".join(texts)}
    ids = chat_ids(tokenizer, [folded], thinks=thinks)
    if not says(tokenizer, ids, system):
        raise InputError(
            "The chat template of the policy takes no system prompt. Got one that leaves it out "
            "even where it stands in the question; accepted: no system prompt (leave --system out)."
        )
    return ids
