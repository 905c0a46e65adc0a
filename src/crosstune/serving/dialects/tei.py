"""Text Embeddings Inference (TEI)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosstune.serving.dialects import fields
from crosstune.serving.dialects.base import FIRST_STAGE_SCHEMA, Body, Envelope, Ranking, RerankRequest
from crosstune.serving.refusal import Reason, Refusal

_ERROR_TYPES = {
    Reason.EMPTY: "Empty",
    Reason.OVERLOADED: "Overloaded",
    Reason.NOT_READY: "Unhealthy",
    Reason.FAILED: "Backend",
}
# TEI tells an overload by 429, and its clients wait on that.
_STATUSES = {Reason.OVERLOADED: 429}


class Tei:
    """`{query, texts}` to a bare list `[{index, score}]`."""

    name = "tei"
    schema: Mapping[str, Any] = {
        "title": "Text Embeddings Inference",
        "type": "object",
        "required": ["query", "texts"],
        "properties": {
            "query": {"type": "string"},
            "texts": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "raw_scores": {"type": ["boolean", "null"], "default": False},
            "return_text": {"type": ["boolean", "null"], "default": False},
            "truncate": {"description": "Not read: a text that is too long is always cut at its end."},
            "truncation_direction": {"enum": ["Right", "right", None]},
            "first_stage_scores": FIRST_STAGE_SCHEMA,
        },
    }

    def recognises(self, body: Body) -> bool:
        """By `texts`, which nobody else has."""
        return "texts" in body

    def read(self, body: Body) -> RerankRequest:
        """See `Dialect`. `top_n` is not read: LiteLLM sends it here, but TEI answers for every text."""
        if body.get("truncation_direction") not in (None, "Right", "right"):
            raise Refusal(
                Reason.INVALID,
                '"truncation_direction" must be "Right": texts are cut at their end alone; leave it out',
            )
        query, texts = fields.text(body, "query"), fields.texts(body, "texts")
        return RerankRequest(
            query,
            texts,
            texts,
            fields.first_stage_scores(body, len(texts)),
            None,
            fields.flag(body, "return_text"),
            fields.flag(body, "raw_scores"),
        )

    def answer(self, request: RerankRequest, ranking: Ranking, envelope: Envelope) -> Any:
        """See `Dialect`."""
        return [
            {"index": item.index, "score": item.score}
            | ({"text": request.texts[item.index]} if request.return_documents else {})
            for item in ranking.items
        ]

    def error(self, refusal: Refusal, envelope: Envelope) -> tuple[int, Mapping[str, Any]]:
        """See `Dialect`."""
        status = _STATUSES.get(refusal.reason, refusal.reason.status)
        return status, {"error": str(refusal), "error_type": _ERROR_TYPES.get(refusal.reason, "Validation")}
