"""Query and passage to token ids, each text tokenised once however many pairs it stands in.

A fast tokenizer treats the two sides of a pair separately and then joins them by a fixed template, for example
`[CLS] query [SEP] passage [SEP]`. The template is read off the tokenizer with a probe, so that pairs can be joined
from texts tokenised before. A pair that is too long loses tokens from the end of its longer text, by the rule of the
tokenizers library ("longest_first"): in practice the passage's tail. So every library that loads our saved model cuts
the same pairs alike. Batches are cut by what they cost: tokens after padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import CheckpointError, ConfigError

_TEXTS_PER_CALL = 2048


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of one (query, passage) pair with special tokens.

    Attributes:
        ids: (tokens,) token ids.
        n_first: Tokens up to the end of the query.
        truncated: Whether a tail was cut.
    """

    ids: NDArray[np.int32]
    n_first: int
    truncated: bool


class PairEncoder:
    """Joins tokenised texts to pairs and pads them to tensors.

    Args:
        tokenizer: A fast transformers tokenizer.
        max_length: Most tokens of a pair, special tokens included.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._read_template()
        if tokenizer.pad_token_id is None:
            raise CheckpointError("the base's tokenizer has no padding token; choose another base")
        if max_length < self.n_special + 2:
            raise ConfigError(
                f"a maximum length of {max_length} tokens leaves no room for a query and a passage beside "
                f"{self.n_special} special tokens; give at least {self.n_special + 2}"
            )

    def _read_template(self) -> None:
        probe = self.tokenizer("a", "a", return_token_type_ids=True)
        side = np.array([-1 if s is None else s for s in probe.sequence_ids(0)])  # -1 special, 0 query, 1 passage
        first, second = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
        if not len(first) or not len(second) or first[-1] > second[0]:
            raise CheckpointError("the base's tokenizer does not join pairs as query, passage: choose another base")
        parts = slice(0, first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, None)
        ids, types = np.array(probe["input_ids"], np.int32), np.array(probe["token_type_ids"], np.int64)
        self._prefix, self._middle, self._suffix = (ids[part] for part in parts)
        self._prefix_types, self._middle_types, self._suffix_types = (types[part] for part in parts)
        self._query_type, self._passage_type = int(types[first[0]]), int(types[second[0]])
        self.n_special = len(self._prefix) + len(self._middle) + len(self._suffix)
        self._uses_types = "token_type_ids" in self.tokenizer.model_input_names

    def tokenize(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids without special tokens, at most `max_length + 1` of them (one more tells of a cut tail)."""
        tokenized: list[NDArray[np.int32]] = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            # Half a surrogate pair, as cut JSON has it, would stop the tokenizer: it becomes a question mark.
            block = [text.encode("utf-8", "replace").decode("utf-8") for text in texts[start : start + _TEXTS_PER_CALL]]
            ids = self.tokenizer(
                block,
                add_special_tokens=False,
                truncation=True,
                max_length=self.max_length + 1,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
            tokenized.extend(np.array(row, np.int32) for row in ids)
        return tokenized

    def pair(self, query: NDArray[np.int32], passage: NDArray[np.int32]) -> EncodedPair:
        """Join a tokenised query and a tokenised passage."""
        n_query, n_passage = _kept(len(query), len(passage), self.max_length - self.n_special)
        ids = np.concatenate([self._prefix, query[:n_query], self._middle, passage[:n_passage], self._suffix])
        truncated = n_query < len(query) or n_passage < len(passage)
        return EncodedPair(ids.astype(np.int32), len(self._prefix) + n_query, truncated)

    def pad(self, pairs: Sequence[EncodedPair]) -> dict[str, Any]:
        """Tensors (pairs, longest) for the model: input_ids, attention_mask, token_type_ids where it has them."""
        import torch

        longest = max(len(pair.ids) for pair in pairs)
        ids = np.full((len(pairs), longest), self.tokenizer.pad_token_id, np.int64)
        mask = np.zeros((len(pairs), longest), np.int64)
        types = np.zeros((len(pairs), longest), np.int64)
        for row, pair in enumerate(pairs):
            ids[row, : len(pair.ids)] = pair.ids
            mask[row, : len(pair.ids)] = 1
            types[row, : len(pair.ids)] = self._types(pair)
        tensors = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if self._uses_types:
            tensors["token_type_ids"] = torch.from_numpy(types)
        return tensors

    def _types(self, pair: EncodedPair) -> NDArray[np.int64]:
        n_query = pair.n_first - len(self._prefix)
        n_passage = len(pair.ids) - self.n_special - n_query
        query, passage = np.full(n_query, self._query_type), np.full(n_passage, self._passage_type)
        return np.concatenate([self._prefix_types, query, self._middle_types, passage, self._suffix_types])


def _kept(n_query: int, n_passage: int, room: int) -> tuple[int, int]:
    """Tokens kept of each text: the shorter one whole if it fills at most half of the room, else half for each.

    Texts beyond the maximum length have lost their tails by now, so two of them count as equally long.
    """
    if n_query + n_passage <= room:
        return n_query, n_passage
    half = room // 2
    if min(n_query, n_passage) > half:
        # The odd token goes to the longer text, to the passage when both are as long.
        return (room - half, half) if n_query > n_passage else (half, room - half)
    return (n_query, room - n_query) if n_query <= n_passage else (room - n_passage, n_passage)


def length_batches(lengths: Sequence[int], max_tokens: int) -> list[NDArray[np.intp]]:
    """Indices in batches of similar length, longest first.

    Longest first, so that a batch which does not fit into memory fails at once. Equal lengths keep input order.

    Args:
        lengths: Tokens of each item.
        max_tokens: Most padded tokens (items times longest) in a batch; one item may exceed it alone.

    >>> [batch.tolist() for batch in length_batches([5, 2, 9, 2], max_tokens=10)]
    [[2], [0, 1], [3]]
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches
