"""What all dialects share: a request and its ranking in our own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from crosstune.serving.refusal import Refusal

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """A request, whatever its dialect.

    Attributes:
        query: The question.
        texts: The documents' texts, in input order.
        documents: The documents as the client gave them.
        first_stage_scores: One for each text; None when not given.
        top_n: Most documents to return; None for all.
        return_documents: Whether to send the documents back.
        raw_scores: Whether to give the score that the ranking is by, in place of a value from 0 to 1.
    """

    query: str
    texts: tuple[str, ...]
    documents: tuple[Any, ...]
    first_stage_scores: tuple[float, ...] | None
    top_n: int | None
    return_documents: bool
    raw_scores: bool


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document's place in a ranking: its index in the request and its score."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """All documents of a request.

    Attributes:
        items: Best first, with scores that never rise.
        n_scored: How many of them were reached before the deadline.
        n_tokens: Tokens of the pairs that the cross-encoder read; 0 for a model without one.
        warnings: What the client should know.
    """

    items: tuple[Ranked, ...]
    n_scored: int
    n_tokens: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What surrounds an answer: the request's id and path, and the model's name."""

    request_id: str
    path: str
    model: str


class Dialect(Protocol):
    """How one family of clients asks, and reads answers and errors."""

    name: str
    schema: Mapping[str, Any]
    """JSON schema of a request."""

    def recognises(self, body: Body) -> bool:
        """Whether the body is in this dialect."""
        ...

    def read(self, body: Body) -> RerankRequest:
        """The request.

        Raises:
            Refusal: A field is missing or wrong.
        """
        ...

    def answer(self, request: RerankRequest, ranking: Ranking, envelope: Envelope) -> Any:
        """The response's JSON."""
        ...

    def error(self, refusal: Refusal, envelope: Envelope) -> tuple[int, Mapping[str, Any]]:
        """The status and the response's JSON."""
        ...


FIRST_STAGE_SCHEMA = {
    "type": ["array", "null"],
    "items": {"type": "number"},
    "description": "Extension: the first stage's score of each document, higher is better. They count when they were "
    "a part of the score that was judged.",
}
