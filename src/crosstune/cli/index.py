"""crosstune index: documents to an index that `search` and `tune --retriever` use."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crosstune.cli.options import IndexName, JsonOption, QuietOption, RedisOption, StoreOption, location
from crosstune.cli.progress import bars


def index(
    documents: Annotated[
        Path,
        typer.Argument(help="CSV, TSV, JSONL, Parquet (a row is a document), Markdown, text, HTML, PDF, or a folder."),
    ],
    redis: RedisOption = None,
    name: IndexName = "docs",
    store: StoreOption = None,
    embedder: Annotated[
        str,
        typer.Option(
            help="Embedding model: 'embedded', a sentence-transformers folder, a hub id, or the --out folder of "
            "`crosstune tune`, for its tuned bi-encoder."
        ),
    ] = "embedded",
    chunk_tokens: Annotated[int, typer.Option(help="Most tokens of a passage, headings included.")] = 200,
    overlap_tokens: Annotated[int, typer.Option(help="Tokens that neighbours of one section share.")] = 30,
    text_column: Annotated[str | None, typer.Option(help="Column of a table's texts, if not found by name.")] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            help="RedisVL schema (YAML): used when the file is there; else the usual one is written there to edit."
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make an index of your documents: in Redis, or in a folder.

    Documents are cut into passages under their headings, embedded, and kept with text, metadata and vector. Run again,
    it embeds only what is new and removes what is gone; with another embedder or other cutting it makes a new version
    and switches to it in one step. Stopped at any moment, the same command continues.

    Example: crosstune index handbook/ --redis redis://localhost:6379 --name docs
    """
    from crosstune.documents import ChunkSettings
    from crosstune.recipes.index import Indexed, IndexSettings
    from crosstune.recipes.index import index as run

    settings = IndexSettings(embedder, ChunkSettings(chunk_tokens, overlap_tokens), text_column, schema)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    with bars(quiet, console) as progress:
        done: Indexed = run(
            documents,
            location(redis, name, store),
            settings,
            progress=progress,
            say=lambda message: console.print(message, markup=False, soft_wrap=True),
        )
    if as_json:
        typer.echo(json.dumps(asdict(done), ensure_ascii=False))
        return
    rate = "" if done.embedded_per_s is None else f" ({done.embedded_per_s:,.0f} a second)"
    typer.echo(
        f"{done.location} holds {done.n_passages:,} passages of {done.n_documents:,} documents: {done.n_embedded:,} "
        f"embedded{rate}, {done.n_updated:,} updated, {done.n_kept:,} unchanged, {done.n_removed:,} removed."
    )
    if done.fields:
        typer.echo("Searchable metadata: " + ", ".join(f"{field} ({kind})" for field, kind in done.fields.items()))
