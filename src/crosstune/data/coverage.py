"""How much of the user's text a base model's vocabulary cannot express."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Tokenizer

MAX_UNKNOWN_SHARE = 0.05
"""Above this share of unknown tokens a base cannot be said to read the language."""


def unknown_token_share(texts: Sequence[str], tokenizer: Tokenizer) -> float:
    """Share of tokens that are the unknown token; 0 for vocabularies that have none, such as byte-level BPE.

    A word-piece tokenizer gives one unknown token for a whole unknown word, so that the share of unreadable
    text is at least this.

    Args:
        tokenizer: Left as it was; special tokens are not counted.
    """
    unknown = _unknown_id(tokenizer)
    if unknown is None:
        return 0.0
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    n_tokens = n_unknown = 0
    for start in range(0, len(texts), 256):
        for encoding in plain.encode_batch(list(texts[start : start + 256]), add_special_tokens=False):
            n_tokens += len(encoding.ids)
            n_unknown += encoding.ids.count(unknown)
    return n_unknown / n_tokens if n_tokens else 0.0


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_token") is not None:  # WordPiece, WordLevel, BPE
        token_id: int | None = tokenizer.token_to_id(model["unk_token"])
        return token_id
    unknown = model.get("unk_id")  # Unigram
    return None if unknown is None else int(unknown)
