"""crosstune synth: questions for documents that nobody has asked about yet."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crosstune.cli.options import JsonOption, QuietOption
from crosstune.cli.progress import bars
from crosstune.errors import ConfigError

if TYPE_CHECKING:
    from crosstune.llm import Usage


def synth(
    documents: Annotated[Path, typer.Argument(help="A file or folder, as for `crosstune index`.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")] = Path("synthetic.csv"),
    llm: Annotated[str | None, typer.Option(help="Name of the language model. Default: CROSSTUNE_LLM_MODEL.")] = None,
    questions: Annotated[int, typer.Option(help="Most questions for a passage.")] = 2,
    limit: Annotated[int | None, typer.Option(help="Most passages, evenly spread. Default: all.")] = None,
    templates: Annotated[
        Path | None, typer.Option(help="TOML file with prompt (`task`) and question styles (`[styles]`).")
    ] = None,
    workers: Annotated[int, typer.Option(help="Requests at a time.")] = 4,
    depth: Annotated[
        int, typer.Option(help="Keep a question when vector search finds its passage among so many.")
    ] = 10,
    prices: Annotated[
        str | None, typer.Option(help="Price of a million prompt and completion tokens, such as 0.15,0.60: shows cost.")
    ] = None,
    embedder: Annotated[str, typer.Option(help="Embedding model, as for `crosstune index`.")] = "embedded",
    chunk_tokens: Annotated[int, typer.Option(help="Most tokens of a passage: as in your index.")] = 200,
    overlap_tokens: Annotated[int, typer.Option(help="Tokens that neighbours of one section share.")] = 30,
    text_column: Annotated[str | None, typer.Option(help="Column of a table's texts, if not found by name.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew with other documents or settings.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Have a language model write questions for your documents, to tune with.

    Asks any OpenAI-compatible endpoint (OPENAI_BASE_URL, OPENAI_API_KEY) for questions of several styles. Questions
    that repeat another or do not lead back to their passage are left out. Rows are marked as synthetic: `crosstune
    tune` learns from them and judges by real questions alone, so add some of these. Stopped at any moment, the same
    command continues.

    Example: crosstune synth handbook/ --llm gpt-5-mini --out synthetic.csv
    """
    from crosstune.documents import ChunkSettings
    from crosstune.llm import DEFAULT, connect, load_templates
    from crosstune.recipes.index import embedder_source
    from crosstune.recipes.synth import SynthSettings
    from crosstune.recipes.synth import synth as run

    per_million = _prices(prices)
    settings = SynthSettings(
        n_questions=questions,
        templates=DEFAULT if templates is None else load_templates(templates),
        n_workers=workers,
        limit=limit,
        depth=depth,
        embedder=embedder_source(embedder),
        chunks=ChunkSettings(chunk_tokens, overlap_tokens),
        text_column=text_column,
    )
    console = Console(stderr=True, quiet=quiet, highlight=False)
    with bars(quiet, console) as progress:
        done = run(
            documents,
            out,
            connect(llm),
            settings,
            overwrite=overwrite,
            progress=progress,
            say=lambda message: console.print(message, markup=False, soft_wrap=True),
        )
    cost = None if per_million is None else _cost(done.usage, per_million)
    if as_json:
        typer.echo(json.dumps({**asdict(done), "path": str(done.path), "cost": cost}, ensure_ascii=False))
        return
    dropped = "".join(f"; {n:,} left out ({reason})" for reason, n in done.dropped.items())
    typer.echo(f"{done.path}: {done.n_kept:,} questions for {done.n_passages:,} passages{dropped}.")
    if done.failed:
        typer.echo(f"{done.failed:,} passages got no usable reply; the same command tries them again.")
    used = f"{done.usage.prompt_tokens:,} prompt and {done.usage.completion_tokens:,} completion tokens"
    typer.echo(f"Used {used} in {done.usage.n_requests:,} requests{'' if cost is None else f', {cost:.2f} in all'}.")


def _prices(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--prices {text!r} are not two numbers with a comma, such as 0.15,0.60") from error
    return prompt, completion


def _cost(usage: Usage, per_million: tuple[float, float]) -> float:
    return (usage.prompt_tokens * per_million[0] + usage.completion_tokens * per_million[1]) / 1e6
