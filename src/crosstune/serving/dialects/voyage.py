"""Voyage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosstune.serving.dialects import fields
from crosstune.serving.dialects.base import FIRST_STAGE_SCHEMA, Body, Envelope, Ranking, RerankRequest
from crosstune.serving.refusal import Refusal


class Voyage:
    """`{query, documents, top_k}` to `{data: [{index, relevance_score}]}`."""

    name = "voyage"
    schema: Mapping[str, Any] = {
        "title": "Voyage (told by top_k or truncation)",
        "type": "object",
        "required": ["query", "documents"],
        "properties": {
            "query": {"type": "string"},
            "documents": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "top_k": {"type": ["integer", "null"], "minimum": 0, "description": "0 or absent: all."},
            "truncation": {"description": "Not read: a document that is too long is always cut at its end."},
            "return_documents": {"type": ["boolean", "null"], "default": False},
            "model": {"description": "Not read: one model is served."},
            "first_stage_scores": FIRST_STAGE_SCHEMA,
        },
    }

    def recognises(self, body: Body) -> bool:
        """By two fields that Cohere and Jina do not have."""
        return "top_k" in body or "truncation" in body

    def read(self, body: Body) -> RerankRequest:
        """See `Dialect`."""
        query, documents = fields.text(body, "query"), fields.texts(body, "documents")
        return RerankRequest(
            query,
            documents,
            documents,
            fields.first_stage_scores(body, len(documents)),
            fields.most(body, "top_k"),
            fields.flag(body, "return_documents"),
            fields.flag(body, "raw_scores"),
        )

    def answer(self, request: RerankRequest, ranking: Ranking, envelope: Envelope) -> Any:
        """See `Dialect`."""
        data = [
            {"index": item.index, "relevance_score": item.score}
            | ({"document": request.texts[item.index]} if request.return_documents else {})
            for item in ranking.items[: request.top_n]
        ]
        return {
            "object": "list",
            "data": data,
            "model": envelope.model,
            "usage": {"total_tokens": ranking.n_tokens},
        }

    def error(self, refusal: Refusal, envelope: Envelope) -> tuple[int, Mapping[str, Any]]:
        """See `Dialect`."""
        return refusal.reason.status, {"detail": str(refusal)}
