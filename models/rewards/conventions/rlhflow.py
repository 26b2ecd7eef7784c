"""How the process reward models of RLHFlow read a solution.

A chat in which the user says the question and the first step, then one step a turn, and to each of
them the assistant answers "+". The score of a step is the probability of "+" against "-" as that
answer, read where it begins; the answers that stand in the chat are "+" whatever the scores.

Reference: Xiong et al. (2024). An implementation of generative PRM. RLHFlow/RLHF-Reward-Modeling.
"""

from functools import lru_cache
from typing import Final

from transformers import PreTrainedTokenizerBase

from llmsmc.errors import InputError
from llmsmc.models.pretrained.loading import require_chat_template
from llmsmc.models.rewards.conventions.convention import (
    REMEMBERED,
    LabelConvention,
    Layout,
    layout_of_text,
)
from llmsmc.models.text.chat import chat_text, checked_text
from llmsmc.models.text.vocabulary import neutralized

GOOD, BAD = "+", "-"

# What the template of Llama 3.1 prints where no date is given, and so the date of the training.
DATE: Final = "26 Jul 2024"


class RlhflowConvention(LabelConvention):
    """Layout and labels of Llama3.1-8B-PRM-Deepseek-Data and -Mistral-Data.

    Attributes:
        label_ids: the tokens for right and wrong.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look the labels up in the tokenizer."""
        require_chat_template(tokenizer, tokenizer.name_or_path)
        self._tokenizer = tokenizer
        good, bad = (tokenizer.encode(label, add_special_tokens=False) for label in (GOOD, BAD))
        self.label_ids = (int(good[-1]), int(bad[-1]))
        self._chat = lru_cache(REMEMBERED)(self._rendered)

    def layout(self, question: str, steps: tuple[str, ...]) -> Layout:
        """Return the chat, read at the end of the header of each answer.

        Raises:
            InputError: the template writes the beginning of a chat anew as it goes on.
        """
        chats = [self._chat(question, steps[:count]) for count in range(1, len(steps) + 1)]
        text = chats[-1] if chats else self._chat(question, ())
        if not all(text.startswith(chat) for chat in chats):
            raise InputError(
                "A chat goes on behind what has been said. Got a chat template that changes the "
                "turns before; accepted: that of the checkpoint."
            )
        ends = [len(chat) for chat in chats]
        return layout_of_text(self._tokenizer, text, ends, special_tokens=False)

    def _rendered(self, question: str, steps: tuple[str, ...]) -> str:
        """Return the chat up to where the answer to the last step begins."""
        question = checked_text(self._tokenizer, "question", question)
        said = [neutralized(self._tokenizer, step.strip()) for step in steps]
        said[:1] = [" ".join([question, *said[:1]])]
        messages = [{"role": "user", "content": said[0]}]
        for step in said[1:]:
            messages += [
                {"role": "assistant", "content": GOOD},
                {"role": "user", "content": step},
            ]
        return chat_text(self._tokenizer, messages, DATE)
