"""The MiniMath tokenizer: byte-level BPE with single digits and a chat template.

It is saved as ordinary Hugging Face files and loaded with `AutoTokenizer`. Its alphabet is
ASCII: text in another script cannot be represented, which the language model reports.
"""

from collections.abc import Iterable
from random import Random

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from llmsmc.models.minimath.problem import LEVELS, STEP_SEPARATOR, draw_problem

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
STEP_MARKER, UNKNOWN = "<extra_0>", "<unk>"

SPLIT = (
    r"\p{N}"  # single digits
    r"|[\r\n]+"  # a step separator is one token
    r"| ?\p{L}+(?: (?=\p{N}))?"  # words and signs take the blank before a number with them,
    r"| ?[^\s\p{L}\p{N}]+(?: (?=\p{N}))?"  # so that a digit is the same token everywhere
    r"|\s"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
"""The system message of Qwen2.5-Math and of its reward models."""


def train_tokenizer(
    seed: int = 0, num_problems: int = 4000, vocab_size: int = 512
) -> PreTrainedTokenizerFast:
    """Train the tokenizer on problems and solutions drawn with `seed`."""
    ascii_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = {ascii_bytes.pre_tokenize_str(chr(code))[0][0] for code in (9, 10, *range(32, 127))}
    tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"), ascii_bytes]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=20,
        initial_alphabet=sorted(alphabet),
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END, STEP_MARKER, UNKNOWN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, num_problems), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=END_OF_TEXT,
        eos_token=TURN_END,
        additional_special_tokens=[TURN_START, STEP_MARKER],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _texts(seed: int, num_problems: int) -> Iterable[str]:
    random = Random(f"minimath-tokenizer/{seed}")
    for _ in range(num_problems):
        problem = draw_problem(random, random.choice(sorted(LEVELS)))
        yield problem.question
        yield STEP_SEPARATOR.join(problem.solution())
        yield SYSTEM_PROMPT
        yield "system\nuser\nassistant\n"
