"""What each token id contributes to the text, in bytes."""

import functools
import json
from typing import Final

from transformers import PreTrainedTokenizerBase

from llmsmc.models.text.chat import decode

_ANCHOR: Final = "a"


def token_pieces(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[bytes]:
    """Return the bytes of every id below `vocab_size`; special and unused ids have none.

    Byte-level vocabularies are read exactly. For others an id is decoded behind a letter, which
    keeps the leading space that decoding takes off at the start of a text.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(vocab_size, len(tokenizer)))))
    special = set(tokenizer.all_special_ids)
    special |= {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    added = {id: token.content for id, token in tokenizer.added_tokens_decoder.items()}
    if is_byte_level(tokenizer):
        table = _bytes_of_characters()
        pieces = [
            added[id].encode() if id in added else bytes(table[c] for c in token or "")
            for id, token in enumerate(tokens)
        ]
    else:
        pieces = _decoded_pieces(tokenizer, len(tokens))
    pieces = [b"" if id in special else piece for id, piece in enumerate(pieces)]
    return pieces + [b""] * (vocab_size - len(pieces))


def is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokens are strings over the byte alphabet of GPT-2."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    return any(part.get("type") == "ByteLevel" for part in parts)


@functools.cache
def _bytes_of_characters() -> dict[str, int]:
    """Return the byte behind each character of the GPT-2 byte alphabet.

    Printable bytes stand for themselves, the others for the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }


def _decoded_pieces(tokenizer: PreTrainedTokenizerBase, count: int) -> list[bytes]:
    anchor = tokenizer.encode(_ANCHOR, add_special_tokens=False)
    start = len(decode(tokenizer, anchor))
    return [decode(tokenizer, [*anchor, id])[start:].encode() for id in range(count)]
