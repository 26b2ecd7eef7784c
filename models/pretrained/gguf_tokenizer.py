r"""The tokenizer of a GGUF file.

A file holds the tokens with their kinds, the merges or the scores by which they are joined, the ids
that begin and end texts, and a name for the way in which texts are split before anything is joined.
Two kinds of tokenizers are read:

- "gpt2": byte-level tokens, joined by merges within the parts of a text that a regular expression
  finds; the name of the expression is `tokenizer.ggml.pre`. One name stands for one split, so an
  unknown name is an error: with another split the ids of a text are others than in training.
- "llama": pieces as SentencePiece makes them, with U+2581 for a space and a token for each byte.
  The best-scored pair of neighbours is joined first.

Where each text begins with a token of its own ("add_bos_token"), the tokenizer puts it there unless
it is told to add nothing. In a chat it stands once: the template writes it.
"""

from collections.abc import Sequence
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from llmsmc.errors import InputError
from llmsmc.models.pretrained.gguf_header import GgufHeader

_CONTROL: Final = 3
_USER_DEFINED: Final = 4

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _words(digits: str) -> str:
    return rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|{_REST}"


_UPPER: Final = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN: Final = rf"{_UPPER}*{_LOWER}+|{_UPPER}+{_LOWER}*|\p{{N}}|{_CASED_REST}"
_GPT4O: Final = (
    rf"{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}|"
    f"{_CASED_REST}"
)

_SPLITS: Final[dict[str, tuple[str, ...]]] = (
    dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion"), (_GPT2,))
    | dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        (r"\p{N}", _GPT2),
    )
    | dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "smaug-bpe", "dbrx"),
        (_words(r"\p{N}{1,3}"),),
    )
    | dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"), (_words(r"\p{N}"),))
    | {"tekken": (_TEKKEN,), "gpt-4o": (_GPT4O,)}
)
"""The regular expressions, one after the other, that `tokenizer.ggml.pre` stands for."""

_WHOLE_WORDS: Final = ("llama3", "llama-v3", "llama-bpe", "falcon3", "tekken")
"""Splits after which a word that is a token is not joined from smaller ones."""

_NORMALIZED: Final = ("qwen2", "deepseek-r1-qwen", "megrez")
"""Splits of vocabularies that were made of texts in the normal form C of Unicode."""

_ENDS: Final = frozenset(
    {
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<end_of_turn>",
        "<turn|>",
        "<end_of_utterance>",
        "<|end_of_turn|>",
        "<|eot|>",
        "<EOT>",
        "[EOS]",
        "[EOT]",
        "</s>",
        "<eos>",
        "<\N{FULLWIDTH VERTICAL LINE}end\N{LOWER ONE EIGHTH BLOCK}of\N{LOWER ONE EIGHTH BLOCK}"
        "sentence\N{FULLWIDTH VERTICAL LINE}>",
    }
)
"""Names of control tokens behind which a turn or a text is over."""

