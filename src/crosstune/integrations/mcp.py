"""Search and rerank as tools of a Model Context Protocol server, for assistants and agents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crosstune.errors import CrosstuneError
from crosstune.integrations.framework import framework
from crosstune.recipes.search import TOP_N, Pipeline
from crosstune.scoring import Reranker
from crosstune.types import Condition, Hit

with framework("mcp", "mcp"):
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

_INSTRUCTIONS = "Passages of the user's own documents, ranked by a model tuned on the user's own questions and answers."


def make_server(pipeline: Pipeline | None, reranker: Reranker | None) -> MCPServer[Any]:
    """A server with the tool `search` over an index, and the tool `rerank`, as far as there is one.

    Work is done in a thread: a long ranking holds up no other request.

    Args:
        pipeline: Index and reranker; None for no tool `search`.
        reranker: None for no tool `rerank`.
    """
    server: MCPServer[Any] = MCPServer("crosstune", instructions=_INSTRUCTIONS, log_level="WARNING")
    if pipeline is not None:
        _add_search(server, pipeline)
    if reranker is not None:
        _add_rerank(server, reranker)
    return server


def _add_search(server: MCPServer[Any], pipeline: Pipeline) -> None:
    fields = pipeline.store.spec.fields
    known = ", ".join(f"{name} ({kind})" for name, kind in fields.items()) or "none"

    @server.tool(
        description="Find the passages of the indexed documents that answer a question, best first. `probability` is "
        "the calibrated chance that a passage answers it; `answered` false means that the documents probably do not. "
        f"`filters` maps a metadata field to the value it must have. Fields: {known}."
    )
    async def search(question: str, top_n: int = TOP_N, filters: dict[str, str] | None = None) -> dict[str, Any]:
        where = [Condition(field, "=", (value,)) for field, value in (filters or {}).items()]
        with _told():
            result = await pipeline.asearch(question, top_n=top_n, where=where)
        return {"answered": result.answered, "passages": [_passage(hit) for hit in result.hits]}


def _add_rerank(server: MCPServer[Any], reranker: Reranker) -> None:
    @server.tool(
        description="Order texts by how well they answer a question, best first. `index` is a text's place in "
        "`documents`, from 0; `probability` the calibrated chance that it answers."
    )
    async def rerank(query: str, documents: list[str], top_n: int | None = None) -> dict[str, Any]:
        with _told():
            ranked = await asyncio.to_thread(reranker.rank, query, documents)
        return {
            "results": [
                {"index": item.index, "score": item.score, "probability": item.probability, "answers": item.answers}
                for item in ranked[:top_n]
            ]
        }


@contextmanager
def _told() -> Iterator[None]:
    """Tell the assistant what it can put right; other errors stay here."""
    try:
        yield
    except CrosstuneError as error:
        raise ToolError(str(error)) from error


def _passage(hit: Hit) -> dict[str, Any]:
    origin = hit.passage.origin
    return {
        "rank": hit.rank,
        "probability": hit.probability,
        "title": hit.passage.title,
        "text": hit.passage.text,
        "document": None if origin is None else origin.document_id,
        "metadata": dict(hit.passage.metadata),
    }
