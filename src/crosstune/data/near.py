"""Near-duplicate texts: MinHash over character sequences finds the candidates, the exact Jaccard decides.

A text is the set of its character 4-grams under `crosstune.text.normalized`, which works for every script.
Two texts are near-duplicates when the Jaccard similarity of their sets reaches a threshold and their numbers
are the same ("within 30 days" and "within 60 days" are two answers). Candidates come from locality-sensitive
hashing (Broder 1997; b-bit signatures after Li and König 2010): 64 hashes cut to 16 bits, in bands of 4, so
that a band is one 64-bit word and all comparing is done by numpy on whole columns. The bands miss a pair at
the threshold of 0.8 with probability (1 - 0.8^4)^16 = 0.0002.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from crosstune.progress import Progress, silent
from crosstune.text import normalized
from crosstune.types import Collection

THRESHOLD = 0.8

_N_GRAM = 4
_N_HASHES = 64
_SEED = 7
_CHUNK_CHARACTERS = 2_000_000
# Buckets of up to this many texts are compared all with all; in larger ones each with the first and the one
# before it, which still joins the whole bucket and keeps the work linear.
_MAX_ALL_PAIRS = 24
_ESTIMATE_SLACK = 0.15  # three standard deviations of a 64-hash estimate at 0.8
NUMBER = re.compile(r"\d+")
"""A number as two texts must share it."""

Pairs = NDArray[np.int64]


def near_duplicate_pairs(
    texts: Sequence[str], threshold: float = THRESHOLD, progress: Progress = silent
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of texts that are equal or near-duplicates, sorted.

    Of more than 24 texts that are all alike, not every pair is given, but pairs that connect them all.

    Args:
        texts: Any texts; they are normalised here.
        threshold: Smallest Jaccard similarity of the character 4-grams.

    >>> near_duplicate_pairs(["How do I cancel my order?", "How do I cancel my orders?", "Where is it?"])
    [(0, 1)]
    """
    return similar_pairs([normalized(text) for text in texts], threshold, progress)


def near_duplicate_passages(collection: Collection) -> dict[str, frozenset[str]]:
    """passage_id -> ids of its near-duplicates among the other passages; passages without any are absent."""
    ids = list(collection.passages)
    found: dict[str, set[str]] = {}
    for i, j in near_duplicate_pairs([collection.passages[pid].full_text for pid in ids]):
        found.setdefault(ids[i], set()).add(ids[j])
        found.setdefault(ids[j], set()).add(ids[i])
    return {pid: frozenset(others) for pid, others in found.items()}


def similar_pairs(
    texts: Sequence[str], threshold: float = THRESHOLD, progress: Progress = silent
) -> list[tuple[int, int]]:
    """`near_duplicate_pairs` of texts that are normalised already; reads them by index, a chunk at a time."""
    if len(texts) < 2:
        return []
    signatures = _signatures(texts, progress)
    candidates = _candidates(signatures, threshold - _ESTIMATE_SLACK)
    return [(int(i), int(j)) for i, j in candidates if _alike(texts[i], texts[j], threshold)]


def _alike(a: str, b: str, threshold: float) -> bool:
    if a == b:
        return True
    if sorted(NUMBER.findall(a)) != sorted(NUMBER.findall(b)):
        return False
    grams_a, grams_b = grams(a), grams(b)
    shared = len(grams_a & grams_b)
    return shared >= threshold * (len(grams_a) + len(grams_b) - shared)


def grams(text: str) -> set[str]:
    """Character 4-grams of a normalised text; a shorter one is filled up with blanks."""
    padded = text.ljust(_N_GRAM)
    return {padded[i : i + _N_GRAM] for i in range(len(padded) - _N_GRAM + 1)}


def _signatures(texts: Sequence[str], progress: Progress) -> NDArray[np.uint16]:
    """(len(texts), 64): the low 16 bits of each MinHash value."""
    signatures = np.empty((len(texts), _N_HASHES), dtype=np.uint16)
    done = 0
    with progress("looking for near-duplicates", len(texts)) as advance:
        for chunk in _chunks(texts):
            hashes, offsets = _gram_hashes(chunk)
            digests = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, _N_HASHES, _SEED)
            rows = np.array(digests.to_rows(), dtype=np.uint32)
            signatures[done : done + len(chunk)] = rows.astype(np.uint16)
            done += len(chunk)
            advance(len(chunk))
    return signatures


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Runs of texts that together have a bounded number of characters."""
    chunk: list[str] = []
    n_characters = 0
    for index in range(len(texts)):
        text = texts[index].ljust(_N_GRAM)
        if chunk and n_characters + len(text) > _CHUNK_CHARACTERS:
            yield chunk
            chunk, n_characters = [], 0
        chunk.append(text)
        n_characters += len(text)
    yield chunk


def _gram_hashes(chunk: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """One 64-bit hash for each 4-gram of each text, end to end, and the offsets of each text's hashes."""
    codes = np.frombuffer("".join(chunk).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.array([len(text) for text in chunk])
    codes64 = codes.astype(np.uint64)
    n_windows = len(codes) - _N_GRAM + 1
    hashes = np.zeros(n_windows, dtype=np.uint64)
    for position in range(_N_GRAM):
        # 21 bits hold any code point; the multiplication mixes them before the next one is added.
        hashes = (hashes ^ codes64[position : position + n_windows]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    ends = np.cumsum(lengths)
    inside = np.ones(n_windows, dtype=bool)
    for back in range(1, _N_GRAM):  # windows that begin in one text and end in the next
        inside[ends[:-1] - back] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - _N_GRAM + 1)]).astype(np.uint64)
    return np.ascontiguousarray(hashes[inside]), offsets


def _candidates(signatures: NDArray[np.uint16], least: float) -> Pairs:
    """(n, 2) index pairs that share a band and whose estimated similarity is at least `least`, sorted."""
    bands = signatures.view(np.uint64)  # (texts, 16)
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in range(bands.shape[1]):
        keys = np.ascontiguousarray(bands[:, band])
        order = np.argsort(keys, kind="stable")
        found.extend(_estimated(signatures, pairs, least) for pairs in _bucket_pairs(keys, order))
    return np.unique(np.concatenate(found), axis=0)


def _bucket_pairs(keys: NDArray[np.uint64], order: NDArray[np.int64]) -> Iterator[Pairs]:
    """Pairs of texts whose band is equal, `order` being a stable sort of the bands."""
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, len(ordered)))
    small = (sizes > 1) & (sizes <= _MAX_ALL_PAIRS)
    for distance in range(1, int(sizes[small].max(initial=1))):
        first = _runs(starts[small], sizes[small] - distance)
        yield np.column_stack([order[first], order[first + distance]])
    large = sizes > _MAX_ALL_PAIRS
    later = _runs(starts[large] + 1, sizes[large] - 1)
    heads = np.repeat(starts[large], sizes[large] - 1)
    yield np.column_stack([order[heads], order[later]])
    yield np.column_stack([order[later - 1], order[later]])


def _runs(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, ... for each start, end to end; lengths under 1 give nothing."""
    kept = lengths > 0
    starts, lengths = starts[kept], lengths[kept]
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _estimated(signatures: NDArray[np.uint16], pairs: Pairs, least: float) -> Pairs:
    """The pairs whose signatures agree in at least `least` of their hashes."""
    kept = []
    for start in range(0, len(pairs), 200_000):
        block = pairs[start : start + 200_000]
        agreement = (signatures[block[:, 0]] == signatures[block[:, 1]]).mean(axis=1)
        kept.append(block[agreement >= least])
    return np.concatenate(kept) if kept else pairs
