"""A tuned model as a RedisVL reranker, and search that asks Redis for more than it returns.

Example:
    `docs, scores = CrosstuneReranker("runs/mine", rank_by="body").rank("How do I reset it?", index.query(query))`
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from crosstune.errors import ConfigError
from crosstune.integrations.framework import framework
from crosstune.integrations.ranking import Model, Ranked, Threshold, best, check, complete, opened
from crosstune.scoring import Reranker

with framework("redisvl", "crosstune[redis]"):
    from pydantic import PrivateAttr
    from redisvl.query import CountQuery, FilterQuery, TextQuery
    from redisvl.query.query import BaseQuery, BaseVectorQuery
    from redisvl.schema import StorageType
    from redisvl.utils.rerank import BaseReranker

Docs: TypeAlias = list[dict[str, Any]]
Found: TypeAlias = tuple[Docs, list[float]] | Docs

_CONTENT = "content"
_DISTANCE = "vector_distance"


@dataclass(frozen=True, slots=True)
class _Call:
    """Settings of one call: the reranker's own, with what the call overrides."""

    limit: int | None
    return_score: bool
    rank_by: list[str]
    threshold: Threshold
    first_stage_scores: Sequence[float] | None


class CrosstuneReranker(BaseReranker):  # type: ignore[misc]  # RedisVL has no types
    """A crosstune model wherever RedisVL takes a reranker.

    Documents come back as copies with `rerank_score` (what the ranking is by), `rerank_probability` (None where it is
    not known) and `rank` (from 1); the returned scores are the `rerank_score`s, aligned with the documents. A text
    comes back as {"content": text}, as from RedisVL's own local reranker: there is then a place for the score, and
    dicts are what `BaseReranker` promises.

    When every document has a `vector_distance`, its negative is the first-stage score, which counts where that was a
    part of the score that was judged. Distances normalised by the query are similarities: use `retrieve_and_rerank`,
    which knows, or give `first_stage_scores`.

    Args:
        model: A model folder, its run folder, or a loaded `Reranker`.
        rank_by: Names of the text fields, joined by a blank as title and text were in training; None is "content".
        limit: Most documents returned.
        return_score: Whether scores are returned beside the documents.
        threshold: Least probability of what is returned, or "answers" for the model's own; None returns all.

    Raises:
        BundleError: Not a crosstune model folder.
        ConfigError: No such threshold.
    """

    threshold: Threshold = None
    _reranker: Reranker = PrivateAttr()

    def __init__(
        self,
        model: Model,
        rank_by: str | list[str] | None = None,
        limit: int = 5,
        return_score: bool = True,
        threshold: Threshold = None,
    ) -> None:
        check(None, threshold)
        reranker = opened(model)
        super().__init__(
            model=str(reranker.bundle.path),
            rank_by=_fields(rank_by),
            limit=limit,
            return_score=return_score,
            threshold=threshold,
        )
        self._reranker = reranker

    def rank(self, query: str, docs: Docs | list[str], **overrides: Any) -> Found:
        """Rank documents for a question, best first.

        Args:
            query: The question.
            docs: Texts, or dicts with the text fields.
            overrides: `limit`, `return_score`, `rank_by`, `threshold` for this call, and `first_stage_scores` of the
                documents, higher is better.

        Raises:
            ConfigError: A document lacks a text field, an override is unknown, or as `Reranker.rank`.
        """
        call = self._call(overrides)
        texts = _texts(docs, call.rank_by)
        scores = call.first_stage_scores if call.first_stage_scores is not None else _closeness(docs)
        ranked = best(self._reranker, query, texts, call.limit, call.threshold, scores)
        found = [_with_scores(docs[item.index], item) for item in ranked]
        return (found, [item.score for item in ranked]) if call.return_score else found

    async def arank(self, query: str, docs: Docs | list[str], **overrides: Any) -> Found:
        """As `rank`, in a worker thread: the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.rank, query, docs, **overrides)

    def _call(self, overrides: Mapping[str, Any]) -> _Call:
        settings = {name: getattr(self, name) for name in ("limit", "return_score", "rank_by", "threshold")}
        settings["first_stage_scores"] = None
        unknown = sorted(overrides.keys() - settings.keys())
        if unknown:
            raise ConfigError(f"unknown option {', '.join(unknown)}; choose from {', '.join(sorted(settings))}")
        settings.update(overrides)
        return _Call(**{**settings, "rank_by": _fields(settings["rank_by"])})


def retrieve_and_rerank(
    index: Any, query: Any, reranker: CrosstuneReranker, text: str, depth: int = 50, **overrides: Any
) -> Found:
    """Search a RedisVL index deeper than is returned, and rerank what it finds.

    Args:
        index: A `SearchIndex`.
        query: A `VectorQuery`, `VectorRangeQuery`, `TextQuery` or `FilterQuery`; it is left as it is. The text fields
            are fetched with what it asks for.
        text: The question.
        depth: Documents fetched, or as many as the query asks for when those are more.
        overrides: As of `CrosstuneReranker.rank`.

    Raises:
        ConfigError: Another kind of query, or as `CrosstuneReranker.rank`.
    """
    deeper = _deeper(query, depth, reranker._call(overrides).rank_by, index)
    docs = index.query(deeper)
    return reranker.rank(text, docs, **{"first_stage_scores": _first_stage(deeper, docs), **overrides})


async def aretrieve_and_rerank(
    index: Any, query: Any, reranker: CrosstuneReranker, text: str, depth: int = 50, **overrides: Any
) -> Found:
    """As `retrieve_and_rerank`, with an `AsyncSearchIndex`."""
    deeper = _deeper(query, depth, reranker._call(overrides).rank_by, index)
    docs = await index.query(deeper)
    return await reranker.arank(text, docs, **{"first_stage_scores": _first_stage(deeper, docs), **overrides})


def _deeper(query: Any, depth: int, fields: Sequence[str], index: Any) -> Any:
    """A copy of the query that fetches more documents, with their text."""
    if not isinstance(query, BaseQuery) or isinstance(query, CountQuery):
        raise ConfigError(
            f"{type(query).__name__} cannot be made deeper; ask it for num_results={depth} and the fields "
            f"{', '.join(fields)}, and give what `index.query` returns to `CrosstuneReranker.rank`"
        )
    if depth < 1:
        raise ConfigError(f"depth must be at least 1, found {depth}")
    deeper = copy.deepcopy(query)
    # RedisVL has no public way to change the number: it is in the query's text and in its paging.
    deeper._num_results = max(depth, query._num_results)
    deeper._built_query_string = None
    deeper.paging(0, deeper._num_results)
    # Without fields a document comes whole, text included, and adding one would drop the others; only JSON that is
    # searched by text or vector comes as one string.
    as_string = index.schema.index.storage_type is StorageType.JSON and not isinstance(query, FilterQuery)
    if deeper._return_fields or as_string:
        deeper.return_fields(*(name for name in fields if name not in query._return_fields))
    return deeper


def _first_stage(query: Any, docs: Docs) -> list[float] | None:
    """What the query says of the documents, where `rank` would not find it or not understand it."""
    if isinstance(query, BaseVectorQuery) and query._normalize_vector_distance:
        return complete([float(doc[_DISTANCE]) if _DISTANCE in doc else None for doc in docs])
    if isinstance(query, TextQuery):
        return complete([doc.get("score") for doc in docs])
    return None


def _fields(rank_by: str | list[str] | None) -> list[str]:
    return [rank_by] if isinstance(rank_by, str) else rank_by or [_CONTENT]


def _texts(docs: Docs | list[str], fields: Sequence[str]) -> list[str]:
    if isinstance(docs, str):
        raise ConfigError("documents must be a list of texts or dicts, found one text")
    return [_text(place, doc, fields) for place, doc in enumerate(docs)]


def _text(place: int, doc: Any, fields: Sequence[str]) -> str:
    if isinstance(doc, str):
        return doc
    if not isinstance(doc, Mapping):
        raise ConfigError(f"document {place} must be a text or a dict, found {type(doc).__name__}")
    lacking = [name for name in fields if not isinstance(doc.get(name), str)]
    if lacking:
        raise ConfigError(
            f"document {place} has no text in {', '.join(lacking)}; its keys are {', '.join(map(str, doc))}; name its "
            "text fields with rank_by, and ask for them in the query's return_fields"
        )
    return " ".join(doc[name] for name in fields if doc[name])


def _closeness(docs: Docs | list[str]) -> list[float] | None:
    """The documents' distances turned round: higher is better."""
    found = [doc.get(_DISTANCE) if isinstance(doc, Mapping) else None for doc in docs]
    return complete([None if distance is None else -float(distance) for distance in found])


def _with_scores(doc: dict[str, Any] | str, item: Ranked) -> dict[str, Any]:
    fields = {_CONTENT: doc} if isinstance(doc, str) else doc
    return {**fields, "rerank_score": item.score, "rerank_probability": item.probability, "rank": item.rank}
