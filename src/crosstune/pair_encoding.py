"""Query and passage to token ids, each text tokenised once however many pairs it stands in.

A fast tokenizer treats the two sides of a pair separately and then joins them by a fixed template, for example
`[CLS] query [SEP] passage [SEP]`. The template is read off the tokenizer with a probe, so that pairs can be joined
from texts tokenised before. A pair that is too long loses the passage's tail, never the query's, unless the query alone
would leave the passage no token. Other libraries that load our saved model cut alike while the query fills at most half
of the room; a longer one they cut too. Batches are cut by what they cost: tokens after padding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from crosstune.errors import CheckpointError, ConfigError
from crosstune.team import shared_out

_TEXTS_PER_CALL = 2048
# Padded tokens of a batch: small ones win on a CPU (cache) and large ones on a GPU (parallelism).
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1024, 65536
# What a batch costs beside its tokens, in tokens: a pass is a thousand short operations.
_PASS_TOKENS = 128
# Of more batches for each who takes them the last ones matter little.
_MANY_BATCHES = 8
_N_LIMITS = 32


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

    def __len__(self) -> int:
        """Tokens."""
        return len(self.ids)


class PairEncoder:
    """Joins tokenised texts to pairs and pads them.

    Args:
        tokenizer: A fast transformers tokenizer, or a `tokenizers.Tokenizer`, which needs neither torch nor
            transformers.
        max_length: Most tokens of a pair, special tokens included.
        pad_id: Id of the padding token; asked of a transformers tokenizer when None.
        uses_types: Whether the model reads token types; asked of a transformers tokenizer when None.

    Raises:
        CheckpointError: The tokenizer has no padding token or does not join pairs as query, passage.
        ConfigError: No room for a pair in `max_length`.
    """

    def __init__(
        self, tokenizer: Any, max_length: int, pad_id: int | None = None, uses_types: bool | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._backend: Tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self._pad_id = getattr(tokenizer, "pad_token_id", None) if pad_id is None else pad_id
        names = getattr(tokenizer, "model_input_names", ())
        self._uses_types = "token_type_ids" in names if uses_types is None else uses_types
        self._read_template()
        if self._pad_id is None:
            raise CheckpointError("the base's tokenizer has no padding token; choose another base")
        if max_length < self.n_special + 2:
            raise ConfigError(
                f"a maximum length of {max_length} tokens leaves no room for a query and a passage beside "
                f"{self.n_special} special tokens; give at least {self.n_special + 2}"
            )

    @classmethod
    def from_folder(cls, folder: Path, max_length: int) -> PairEncoder:
        """Of a saved model, by its tokenizer.json, tokenizer_config.json and config.json alone.

        Raises:
            CheckpointError: A file is missing or damaged, or as the class.
        """
        path = folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # The library raises plain Exception whatever is wrong.
            raise CheckpointError(f"{path} cannot be read ({error}); copy the tokenizer's files back") from error
        settings, config = _json(folder / "tokenizer_config.json"), _json(folder / "config.json")
        token = settings.get("pad_token")
        pad_id = tokenizer.token_to_id(str(token["content"] if isinstance(token, dict) else token))
        # Families whose tokenizer gives types (BERT, ELECTRA) have more than one of them in their configuration.
        names = settings.get("model_input_names") or (
            ["token_type_ids"] if int(config.get("type_vocab_size", 0)) > 1 else []
        )
        return cls(tokenizer, max_length, pad_id, "token_type_ids" in names)

    def vocabulary(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return dict(self._backend.get_vocab())

    def _read_template(self) -> None:
        self._uncut()
        probe = self._backend.encode("a", "a")
        side = np.array([-1 if s is None else s for s in probe.sequence_ids])  # -1 special, 0 query, 1 passage
        first, second = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
        if not len(first) or not len(second) or first[-1] > second[0]:
            raise CheckpointError("the base's tokenizer does not join pairs as query, passage: choose another base")
        parts = slice(0, first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, None)
        ids, types = np.array(probe.ids, np.int32), np.array(probe.type_ids, np.int64)
        self._prefix, self._middle, self._suffix = (ids[part] for part in parts)
        self._prefix_types, self._middle_types, self._suffix_types = (types[part] for part in parts)
        self._query_type, self._passage_type = int(types[first[0]]), int(types[second[0]])
        self.n_special = len(self._prefix) + len(self._middle) + len(self._suffix)

    def _uncut(self) -> None:
        """Files and transformers leave a length set, by which every text would be cut or padded."""
        if self._backend.truncation is not None:
            self._backend.no_truncation()
        if self._backend.padding is not None:
            self._backend.no_padding()

    def tokenize(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids without special tokens, at most `max_length + 1` of them (one more tells of a cut tail)."""
        self._uncut()
        tokenized: list[NDArray[np.int32]] = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            # Half a surrogate pair, as cut JSON has it, would stop the tokenizer: it becomes a question mark.
            block = [text.encode("utf-8", "replace").decode("utf-8") for text in texts[start : start + _TEXTS_PER_CALL]]
            found = self._backend.encode_batch_fast(block, add_special_tokens=False)
            tokenized.extend(np.array(text.ids[: self.max_length + 1], np.int32) for text in found)
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

        return {name: torch.from_numpy(array) for name, array in self.pad_arrays(pairs).items()}

    def pad_arrays(self, pairs: Sequence[EncodedPair]) -> dict[str, NDArray[np.int64]]:
        """What `pad` gives, as arrays; needs no torch."""
        longest = max(len(pair.ids) for pair in pairs)
        ids = np.full((len(pairs), longest), self._pad_id, np.int64)
        mask = np.zeros((len(pairs), longest), np.int64)
        types = np.zeros((len(pairs), longest), np.int64)
        for row, pair in enumerate(pairs):
            ids[row, : len(pair.ids)] = pair.ids
            mask[row, : len(pair.ids)] = 1
            types[row, : len(pair.ids)] = self._types(pair)
        arrays = {"input_ids": ids, "attention_mask": mask}
        return arrays | {"token_type_ids": types} if self._uses_types else arrays

    def _types(self, pair: EncodedPair) -> NDArray[np.int64]:
        n_query = pair.n_first - len(self._prefix)
        n_passage = len(pair.ids) - self.n_special - n_query
        query, passage = np.full(n_query, self._query_type), np.full(n_passage, self._passage_type)
        return np.concatenate([self._prefix_types, query, self._middle_types, passage, self._suffix_types])


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy the model's files back") from error


