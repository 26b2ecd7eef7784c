"""How a process reward model reads a solution: its layout in tokens, and its head.

A convention is a class that satisfies the protocol `Convention`; `qwen.py`, `trl.py` and the other
files of this folder define one each. It lays a solution out in token ids, and names the positions
at which scores are read. A layout that only grows at its end when steps are added is scored
incrementally.

Shapes: R positions that are read, D width of the hidden states.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from llmsmc.errors import InputError
from llmsmc.models.pretrained.checkpoints import TensorsError
from llmsmc.models.pretrained.loading import Placement
from llmsmc.models.text.vocabulary import neutralized

_NUMBERED: Final = re.compile(r"Step \d+:\s*")
_LOGIT_SETTINGS: Final = ("final_logit_softcapping", "logits_scaling", "logit_scale")

REMEMBERED: Final = 2**14  # texts of which a convention remembers the ids

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """A solution as a model reads it.

    Attributes:
        ids: everything that is fed, the question included.
        reads: for each step the position in `ids` at which its score is read.
    """

    ids: tuple[int, ...]
    reads: tuple[int, ...]


@runtime_checkable
class Convention(Protocol):
    """Layout and head of a family of reward models; made from a tokenizer.

    A convention of networks with a head of their own may name it in the attribute `head`, the
    beginning of the names of its tensors, so that a checkpoint without one is refused early.
    """

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return whether a checkpoint with this class of model and tokenizer is surely ours."""
        ...

    @classmethod
    def load(cls, source: str, placement: Placement) -> Any:
        """Load a checkpoint, which must have the head."""
        ...

    def layout(self, question: str, steps: tuple[str, ...]) -> Layout:
        """Return the ids of a solution; without steps, those that come before any step."""
        ...

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return the log-odds of the scores, in single precision, from hidden states."""
        ...


class PiecewiseConvention:
    """A convention in which each step is a piece of ids of its own, read at its last id.

    The layout of a solution grows by a piece with each step, and so does its length.

    Attributes:
        prefix_ids: from a question to the ids before the first step.
        piece_ids: from the text of a step to the ids of its piece.
    """

    def __init__(self, prefix_ids: Callable[[str], Ids], piece_ids: Callable[[str], Ids]) -> None:
        """Take both encodings, which are remembered."""
        self.prefix_ids = lru_cache(REMEMBERED)(prefix_ids)
        self.piece_ids = lru_cache(REMEMBERED)(piece_ids)

    def layout(self, question: str, steps: tuple[str, ...]) -> Layout:
        """Return the question and the piece of each step."""
        return layout_of_pieces(self.prefix_ids(question), map(self.piece_ids, steps))


class LabelConvention:
    """A convention of language models: a score is read from two labels as the next token.

    Attributes:
        label_ids: the tokens for right and wrong.
    """

    label_ids: tuple[int, int]

    @classmethod
    def recognizes(cls, architecture: str, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Return that such a checkpoint looks like any language model."""
        return False

    @classmethod
    def load(cls, source: str, placement: Placement) -> Any:
        """Load a checkpoint, which is a language model.

        Raises:
            InputError: its logits are not a product with its output embeddings.
        """
        model = placement.load(AutoModelForCausalLM, source, full_precision=("lm_head",))
        changed = [name for name in _LOGIT_SETTINGS if getattr(model.config, name, None)]
        if changed:
            raise InputError(
                f"The logits of two tokens are read from the output embeddings. Got {source}, "
                f"which has {changed[0]}; accepted: models whose logits are a product with them."
            )
        return model

    def log_odds(self, model: Any, hidden: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
        """Return the log-odds of the first label against the second, as the next token.

        The two rows of the output embeddings are all that it takes.
        """
        rows = model.get_output_embeddings().weight[list(self.label_ids)]
        logits: Tensor = (hidden.to(rows.dtype) @ rows.T).float()
        return logits[:, 0] - logits[:, 1]


def layout_of_pieces(prefix: tuple[int, ...], pieces: Iterable[Sequence[int]]) -> Layout:
    """Return the layout in which each step is a piece of ids of its own, read at its end.

    Joined as ids: as text, the end of one step and the start of the next could merge.
    """
    ids, reads = list(prefix), list[int]()
    for piece in pieces:
        ids += piece
        reads.append(len(ids) - 1)
    return Layout(tuple(ids), tuple(reads))


def numbered_layout(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    steps: Sequence[str],
    marker: str,
    *,
    special_tokens: bool,
) -> Layout:
    """Return the layout of a prompt and the lines "Step i: ... marker", read at the markers.

    Steps that are not numbered yet are numbered; markers written out in a step are taken apart.
    """
    text, ends = prompt, list[int]()
    for number, step in enumerate(steps, start=1):
        content = neutralized(tokenizer, step.strip(), markers=(marker,))
        content = _NUMBERED.sub("", content, count=1)
        text += f"{chr(10) if ends else ''}Step {number}: {content} {marker}"
        ends.append(len(text))
    return layout_of_text(tokenizer, text, ends, special_tokens=special_tokens)


def layout_of_text(
    tokenizer: PreTrainedTokenizerBase, text: str, ends: Sequence[int], *, special_tokens: bool
) -> Layout:
    """Return the layout of a text that is encoded as a whole.

    Args:
        tokenizer: one that knows where its tokens stand in the text.
        text: the question and the steps.
        ends: for each step the number of characters up to where its score is read.
        special_tokens: whether the tokenizer adds those that a text starts with.

    Raises:
        InputError: a token goes across one of the ends.
    """
    encoded = tokenizer(text, add_special_tokens=special_tokens, return_offsets_mapping=True)
    # Tokens of no width are not of the text: those that it starts with.
    last = {stop: n for n, (start, stop) in enumerate(encoded["offset_mapping"]) if stop > start}
    if not set(ends) <= set(last):
        place = next(end for end in ends if end not in last)
        raise InputError(
            f"No token ends where a score is read. Got a tokenizer in which one goes across the "
            f"end of {text[:place][-20:]!r}; accepted: that of the checkpoint."
        )
    return Layout(tuple(encoded["input_ids"]), tuple(last[end] for end in ends))


def single_id(tokenizer: PreTrainedTokenizerBase, convention: str, text: str) -> int:
    """Return the id of a text that is a single token.

    Raises:
        InputError: it is not.
    """
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise InputError(
            f"The convention {convention!r} needs {text!r} as a single token. Got a tokenizer in "
            f"which that is {len(ids)} tokens; accepted: that of a checkpoint of this convention."
        )
    return int(ids[0])


def load_with_head(
    cls: Any, source: str, placement: Placement, *, convention: str, head: str, **settings: Any
) -> Any:
    """Load a checkpoint that must have all of the weights of `cls`, its head among them.

    The head is not quantised.

    Raises:
        InputError: a weight is missing, or belongs to something else.
    """
    try:
        return placement.load(cls, source, full_precision=(head,), **settings)
    except TensorsError as error:
        if not any(name.startswith(f"{head}.") for name in error.lacking):
            raise
        got = f"a checkpoint with {error.got}"
        raise not_a_reward_model(source, convention, head, got) from error


def not_a_reward_model(source: str, convention: str, head: str, got: str) -> InputError:
    """Return the error for a checkpoint of something else."""
    return InputError(
        f"{source} is not a process reward model of the convention {convention!r}. Got {got}; "
        f"accepted: checkpoints with its head `{head}.*`."
    )
