"""crosstune mcp: search and rerank for assistants and agents."""

from __future__ import annotations

from crosstune.cli.options import (
    DEFAULT_STORE,
    ForeignEmbedder,
    IndexName,
    ModeName,
    ModeOption,
    RedisOption,
    StoreOption,
    TunedModel,
    location,
)
from crosstune.errors import ConfigError


def mcp(
    redis: RedisOption = None,
    name: IndexName = "docs",
    store: StoreOption = None,
    model: TunedModel = None,
    embedder: ForeignEmbedder = None,
    mode: ModeOption = ModeName.auto,
) -> None:
    """Offer search and reranking to an assistant, by the Model Context Protocol over standard input and output.

    With an index there is the tool `search`, with --model the tool `rerank`, and what is found is reranked. Runs until
    the assistant that started it closes the connection.

    Example, in an assistant's settings: {"command": "crosstune", "args": ["mcp", "--store", "index"]}
    """
    from crosstune.integrations.mcp import make_server
    from crosstune.recipes.search import open_pipeline
    from crosstune.scoring import Reranker

    named = redis is not None or store is not None
    if not named and not DEFAULT_STORE.is_dir():
        if model is None:
            raise ConfigError("there is nothing to offer; name an index (--redis or --store), a --model, or both")
        make_server(None, Reranker.load(model)).run("stdio")
        return
    pipeline = open_pipeline(location(redis, name, store), model, mode.value, embedder=embedder)
    try:
        make_server(pipeline, pipeline.reranker).run("stdio")
    finally:
        pipeline.close()
