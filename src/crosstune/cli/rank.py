"""crosstune rank: order passages for a question with a tuned model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosstune.cli.options import JsonOption, ModelOption, PrecisionOption, precision


def rank(
    model: ModelOption,
    query: Annotated[str, typer.Option(help="The question.")],
    documents: Annotated[
        Path,
        typer.Option(
            help="Passages: .txt (one a line), .jsonl, .csv, .tsv or .parquet with a column text, passage, answer or "
            "content. A column first_stage_score joins in the fused ranking that was judged."
        ),
    ],
    top_n: Annotated[int | None, typer.Option(help="Passages to return; default all.")] = None,
    threshold: Annotated[
        bool,
        typer.Option("--threshold", help="Return only passages whose probability reaches the no-answer threshold."),
    ] = False,
    precision_name: PrecisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank passages for a question, best first.

    Shows the logit, the calibrated probability that the passage answers the question, and whether that reaches the
    no-answer threshold chosen on your dev questions.

    Example: crosstune rank --model runs/mine --query "How do refunds work?" --documents passages.txt
    """
    from crosstune.recipes.use import rank_file

    ranked = rank_file(model, query, documents, precision(precision_name))
    kept = [item for item in ranked.items if item.answers or not threshold][:top_n]
    if as_json:
        results = [{**asdict(item), "text": ranked.texts[item.index]} for item in kept]
        answered = any(item.answers for item in ranked.items)
        typer.echo(
            json.dumps(
                {"query": query, "answered": answered, "ranked_by": ranked.ranked_by, "results": results},
                ensure_ascii=False,
            )
        )
        return
    table = Table("rank", "probability", "logit", "answers", "passage")
    for item in kept:
        mark = "yes" if item.answers else "no"
        snippet = Text(ranked.texts[item.index][:160])
        table.add_row(str(item.rank), f"{item.probability:.3f}", f"{item.logit:.2f}", mark, snippet)
    Console().print(table)
    if not any(item.answers for item in ranked.items):
        typer.echo("No passage reaches the no-answer threshold: the answer is probably not among them.")
