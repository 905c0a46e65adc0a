"""What a bi-encoder says of question and passage: their cosine, and whether the question was asked before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.known_questions import KnownQuestions
from crosstune.progress import Progress, silent
from crosstune.protocols import Embedder
from crosstune.scoring.cache import PairCache
from crosstune.text import content_hash
from crosstune.types import ScoreKind

# Vectors kept in memory, those used last: about 80 MB at 384 dimensions.
_MOST_KEPT = 50_000


class CosineScorer:
    """A bi-encoder as a scorer of pairs.

    Passages come again from question to question, so their vectors are kept under the hash of their text.

    Args:
        embedder: Text to unit vectors.
        cache: Of cosines, in a file.
    """

    score_kind = ScoreKind.SIMILARITY

    def __init__(self, embedder: Embedder, cache: PairCache | None = None) -> None:
        self._embedder = embedder
        self._cache = cache
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._asked: tuple[list[str], NDArray[np.float32]] = ([], np.empty((0, 0), np.float32))
        self._lock = threading.Lock()

    def score_pairs(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> NDArray[np.float64]:
        """The cosine of each (query, passage) pair, in input order."""
        if self._cache is not None:
            return self._cache.score_pairs(pairs, lambda missing: self._cosines(missing, progress))
        return self._cosines(pairs, progress)

    def remember(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep vectors (texts, dimensions) that this embedder gave somewhere else, such as in an index."""
        self._keep(dict(zip(map(content_hash, texts), vectors, strict=True)))

    def with_cache(self, cache: PairCache) -> CosineScorer:
        """The same over a cache."""
        return CosineScorer(self._embedder, cache)

    def _cosines(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> NDArray[np.float64]:
        if not pairs:
            return np.empty(0, np.float64)
        queries = list(dict.fromkeys(query for query, _ in pairs))
        of_query = dict(zip(queries, self.embed_queries(queries, progress), strict=True))
        of_passage = self._passages(list(dict.fromkeys(passage for _, passage in pairs)), progress)
        return np.array([float(of_query[q].astype(np.float64) @ of_passage[p]) for q, p in pairs])

    def embed_queries(self, queries: list[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(queries, dimensions); the same queries once more cost nothing."""
        asked, vectors = self._asked
        if asked != queries:
            vectors = self._embedder.embed_queries(queries, progress)
            self._asked = (queries, vectors)
        return vectors

    def _passages(self, texts: list[str], progress: Progress) -> dict[str, NDArray[np.float32]]:
        keys = {text: content_hash(text) for text in texts}
        with self._lock:
            found = {text: self._kept[keys[text]] for text in texts if keys[text] in self._kept}
        new = [text for text in texts if text not in found]
        if new:
            found |= dict(zip(new, self._embedder.embed_passages(new, progress), strict=True))
        self._keep({keys[text]: vector for text, vector in found.items()})
        return found

    def _keep(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        with self._lock:
            for key, vector in vectors.items():
                self._kept[key] = vector
                self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)


class KnownQuestionScorer:
    """Whether a passage answers a known question that is asked again, as a scorer of pairs.

    Args:
        embed: Questions to unit vectors, by the bi-encoder that embedded the known ones.
        known: The known ones.
        cache: Of scores, in a file.
    """

    def __init__(
        self,
        embed: Callable[[list[str]], NDArray[np.float32]],
        known: KnownQuestions,
        cache: PairCache | None = None,
    ) -> None:
        self._embed, self._known, self._cache = embed, known, cache

    def score_pairs(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """`KnownQuestions.scores` of each (query, passage) pair, in input order."""
        return self._scores(pairs) if self._cache is None else self._cache.score_pairs(pairs, self._scores)

    def with_cache(self, cache: PairCache, cosines: CosineScorer) -> KnownQuestionScorer:
        """The same over a cache, with questions embedded where their cosines are computed."""
        return KnownQuestionScorer(cosines.embed_queries, self._known, cache)

    def _scores(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        places: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(pairs):
            places.setdefault(query, []).append(place)
        scores = np.empty(len(pairs), np.float64)
        vectors = self._embed(list(places)) if places else ()
        for of_query, vector in zip(places.values(), vectors, strict=True):
            scores[of_query] = self._known.scores(vector, [pairs[place][1] for place in of_query])
        return scores
