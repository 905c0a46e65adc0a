"""A tuned model in LangChain: as a cross-encoder, and as a document compressor. Only langchain-core is needed.

Example:
    `CrosstuneCompressor(model="runs/mine", top_n=3).compress_documents(retriever.invoke(question), question)`
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crosstune.integrations.framework import framework
from crosstune.integrations.ranking import Model, Ranked, Threshold, best, check, opened
from crosstune.scoring import Reranker

with framework("langchain_core", "langchain-core"):
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.documents import BaseDocumentCompressor, Document
    from pydantic import ConfigDict, PrivateAttr

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks


class CrosstuneCrossEncoder(BaseCrossEncoder):
    """A crosstune model wherever LangChain takes a cross-encoder.

    A score is what `Reranker.rank` ranks by: the joined score, or the logit of a model that is a cross-encoder alone.
    It is no probability, and it is there for every model, also for one without a cross-encoder.

    Args:
        model: A model folder, its run folder, or a loaded `Reranker`.
    """

    def __init__(self, model: Model) -> None:
        self._reranker = opened(model)

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Scores of (question, text) pairs in input order; the texts of one question are ranked together."""
        places = defaultdict(list)
        for place, (query, _) in enumerate(text_pairs):
            places[query].append(place)
        scores = [0.0] * len(text_pairs)
        for query, of_query in places.items():
            for item in best(self._reranker, query, [text_pairs[place][1] for place in of_query]):
                scores[of_query[item.index]] = item.score
        return scores


class CrosstuneCompressor(BaseDocumentCompressor):
    """Ranks documents by their `page_content` and keeps the best.

    They come back as copies, ids kept, with `metadata["relevance_score"]`: the calibrated probability where it is
    that of the ranking, else the score. `acompress_documents` works in a worker thread (inherited from LangChain).

    Attributes:
        model: A model folder, its run folder, or a loaded `Reranker`.
        top_n: Most documents kept; None for all.
        threshold: Least probability of what is kept, or "answers" for the model's own; None keeps all.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: Model
    top_n: int | None = 5
    threshold: Threshold = None
    _reranker: Reranker = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Load the model."""
        check(self.top_n, self.threshold)
        self._reranker = opened(self.model)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents for a question, best first."""
        texts = [document.page_content for document in documents]
        ranked = best(self._reranker, query, texts, self.top_n, self.threshold)
        return [_with_relevance(documents[item.index], item) for item in ranked]


def _with_relevance(document: Document, item: Ranked) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, "relevance_score": item.relevance}})
