"""crosstune evaluate: judge a tuned model on judged data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crosstune.cli.options import JsonOption, ModelOption, PrecisionOption, QuietOption, RuntimeOption, precision
from crosstune.cli.progress import bars


def evaluate(
    model: ModelOption,
    data: Annotated[Path, typer.Option(help="BEIR folder (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv).")],
    split: Annotated[str, typer.Option(help="Which qrels file of the folder.")] = "test",
    depth: Annotated[int, typer.Option(help="Candidates of each question that are reranked.")] = 50,
    embedder: Annotated[str, typer.Option(help="Bi-encoder of the dense first stage.")] = "embedded",
    first_stage: Annotated[
        str | None,
        typer.Option(
            help="Whose candidates are reranked: bm25, dense or hybrid; default: what the model was tuned on."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the rankings to, as TREC runs.")] = None,
    precision_name: PrecisionOption = None,
    runtime: RuntimeOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Judge a model on a judged collection, beside BM25, dense and hybrid search on the same questions.

    Retriever misses count as failures, ties against the model; every figure has an interval.

    Example: crosstune evaluate --model runs/mine --data scifact --json
    """
    from crosstune.recipes.evaluate import evaluate_model
    from crosstune.report import evaluation_json, text_table

    console = Console(stderr=True, quiet=quiet, highlight=False)
    with bars(quiet, console) as progress:
        report = evaluate_model(
            model,
            data,
            split=split,
            depth=depth,
            embedder=embedder,
            first_stage=first_stage,
            precision=precision(precision_name),
            runtime=runtime,
            out=out,
            progress=progress,
        )
    typer.echo(json.dumps(evaluation_json(report)) if as_json else text_table(report))
