"""crosstune search: find passages in an index and rerank them."""

from __future__ import annotations

import json
from dataclasses import asdict
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from crosstune.cli.options import (
    DepthOption,
    ForeignEmbedder,
    IndexName,
    JsonOption,
    ModeName,
    ModeOption,
    PrecisionOption,
    RedisOption,
    RuntimeOption,
    StoreOption,
    TunedModel,
    WhereOption,
    conditions,
    location,
    precision,
)

if TYPE_CHECKING:
    from crosstune.recipes.search import SearchResult
    from crosstune.types import Hit

_SHOWN = 300


def search(
    question: Annotated[str, typer.Argument(help="The question.")],
    redis: RedisOption = None,
    name: IndexName = "docs",
    store: StoreOption = None,
    model: TunedModel = None,
    embedder: ForeignEmbedder = None,
    mode: ModeOption = ModeName.auto,
    where: WhereOption = None,
    depth: DepthOption = 50,
    top_n: Annotated[int, typer.Option(help="Passages to return.")] = 5,
    threshold: Annotated[
        bool,
        typer.Option("--threshold", help="Return only passages whose probability reaches the no-answer threshold."),
    ] = False,
    deadline_ms: Annotated[
        float | None, typer.Option(help="Rerank as many candidates as fit into this time, best first (at least 8).")
    ] = None,
    precision_name: PrecisionOption = None,
    runtime: RuntimeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find the passages of an index that answer a question.

    The index proposes candidates by vector, text or hybrid search; with --model they are reranked by all parts of the
    tuned score, with its weights. Shows each passage's rank before and after, and its calibrated probability.

    An index in Redis that another program made (RedisVL, LangChain, LlamaIndex) is read as it is: name its model with
    --embedder, and where its fields are not found by name add them to the server, as in --redis
    'redis://localhost:6379?text=content&vector=embedding'.

    Example: crosstune search "How do refunds work?" --redis redis://localhost:6379 --model runs/mine
    """
    from crosstune.recipes.search import open_pipeline, warnings

    place = location(redis, name, store)
    pipeline = open_pipeline(
        place, model, mode.value, runtime=runtime, precision=precision(precision_name), embedder=embedder
    )
    try:
        result = pipeline.search(
            question, depth=depth, top_n=top_n, where=conditions(where), answers_only=threshold,
            deadline_ms=deadline_ms,
        )  # fmt: skip
        for warning in warnings(pipeline):
            typer.echo(warning, err=True)
    finally:
        pipeline.close()
    if as_json:
        typer.echo(json.dumps(result_as_json(result), ensure_ascii=False))
        return
    _print(result)


def result_as_json(result: SearchResult) -> dict[str, Any]:
    """Plain values of a search result."""
    return {
        **{key: getattr(result, key) for key in ("question", "mode", "answered", "n_candidates", "timings_ms")},
        "ranked_by": [part.value for part in result.ranked_by],
        "missing": {part.value: why for part, why in result.missing.items()},
        "hits": [hit_as_json(hit) for hit in result.hits],
    }


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """Plain values of a hit, its passage's beside them."""
    passage, origin = hit.passage, hit.passage.origin
    ranks = {key: getattr(hit, key) for key in ("rank", "first_stage_rank", "first_stage_score", "score")}
    return {
        **ranks,
        "probability": hit.probability,
        "answers": hit.answers,
        "passage_id": passage.passage_id,
        "title": passage.title,
        "text": passage.text,
        "metadata": dict(passage.metadata),
        "origin": None if origin is None else asdict(origin),
    }


def _print(result: SearchResult) -> None:
    reranked = bool(result.ranked_by)
    console = Console(highlight=False)
    for hit in result.hits:
        origin = hit.passage.origin
        where = [name for name in (None if origin is None else origin.document_id, hit.passage.title) if name]
        console.print(Text(f"{hit.rank}. ", "bold") + Text(" · ".join([_judgment(hit, reranked), *where])))
        console.print(Padding(Text(shorten(hit.passage.text, _SHOWN, placeholder=" …")), (0, 0, 1, 3)))
    timings = ", ".join(f"{name} {ms:.0f} ms" for name, ms in result.timings_ms.items())
    typer.echo(f"{result.n_candidates} candidates by {result.mode} search; {timings}.")
    if result.answered is False:
        typer.echo("No passage reaches the no-answer threshold: the index probably does not hold the answer.")


def _judgment(hit: Hit, reranked: bool) -> str:
    if not reranked:
        return f"score {hit.first_stage_score:.3f}"
    if hit.score is None:
        return f"was {hit.first_stage_rank} · not reached"
    known = "unknown" if hit.probability is None else f"{hit.probability:.3f}"
    return f"was {hit.first_stage_rank} · probability {known}{' · answers' if hit.answers else ''}"
