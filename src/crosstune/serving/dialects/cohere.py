"""Cohere v1 and v2, and Jina: one shape, which vLLM, LiteLLM, LangChain, RedisVL and most others speak too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from crosstune.serving.dialects import fields
from crosstune.serving.dialects.base import FIRST_STAGE_SCHEMA, Body, Envelope, Ranking, RerankRequest
from crosstune.serving.refusal import Refusal

_DOCUMENTS_PER_SEARCH_UNIT = 100


class Cohere:
    """`{query, documents, top_n}` to `{results: [{index, relevance_score}]}`.

    The answer holds what each reader looks for: Cohere's `meta`, Jina's `usage` and `model`.
    """

    name = "cohere"
    schema: Mapping[str, Any] = {
        "title": "Cohere v1 and v2, Jina",
        "type": "object",
        "required": ["query", "documents"],
        "properties": {
            "query": {"type": "string"},
            "documents": {"type": "array", "minItems": 1, "items": {"type": ["string", "object"]}},
            "rank_fields": {"type": ["array", "null"], "items": {"type": "string"}, "default": ["text"]},
            "top_n": {"type": ["integer", "null"], "minimum": 0, "description": "0 or absent: all."},
            "return_documents": {"type": ["boolean", "null"], "default": False},
            "raw_scores": {"type": ["boolean", "null"], "default": False},
            "model": {"description": "Not read: one model is served."},
            "first_stage_scores": FIRST_STAGE_SCHEMA,
        },
    }

    def recognises(self, body: Body) -> bool:
        """Every body that no other dialect claims."""
        return True

    def read(self, body: Body) -> RerankRequest:
        """See `Dialect`."""
        query, documents = fields.text(body, "query"), fields.items(body, "documents")
        wanted = fields.names(body, "rank_fields", ("text",))
        return RerankRequest(
            query,
            tuple(fields.document_text(document, place, wanted) for place, document in enumerate(documents)),
            tuple(documents),
            fields.first_stage_scores(body, len(documents)),
            fields.most(body, "top_n"),
            fields.flag(body, "return_documents"),
            fields.flag(body, "raw_scores"),
        )

    def answer(self, request: RerankRequest, ranking: Ranking, envelope: Envelope) -> Any:
        """See `Dialect`."""
        results: list[dict[str, Any]] = [
            {"index": item.index, "relevance_score": item.score} for item in ranking.items[: request.top_n]
        ]
        if request.return_documents:
            for result in results:
                result["document"] = _echo(request, result["index"])
        tokens = ranking.n_tokens
        meta: dict[str, Any] = {
            "api_version": {"version": "2" if envelope.path.startswith("/v2/") else "1"},
            "billed_units": {"search_units": math.ceil(len(request.texts) / _DOCUMENTS_PER_SEARCH_UNIT)},
            "tokens": {"input_tokens": tokens, "output_tokens": 0},
        }
        if ranking.warnings:
            meta["warnings"] = list(ranking.warnings)
        return {
            "id": envelope.request_id,
            "model": envelope.model,
            "results": results,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "meta": meta,
        }

    def error(self, refusal: Refusal, envelope: Envelope) -> tuple[int, Mapping[str, Any]]:
        """Cohere reads `message`, Jina `detail`, vLLM's and OpenAI's clients `error`."""
        message, code = str(refusal), refusal.reason.code
        error = {"message": message, "type": code, "param": None, "code": refusal.reason.status}
        return refusal.reason.status, {
            "id": envelope.request_id,
            "message": message,
            "detail": message,
            "error": error,
        }


def _echo(request: RerankRequest, index: int) -> Mapping[str, Any]:
    """An object with `text`, since LiteLLM refuses any other."""
    given = request.documents[index]
    text = {"text": request.texts[index]}
    return text | dict(given) if isinstance(given, Mapping) else text
