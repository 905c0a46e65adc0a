"""crosstune rank: order passages for a question with a tuned model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosstune.cli.options import CacheOption, JsonOption, ModelOption, PrecisionOption, RuntimeOption, precision

if TYPE_CHECKING:
    from crosstune.scoring import RankedPassage


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
    deadline_ms: Annotated[
        float | None,
        typer.Option(help="Rerank as many passages as fit into this time, best of the first stage first (at least 8)."),
    ] = None,
    cache: CacheOption = None,
    precision_name: PrecisionOption = None,
    runtime: RuntimeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Rank passages for a question, best first.

    By all parts of the tuned score that were judged: cross-encoder, bi-encoder, shared words. Shows the score, the
    calibrated probability that the passage answers the question, and whether that reaches the no-answer threshold
    chosen on your dev questions. With --deadline-ms, passages that were not reached stand behind
    the reranked ones, in the order in which they would have been read.

    Example: crosstune rank --model runs/mine --query "How do refunds work?" --documents passages.txt
    """
    from crosstune.recipes.use import rank_file

    ranked = rank_file(
        model,
        query,
        documents,
        precision(precision_name),
        runtime=runtime,
        cache=cache,
        deadline_ms=deadline_ms,
    )
    for part, why in ranked.missing.items():
        typer.echo(f"Ranked without the part {part.value}: {why}", err=True)
    kept = [item for item in ranked.items if item.answers or not threshold][:top_n]
    if as_json:
        results = [{**asdict(item), "text": ranked.texts[item.index]} for item in kept]
        known = any(item.probability is not None for item in ranked.items)
        answered = any(item.answers for item in ranked.items) if known else None
        ranked_by = [part.value for part in ranked.ranked_by]
        typer.echo(
            json.dumps(
                {"query": query, "answered": answered, "ranked_by": ranked_by, "results": results}, ensure_ascii=False
            )
        )
        return
    table = Table("rank", "probability", "score", "answers", "passage")
    for item in kept:
        table.add_row(str(item.rank), *_judgment(item), Text(ranked.texts[item.index][:160]))
    Console().print(table)
    n_late = sum(not item.reranked for item in ranked.items)
    if n_late:
        typer.echo(f"The deadline came before {n_late} of {len(ranked.items)} passages were reached.")
    if all(item.probability is None for item in ranked.items):
        typer.echo("Probabilities are not known here: dev gave no scale, or parts of the score are missing.")
    elif not any(item.answers for item in ranked.items):
        where = "it may be among those not reached" if n_late else "the answer is probably not among them"
        typer.echo(f"No passage reaches the no-answer threshold: {where}.")


def _judgment(item: RankedPassage) -> tuple[str, str, str]:
    """Cells of probability, score and whether it answers."""
    if item.score is None:
        return "not reached", "", ""
    probability = "unknown" if item.probability is None else f"{item.probability:.3f}"
    return probability, f"{item.score:.2f}", "yes" if item.answers else "no"
