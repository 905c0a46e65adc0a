"""A tuned model as a LlamaIndex node postprocessor. Only llama-index-core is needed.

Example:
    `index.as_query_engine(similarity_top_k=50, node_postprocessors=[CrosstuneRerank("runs/mine", top_n=3)])`
"""

from __future__ import annotations

from typing import Any

from crosstune.errors import ConfigError
from crosstune.integrations.framework import framework
from crosstune.integrations.ranking import Model, Ranked, Threshold, best, check, complete, opened
from crosstune.scoring import Reranker

with framework("llama_index", "llama-index-core"):
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

_RETRIEVAL_SCORE = "retrieval_score"


class CrosstuneRerank(BaseNodePostprocessor):
    """Ranks nodes for the question and keeps the best.

    Nodes come back with a plain float as score: the calibrated probability where it is that of the ranking, else the
    score. The scores that all nodes bring from retrieval count where they were a part of the score that was judged.
    `apostprocess_nodes` works in a worker thread (inherited from LlamaIndex).

    Args:
        model: A model folder, its run folder, or a loaded `Reranker`.
        top_n: Most nodes kept; None for all.
        threshold: Least probability of what is kept, or "answers" for the model's own; None keeps all.
        keep_retrieval_score: Put the score that a node came with into `metadata["retrieval_score"]` of a copy; no
            language or embedding model gets to read it.
        metadata_mode: Which metadata is read with the text. None of it, as in training, unless the model was tuned on
            texts with metadata.

    Raises:
        BundleError: Not a crosstune model folder.
        ConfigError: `top_n` or `threshold` is out of range.
    """

    model: str
    top_n: int | None
    threshold: Threshold
    keep_retrieval_score: bool
    metadata_mode: MetadataMode
    _reranker: Reranker = PrivateAttr()

    def __init__(
        self,
        model: Model,
        top_n: int | None = 5,
        threshold: Threshold = None,
        keep_retrieval_score: bool = False,
        metadata_mode: MetadataMode = MetadataMode.NONE,
    ) -> None:
        check(top_n, threshold)
        reranker = opened(model)
        fields: dict[str, Any] = {
            "model": str(reranker.bundle.path),
            "top_n": top_n,
            "threshold": threshold,
            "keep_retrieval_score": keep_retrieval_score,
            "metadata_mode": metadata_mode,
        }
        super().__init__(**fields)
        self._reranker = reranker

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex saves it."""
        return "CrosstuneRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ConfigError("reranking needs the question; give query_str or query_bundle")
        texts = [node.node.get_content(metadata_mode=self.metadata_mode) for node in nodes]
        scores = complete([node.score for node in nodes])
        ranked = best(self._reranker, query_bundle.query_str, texts, self.top_n, self.threshold, scores)
        return [self._with_score(nodes[item.index], item) for item in ranked]

    def _with_score(self, found: NodeWithScore, item: Ranked) -> NodeWithScore:
        node = found.node
        if self.keep_retrieval_score:
            node = node.model_copy(
                update={
                    "metadata": {**node.metadata, _RETRIEVAL_SCORE: found.score},
                    "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, _RETRIEVAL_SCORE],
                    "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, _RETRIEVAL_SCORE],
                }
            )
        return NodeWithScore(node=node, score=item.relevance)
