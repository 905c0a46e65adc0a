"""When a question counts as one of the train questions asked again."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.known_questions import KnownQuestions
from crosstune.progress import Progress
from crosstune.protocols import Embedder
from crosstune.recipes.prepare import Prepared, Similarity, queries_of
from crosstune.text import content_hash
from crosstune.types import Collection, Query, Splits

# Share of new questions, those that nobody has asked before, that may be taken for a known one.
MISTAKEN = 0.01
# Beside scores that are log odds, evidence that so few new questions give counts as much as it is rare.
KNOWN_WEIGHT = -math.log(MISTAKEN)
_LEAST_QUESTIONS = 50  # fewer say nothing of so small a share
_HIGHEST = 1 - 1e-3  # half-precision vectors of the same question can be as far apart
_MOST_QUESTIONS = 2000
_ROWS_AT_ONCE = 256

Vectors = NDArray[np.float32]


def known_questions(prepared: Prepared, embedder: Embedder, progress: Progress) -> KnownQuestions | None:
    """The train questions, and how close a question must be to one of them to count as it.

    Dev questions, and train questions beside the others, stand for new questions: of these only one in a hundred is as
    close to a train question that has other answers. The stricter of the two thresholds counts, since train questions
    were trained apart. With fewer than a hundred questions it is the closest of them that sets it.

    Args:
        prepared: Splits and texts.
        embedder: Of questions, as tuned.
        progress: Told of the embedding.

    Returns:
        None for too few questions to tell, or where no cosine tells new questions from known ones.
    """
    collection, splits = prepared.collection, prepared.splits
    if len(splits.train) + len(splits.dev) < _LEAST_QUESTIONS:
        return None
    train, dev = (
        embedder.embed_queries([query.text for query in queries_of(collection, query_ids)], progress)
        for query_ids in (splits.train, splits.dev)
    )
    saved = train.astype(np.float16).astype(np.float32)  # judged as they will be used
    others = _Others(collection, splits, saved)
    threshold = max(_rare(others.closest(splits.train, train)), _rare(others.closest(splits.dev, dev)))
    of_passage: dict[str, list[int]] = defaultdict(list)
    for place, query_id in enumerate(splits.train):
        for passage_id in sorted(collection.relevant(query_id)):
            of_passage[content_hash(collection.passages[passage_id].full_text)].append(place)
    return KnownQuestions(saved, of_passage, threshold) if threshold < _HIGHEST else None


def known_scores(
    known: KnownQuestions, collection: Collection, queries: Sequence[Query], embedder: Embedder, progress: Progress
) -> Similarity:
    """(query_id, passage_ids) -> `KnownQuestions.scores`, for the queries given here."""
    vectors = embedder.embed_queries([query.text for query in queries], progress)
    rows = {query.query_id: row for row, query in enumerate(queries)}

    def of_query(query_id: str, passage_ids: Sequence[str]) -> NDArray[np.float64]:
        texts = [collection.passages[passage_id].full_text for passage_id in passage_ids]
        return known.scores(vectors[rows[query_id]], texts)

    return of_query


def _rare(closest: NDArray[np.float64]) -> float:
    """The cosine that a new question exceeds with a chance of `MISTAKEN`, as well as so many of them can tell."""
    n = len(closest)
    if not n:
        return -1.0
    return float(np.sort(closest)[min(n, math.ceil((n + 1) * (1 - MISTAKEN))) - 1])


class _Others:
    """For every question the train questions that ask something else.

    Args:
        collection, splits: The data.
        vectors: (train questions, dimensions).
    """

    def __init__(self, collection: Collection, splits: Splits, vectors: Vectors) -> None:
        self._collection, self._groups, self._vectors = collection, splits.groups, vectors
        self._same: Mapping[str, list[int]] = defaultdict(list)
        for place, query_id in enumerate(splits.train):
            for key in self._keys(query_id):
                self._same[key].append(place)

    def _keys(self, query_id: str) -> list[str]:
        """What questions that ask the same share: their group, or an answer."""
        return [f"group {self._groups[query_id]}", *(f"passage {pid}" for pid in self._collection.relevant(query_id))]

    def closest(self, query_ids: Sequence[str], vectors: Vectors) -> NDArray[np.float64]:
        """(sampled questions,) each one's cosine with the closest train question that asks something else."""
        drawn = np.random.default_rng(0).permutation(len(query_ids))[:_MOST_QUESTIONS]
        found = []
        for rows in np.array_split(drawn, max(1, math.ceil(len(drawn) / _ROWS_AT_ONCE))):
            cosines = vectors[rows] @ self._vectors.T  # (questions, train questions)
            for cosine, row in zip(cosines, rows.tolist(), strict=True):
                cosine[[place for key in self._keys(query_ids[row]) for place in self._same.get(key, ())]] = -1.0
                found.append(cosine.max(initial=-1.0))
        return np.array(found, np.float64)
