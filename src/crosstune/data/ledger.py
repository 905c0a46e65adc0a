"""Which records give the same question, passage or pair: columns of hashes, compared by numpy."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from crosstune.data.records import Record
from crosstune.text import normalized

Ints = NDArray[np.int64]

SPLITS = (None, "train", "dev", "test")


class Spool(Sequence[str]):
    """Texts on disk, in the order they were added, read back by index.

    A million answers do not fit in bounded memory; near-duplicate detection needs them a few at a time.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the spool, deleted with it
        self._ends = array("Q", [0])

    def add(self, text: str) -> None:
        """Append a text."""
        raw = text.encode("utf-8", "surrogatepass")
        self._file.write(raw)
        self._ends.append(self._ends[-1] + len(raw))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, end = self._ends[index], self._ends[index + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode("utf-8", "surrogatepass")

    def close(self) -> None:
        """Delete the texts."""
        self._file.close()


class Chosen(Sequence[str]):
    """Some texts of a spool, by index."""

    def __init__(self, spool: Spool, indices: Ints) -> None:
        self._spool, self._indices = spool, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._spool[int(self._indices[index])]


@dataclass(frozen=True)
class PairTable:
    """Every accepted record, as numbers. All arrays but the last two have one entry for each record.

    Attributes:
        row: Row number.
        relevance: As labelled.
        split: Position in `SPLITS` of the split the row names; 0 for none.
        query, passage: Number of the record's question and passage, counted in order of first appearance.
        first_of_pair: The first record with the same question and passage; itself when it is the first.
        first_of_cells: The first record whose two cells are the same character for character.
        query_record, passage_record: For each question and passage, the record it appears in first.
    """

    row: Ints
    relevance: Ints
    split: Ints
    query: Ints
    passage: Ints
    first_of_pair: Ints
    first_of_cells: Ints
    query_record: Ints
    passage_record: Ints


class Ledger:
    """Collects records as 64-bit hashes of their texts, about 30 bytes for each, and the texts on disk."""

    def __init__(self) -> None:
        self._rows = array("Q")
        self._relevance, self._split = array("q"), array("q")
        self._query, self._passage, self._cells = array("Q"), array("Q"), array("Q")
        self.queries, self.passages = Spool(), Spool()

    def add(self, found: Record, cleaned: Record) -> None:
        """Enter a record; `found` has the cells as they stand in the file."""
        query, passage = normalized(cleaned.query), normalized(cleaned.passage)
        self._rows.append(cleaned.row)
        self._relevance.append(cleaned.relevance)
        self._split.append(SPLITS.index(cleaned.split))
        self._query.append(_hash(query))
        self._passage.append(_hash(passage))
        self._cells.append(_hash(f"{found.query}\x00{found.passage}"))
        self.queries.add(query)
        self.passages.add(passage)

    def table(self) -> PairTable:
        """Number questions and passages and find the repeats."""
        query, query_record = _numbered(np.frombuffer(self._query, dtype=np.uint64))
        passage, passage_record = _numbered(np.frombuffer(self._passage, dtype=np.uint64))
        pair, pair_record = _numbered(query * len(passage_record) + passage)
        cells, cells_record = _numbered(np.frombuffer(self._cells, dtype=np.uint64))
        return PairTable(
            row=np.frombuffer(self._rows, dtype=np.uint64).astype(np.int64),
            relevance=np.frombuffer(self._relevance, dtype=np.int64),
            split=np.frombuffer(self._split, dtype=np.int64),
            query=query,
            passage=passage,
            first_of_pair=pair_record[pair],
            first_of_cells=cells_record[cells],
            query_record=query_record,
            passage_record=passage_record,
        )

    def close(self) -> None:
        """Delete the texts."""
        self.queries.close()
        self.passages.close()


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _numbered(keys: NDArray[np.uint64] | Ints) -> tuple[Ints, Ints]:
    """Number of each key in order of first appearance, and where each number appears first."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    return number[inverse], first[order]
