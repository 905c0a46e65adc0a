"""crosstune predict: entailment or contradiction of question-passage pairs."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crosstune.cli.options import (
    AnswerColumn,
    CacheOption,
    Delimiter,
    Encoding,
    JsonOption,
    LabelColumn,
    ModelOption,
    PrecisionOption,
    QuestionColumn,
    QuietOption,
    RuntimeOption,
    SkipBadRows,
    precision,
)
from crosstune.cli.progress import bars


def predict(
    pairs: Annotated[
        Path,
        typer.Argument(help="CSV, TSV, JSONL or Parquet with a question and a passage column; a label is optional."),
    ],
    model: ModelOption,
    question_column: QuestionColumn = None,
    answer_column: AnswerColumn = None,
    label_column: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip_bad_rows: SkipBadRows = False,
    cache: CacheOption = None,
    precision_name: PrecisionOption = None,
    runtime: RuntimeOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say for each pair how probably the passage answers the question.

    "entailment" when the calibrated probability reaches the model's threshold, else "contradiction". Without --json,
    prints CSV: row, probability, logit, prediction. With labels in the file, a summary goes to stderr.

    Example: crosstune predict pairs.csv --model runs/mine --json
    """
    from crosstune.data import LoadSettings
    from crosstune.recipes.use import predict_file

    settings = LoadSettings(question_column, answer_column, label_column, delimiter, encoding, skip_bad_rows)
    with bars(quiet) as progress:
        result = predict_file(model, pairs, settings, precision(precision_name), progress, runtime=runtime, cache=cache)
    if as_json:
        typer.echo(json.dumps(asdict(result), ensure_ascii=False))
        return
    writer = csv.writer(sys.stdout)
    writer.writerow(["row", "probability", "logit", "prediction"])
    for item in result.predictions:
        writer.writerow([item.row, f"{item.probability:.6f}", f"{item.logit:.4f}", item.prediction])
    if result.dropped:
        rows = ", ".join(f"{found.row} ({found.kind})" for found in result.dropped)
        typer.echo(f"Not judged, since they hold no pair: rows {rows}", err=True)
    if result.accuracy is not None and not quiet:
        typer.echo(f"{result.accuracy:.1%} of {result.n_labelled} labelled pairs predicted right", err=True)