def _kept(n_query: int, n_passage: int, room: int) -> tuple[int, int]:
    """Tokens kept of each text: the query whole and the passage's head in what is left, at least its first token.

    The tokenizers library's own rule ("longest_first"), by which other libraries cut, does the same while the query
    fills at most half of the room. A longer query it cuts to half, or to what a short passage leaves.
    """
    n_query = min(n_query, room - min(1, n_passage))
    return n_query, min(n_passage, room - n_query)


def length_batches(lengths: Sequence[int], max_tokens: int, n_workers: int = 1) -> list[NDArray[np.intp]]:
    """Indices in batches of similar length, longest first.

    Longest first, so that a batch which does not fit into memory fails at once. Equal lengths keep input order.

    Args:
        lengths: Tokens of each item.
        max_tokens: Most padded tokens (items times longest) in a batch; one item may exceed it alone.
        n_workers: How many batches are computed side by side. Batches are cut smaller where all are done sooner so.

    >>> [batch.tolist() for batch in length_batches([5, 2, 9, 2], max_tokens=10)]
    [[2], [0, 1], [3]]
    """
    tokens = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-tokens, kind="stable")
    longest_first = np.maximum(tokens[order], 1).tolist()
    starts = _starts(longest_first, max_tokens)
    if n_workers > 1 and 0 < len(starts) <= _MANY_BATCHES * n_workers:
        most = min(max_tokens, sum(longest_first))
        # Down to what gives everybody two batches.
        limits = [most * i // _N_LIMITS for i in range(_N_LIMITS, max(1, _N_LIMITS // (2 * n_workers)) - 1, -1)]
        ways = (_starts(longest_first, limit) for limit in limits)
        starts = min(ways, key=lambda way: _done_after(longest_first, way, n_workers))
    return np.split(order, starts[1:]) if starts else []


def _starts(longest_first: Sequence[int], max_tokens: int) -> list[int]:
    """Where batches start that hold as much as they may."""
    starts, start = list[int](), 0
    while start < len(longest_first):
        starts.append(start)
        start += max(1, max_tokens // longest_first[start])
    return starts


def _done_after(longest_first: Sequence[int], starts: Sequence[int], n_workers: int) -> int:
    """Tokens' worth of time until the last of so many workers is done with the batches that start there."""
    ends = [*starts[1:], len(longest_first)]
    costs = [(end - start) * longest_first[start] + _PASS_TOKENS for start, end in zip(starts, ends, strict=True)]
    return max(sum(costs[i] for i in share) for share in shared_out(costs, n_workers))


def longest_pair(config: Any, limit: int) -> int:
    """Most tokens of a pair: the limit, or less for a model that has fewer positions."""
    # RoBERTa's family counts positions from behind the padding index: these first ones are never used.
    unused = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return int(min(limit, config.max_position_embeddings - unused))
