"""A tuned model as a Haystack ranker.

Example:
    `pipeline.add_component("ranker", CrosstuneRanker("runs/mine", top_k=3))`
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

from crosstune.errors import ConfigError
from crosstune.integrations.framework import framework
from crosstune.integrations.ranking import Model, Threshold, best, check, complete, opened
from crosstune.scoring import Reranker

with framework("haystack", "haystack-ai"):
    from haystack import Document, component, default_from_dict, default_to_dict

_LOADING = threading.Lock()


@component
class CrosstuneRanker:
    """Ranks documents by their content and keeps the best.

    They come back as copies, ids kept, with a score: the calibrated probability where it is that of the ranking, else
    the score. The scores that all documents bring from retrieval count where they were a part of the score that was
    judged. Documents that occur twice are kept twice. The model is loaded by `warm_up`, which a pipeline and the first
    `run` call, as Haystack's own rankers do.

    Args:
        model: A model folder, its run folder, or a loaded `Reranker`; saved as the folder's path.
        top_k: Most documents kept; None for all.
        threshold: Least probability of what is kept, or "answers" for the model's own; None keeps all.

    Raises:
        ConfigError: `top_k` or `threshold` is out of range.
    """

    def __init__(self, model: Model, top_k: int | None = 10, threshold: Threshold = None) -> None:
        check(top_k, threshold)
        self.model = str(model.bundle.path if isinstance(model, Reranker) else model)
        self.top_k = top_k
        self.threshold = threshold
        self._reranker = model if isinstance(model, Reranker) else None

    def warm_up(self) -> None:
        """Load the model.

        Raises:
            BundleError: Not a crosstune model folder.
        """
        self._loaded()

    def _loaded(self) -> Reranker:
        with _LOADING:
            if self._reranker is None:
                self._reranker = opened(self.model)
            return self._reranker

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None, threshold: Threshold = None
    ) -> dict[str, list[Document]]:
        """The best documents for a question, best first.

        Args:
            top_k, threshold: Instead of the component's own.

        Raises:
            ConfigError: A document has no text, or `top_k` or `threshold` is out of range.
        """
        texts = [_text(place, document) for place, document in enumerate(documents)]
        scores = complete([document.score for document in documents])
        top_k = self.top_k if top_k is None else top_k
        threshold = self.threshold if threshold is None else threshold
        ranked = best(self._loaded(), query, texts, top_k, threshold, scores)
        return {"documents": [replace(documents[item.index], score=item.relevance) for item in ranked]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None, threshold: Threshold = None
    ) -> dict[str, list[Document]]:
        """As `run`, in a worker thread: the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.run, query, documents, top_k, threshold)

    def to_dict(self) -> dict[str, Any]:
        """What Haystack saves."""
        return default_to_dict(self, model=self.model, top_k=self.top_k, threshold=self.threshold)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CrosstuneRanker:
        """The component that was saved; its model is not loaded yet."""
        return default_from_dict(cls, data)


def _text(place: int, document: Document) -> str:
    if document.content is None:
        raise ConfigError(f"document {place} (id {document.id}) has no text; only documents with content can be ranked")
    return document.content