_IDS: Final = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def tokenizer_of(header: GgufHeader) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a GGUF file, with its chat template if it has one.

    Raises:
        InputError: the file has none, or one of a kind that is not read.
    """
    tokens = tokens_of(header)
    kind = header.of_tokenizer("model")
    if kind == "gpt2":
        backend = _byte_level(header, tokens)
    elif kind == "llama":
        backend = _pieces(header, tokens)
    else:
        raise InputError(
            f"The tokenizer of {header.path} is of a kind that is not read. Got "
            f"tokenizer.ggml.model = {kind!r}; accepted: 'gpt2', 'llama'."
        )
    kinds = _kinds(header, len(tokens))
    whole = [
        AddedToken(token, normalized=False, special=kind_of_token == _CONTROL)
        for token, kind_of_token in zip(tokens, kinds, strict=True)
        if token and kind_of_token in (_CONTROL, _USER_DEFINED)
    ]
    backend.add_tokens(whole)
    named = {name: tokens[id] for name, key in _IDS.items() if (id := _id(header, key)) is not None}
    if header.of_tokenizer("add_bos_token", kind == "llama") and "bos_token" in named:
        begin = named["bos_token"]
        backend.post_processor = TemplateProcessing(
            single=f"{begin}:0 $A:0",
            pair=f"{begin}:0 $A:0 {begin}:1 $B:1",
            special_tokens=[(begin, backend.token_to_id(begin))],
        )
    template = header.metadata.get("tokenizer.chat_template")
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        chat_template=template if isinstance(template, str) and template.strip() else None,
        **named,
    )
    tokenizer.name_or_path = str(header.path)
    return tokenizer


def tokens_of(header: GgufHeader) -> list[str]:
    """Return the tokens of a GGUF file in the order of their ids.

    Raises:
        InputError: it has none.
    """
    tokens = header.of_tokenizer("tokens")
    if not isinstance(tokens, list) or not tokens or not isinstance(tokens[0], str):
        raise InputError(
            f"{header.path} has no tokenizer. Got a file without tokenizer.ggml.tokens; accepted: "
            "a GGUF file of a language model, which holds its tokens."
        )
    return tokens


def end_ids(header: GgufHeader) -> tuple[int, ...]:
    """Return the ids that end a turn or a text.

    They are those that the file names as ends of a text, of a turn and of a message, and control
    tokens with the name of such an end: files that were converted name one of several.
    """
    tokens = tokens_of(header)
    named = {_id(header, f"{name}_token_id") for name in ("eos", "eot", "eom")} - {None}
    kinds = _kinds(header, len(tokens))
    ends = {id for id, token in enumerate(tokens) if token in _ENDS and kinds[id] == _CONTROL}
    return tuple(sorted(ends | {id for id in named if id is not None}))


def _byte_level(header: GgufHeader, tokens: Sequence[str]) -> Tokenizer:
    split = header.of_tokenizer("pre")
    if split not in _SPLITS:
        raise InputError(
            f"The tokenizer of {header.path} splits texts in a way that is not known. Got "
            f"tokenizer.ggml.pre = {split!r}; accepted: {', '.join(sorted(_SPLITS))}."
        )
    merges = [tuple(str(merge).split(" ")) for merge in header.of_tokenizer("merges", [])]
    backend = _joined(header, tokens, merges, ignore_merges=split in _WHOLE_WORDS)
    if split in _NORMALIZED:
        backend.normalizer = normalizers.NFC()
    parts = [pre_tokenizers.Split(Regex(each), "isolated") for each in _SPLITS[split]]
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*parts, bytes_of])
    backend.decoder = decoders.ByteLevel()
    return backend


def _pieces(header: GgufHeader, tokens: Sequence[str]) -> Tokenizer:
    scores = header.of_tokenizer("scores", [])
    if len(scores) != len(tokens):
        raise _damaged(header, f"{len(scores)} scores for {len(tokens)} tokens")
    prefix = header.of_tokenizer("add_space_prefix", True)
    unknown = _id(header, "unknown_token_id")
    backend = _joined(
        header,
        tokens,
        _merges_of(tokens, scores),
        unk_token=None if unknown is None else tokens[unknown],
        byte_fallback=True,
        fuse_unk=True,
    )
    space = "\N{LOWER ONE EIGHTH BLOCK}"
    spaces: list[Any] = [normalizers.Prepend(space)] if prefix else []
    backend.normalizer = normalizers.Sequence([*spaces, normalizers.Replace(" ", space)])
    stripped: list[Any] = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse(), *stripped]
    )
    return backend


def _merges_of(tokens: Sequence[str], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return the pairs of pieces that make a piece, those of the best score first."""
    known = {token: id for id, token in enumerate(tokens)}
    found = [
        (-scores[id], known[token[:at]], known[token[at:]], token[:at], token[at:])
        for id, token in enumerate(tokens)
        for at in range(1, len(token))
        if token[:at] in known and token[at:] in known
    ]
    return [(left, right) for *_, left, right in sorted(found)]


def _joined(
    header: GgufHeader, tokens: Sequence[str], merges: Sequence[Any], **settings: Any
) -> Tokenizer:
    vocabulary = {token: id for id, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise _damaged(header, f"{len(tokens)} tokens of which {len(vocabulary)} differ")
    try:
        return Tokenizer(BPE(vocab=vocabulary, merges=list(merges), **settings))
    except Exception as error:  # of which the library has no class of its own
        raise _damaged(header, f"merges that cannot be made ({error})") from error


def _kinds(header: GgufHeader, count: int) -> Sequence[int]:
    kinds = header.of_tokenizer("token_type", [1] * count)
    if len(kinds) != count:
        raise _damaged(header, f"{len(kinds)} kinds of {count} tokens")
    return list(kinds)


def _id(header: GgufHeader, key: str) -> int | None:
    """Return an id that the file names, None if it names none."""
    id = header.of_tokenizer(key)
    if id is None:
        return None
    if not isinstance(id, int) or not 0 <= id < len(tokens_of(header)):
        raise _damaged(header, f"tokenizer.ggml.{key} = {id!r} for {len(tokens_of(header))} tokens")
    return id


def _damaged(header: GgufHeader, got: str) -> InputError:
    return InputError(
        f"The tokenizer of {header.path} cannot be used. Got {got}; accepted: a tokenizer as it "
        "was written from a model."
    )
