"""How clients ask and are answered: one file a dialect, one line here to register it."""

from __future__ import annotations

from crosstune.serving.dialects.base import Body, Dialect, Envelope, Ranked, Ranking, RerankRequest
from crosstune.serving.dialects.cohere import Cohere
from crosstune.serving.dialects.tei import Tei
from crosstune.serving.dialects.voyage import Voyage

# The first that recognises a body reads it. Cohere's takes what is left, bodies that cannot be read among them.
DIALECTS: tuple[Dialect, ...] = (Tei(), Voyage(), Cohere())


def dialect_of(body: Body) -> Dialect:
    """The dialect a body is in, by its fields: the clients of all dialects share paths."""
    return next(dialect for dialect in DIALECTS if dialect.recognises(body))


__all__ = ["DIALECTS", "Body", "Dialect", "Envelope", "Ranked", "Ranking", "RerankRequest", "dialect_of"]
