"""Tuning from a live index: its search is the first stage, and answers are looked for among its passages."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.data import LoadedData, MappedAnswers, map_answers
from crosstune.data.collect import collection_of
from crosstune.errors import DataError
from crosstune.language import language_of
from crosstune.progress import Progress
from crosstune.protocols import Embedder, Retriever, Store
from crosstune.recipes.search import open_index
from crosstune.recipes.settings import TuneSettings
from crosstune.retrieval import Dense, Hybrid, Remembering
from crosstune.retrieval.live import LiveIndex, Mode
from crosstune.retrieval.stores import ForeignRedisStore, matching
from crosstune.types import Collection, Condition, Passage

# Below this share of answers found, the file and the index are hardly about the same documents.
_LEAST_FOUND = 0.1


@dataclass(frozen=True, slots=True)
class Live:
    """A live index, opened.

    Attributes:
        store: It.
        embedder: The one that it was made with.
        where: Conditions under which it is searched.
        passages: passage_id -> passage, of those that meet the conditions.
    """

    store: Store
    embedder: SentenceTransformerEmbedder
    where: tuple[Condition, ...]
    passages: Mapping[str, Passage]

    def first_stages(self, embedder: Embedder) -> tuple[Retriever, Retriever, Retriever]:
        """Its text, vector and hybrid search; the embedder is its own, perhaps with a cache."""
        modes: tuple[Mode, ...] = ("text", "vector")
        text, vector = (Remembering(LiveIndex(self.store, embedder, mode, self.where)) for mode in modes)
        return text, vector, Hybrid([vector, text])

    def dense(self, embedder: Embedder) -> Dense:
        """Exact search over its vectors, for comparing passages while mining."""
        return Dense(self.passages, embedder, vectors=self.store.vectors(list(self.passages)))

    def sentence(self) -> str:
        """What it is, for the user."""
        filtered = f", of which {len(self.passages):,} meet the conditions" if self.where else ""
        return (
            f"First stages are the live index {self.store.location}: {self.store.count():,} passages{filtered}, "
            f"embedded with {self.store.spec.embedder_source!r}."
        )


def open_live(settings: TuneSettings) -> Live | None:
    """Open the live index that the settings name; None when they name none.

    Raises:
        ConfigError: Another embedder than the index's own is asked for.
        DataError: No passage meets the conditions.
        StoreError: It cannot be used, or crosstune did not make it and its vectors are not from the embedder.
    """
    if settings.retriever is None:
        return None
    store, embedder = open_index(settings.retriever, settings.embedder)
    if isinstance(store, ForeignRedisStore):
        found = store.passages(settings.where)  # its tags are its own: only Redis knows which meet a condition
    else:
        found = matching(store.passages(), settings.where, store.spec.fields)
    passages = {passage.passage_id: passage for passage in found}
    if not passages:
        raise DataError(f"no passage of the index {store.location} meets the conditions; loosen them")
    return Live(store, embedder, settings.where, passages)


@dataclass(frozen=True, slots=True)
class OntoIndex:
    """A file's questions judged by an index's passages.

    Attributes:
        loaded: The data, its passages those of the index.
        sentence: How the answers were found, for the user.
        missing: (question, answer) of the answers that are not in the index.
    """

    loaded: LoadedData
    sentence: str
    missing: tuple[tuple[str, str], ...]


def onto_index(file: LoadedData, live: Live, progress: Progress) -> OntoIndex:
    """Look for a file's answers among the passages of an index, and judge by these.

    Questions none of whose answers is in the index are left out.

    Raises:
        DataError: Hardly an answer is in the index.
    """
    old = file.collection
    mapped = map_answers(old.passages, live.passages, language_of(live.store.spec.language), progress)
    n_found, n_answers = len(mapped.passage_ids), len(old.passages)
    if n_found < _LEAST_FOUND * n_answers:
        raise DataError(
            f"only {n_found:,} of {n_answers:,} answers are in the index {live.store.location}: it must hold the "
            "documents that the answers are from; check the location, or index them first"
        )
    qrels = {query_id: _judged(judged, mapped) for query_id, judged in old.qrels.items()}
    kept = {query_id: query for query_id, query in old.queries.items() if any(qrels.get(query_id, {}).values())}
    new = collection_of(live.passages, kept, {query_id: qrels[query_id] for query_id in kept})
    by_user = file.splits_by_user
    if by_user is not None:
        by_user = {query_id: name for query_id, name in by_user.items() if query_id in kept}
    loaded = replace(file, collection=new, splits_by_user=by_user)
    return OntoIndex(loaded, _sentence(mapped, len(old.queries) - len(kept)), _missing(old, mapped))


def _judged(judged: Mapping[str, int], mapped: MappedAnswers) -> dict[str, int]:
    """passage_id of the index -> the highest relevance of an answer that it holds."""
    found: dict[str, int] = {}
    for answer_id, relevance in judged.items():
        for passage_id in mapped.passage_ids.get(answer_id, ()):
            found[passage_id] = max(found.get(passage_id, 0), relevance)
    return found


def _sentence(mapped: MappedAnswers, n_lost: int) -> str:
    how = ", ".join(f"{n:,} {name}" for name, n in mapped.counts().items() if n)
    lost = f" {n_lost:,} questions have no answer in the index and were left out." if n_lost else ""
    listed = " The answers that are not there are listed in unmapped.csv." if mapped.unmapped else ""
    return f"Answers found among the passages of the index: {how}.{lost}{listed}"


def _missing(old: Collection, mapped: MappedAnswers) -> tuple[tuple[str, str], ...]:
    lost = set(mapped.unmapped)
    return tuple(
        (old.queries[query_id].text, old.passages[answer_id].text)
        for query_id, judged in old.qrels.items()
        for answer_id, relevance in judged.items()
        if relevance > 0 and answer_id in lost
    )


def write_missing(missing: Iterable[tuple[str, str]], path: Path) -> None:
    """Write the answers that are not in the index with their questions, one row a question."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows(missing)
