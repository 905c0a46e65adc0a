"""crosstune tune: the main job."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crosstune.checkpoints import STARTER
from crosstune.cli.options import (
    AnswerColumn,
    Delimiter,
    Encoding,
    JsonOption,
    LabelColumn,
    QuestionColumn,
    QuietOption,
    SkipBadRows,
    WhereOption,
    conditions,
    seconds,
)
from crosstune.cli.progress import bars
from crosstune.errors import ConfigError


class Recipe(str, Enum):
    """How to train."""

    default = "default"
    blog = "blog"


class Stages(str, Enum):
    """What to tune."""

    auto = "auto"
    reranker = "reranker"
    retriever = "retriever"
    both = "both"


class LossName(str, Enum):
    """What to minimise."""

    lce = "lce"
    bce = "bce"


def tune(
    file: Annotated[
        Path,
        typer.Argument(help="Questions and answers: CSV, TSV, JSONL, Parquet, or a BEIR folder with qrels."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for model, report, runs and manifest.")] = Path("runs/tuned"),
    base: Annotated[
        str | None,
        typer.Option(
            help="Reranker to start from: 'starter' (a small one that comes with crosstune; the default), 'embedded' "
            "(the bare MiniLM encoder), a local folder, or a hub id such as BAAI/bge-reranker-base (the default of "
            "--recipe blog)."
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit of the base.")] = None,
    embedder: Annotated[
        str,
        typer.Option(
            help="Bi-encoder of the dense first stage: 'embedded', a folder, or a hub id. With --retriever only for an "
            "index that crosstune did not make: the model its vectors are from."
        ),
    ] = "embedded",
    retriever: Annotated[
        str | None,
        typer.Option(
            help="Live index (folder, or redis://host:port/name), made by `crosstune index` or, in Redis, by any other "
            "program: its own search is the first stage, answers are looked for among its passages, and the verdict is "
            "about it. It is only read."
        ),
    ] = None,
    where: WhereOption = None,
    budget: Annotated[str, typer.Option(help="Time for the whole run: 90s, 10m, 1h.")] = "10m",
    depth: Annotated[int, typer.Option(help="Candidates of each question that are reranked.")] = 50,
    recipe: Annotated[
        Recipe,
        typer.Option(help="'blog' repeats the article this project began with; its evaluation here is honest."),
    ] = Recipe.default,
    stages: Annotated[
        Stages,
        typer.Option(
            help="What to tune: reranker (cross-encoder), retriever (the first stage's bi-encoder), both, or auto: "
            "both as far as data and budget allow."
        ),
    ] = Stages.auto,
    keep_index: Annotated[
        bool,
        typer.Option(
            "--keep-index",
            help="Your index cannot be embedded anew: of the first stage, only how questions are embedded is tuned. "
            "Without it both sides are, where the budget allows, and the report says whether the index must be "
            "re-embedded.",
        ),
    ] = False,
    loss: Annotated[
        LossName, typer.Option(help="lce: positive against its mined negatives; bce: each pair alone.")
    ] = LossName.lce,
    pos_weight: Annotated[
        float | None,
        typer.Option(help="Weight of positives for --loss bce; default: negatives per question."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of splits, negatives and training.")] = 0,
    question_column: QuestionColumn = None,
    answer_column: AnswerColumn = None,
    label_column: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip_bad_rows: SkipBadRows = False,
    drop_leaks: Annotated[
        bool,
        typer.Option("--drop-leaks", help="With splits of your own: leave out train questions that leak into test."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that --out holds.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Tune first stage and reranker on your questions and answers, and judge them on questions they have not seen.

    Ends with a table, a verdict, and the paths of the report and the model. Stopped at any moment, the same command
    continues.

    Exit codes: 0 better, 3 not proven, 4 worse, 2 usage or bad input, 1 anything else.

    Example: crosstune tune qa.csv --out runs/mine --budget 10m
    """
    from crosstune.data import LoadSettings, SplitSettings
    from crosstune.recipes.blog import BLOG_BASE, tune_blog
    from crosstune.recipes.settings import TuneSettings
    from crosstune.recipes.tune import tune as run
    from crosstune.report import text_table

    if pos_weight is not None and loss is not LossName.bce:
        raise ConfigError("--pos-weight belongs to --loss bce")
    default_base = BLOG_BASE if recipe is Recipe.blog else STARTER
    settings = TuneSettings(
        base=base or default_base,
        revision=revision,
        embedder=embedder,
        budget_s=seconds(budget),
        depth=depth,
        stages=stages.value,
        keep_index=keep_index,
        loss=loss.value,
        pos_weight=pos_weight,
        seed=seed,
        load=LoadSettings(question_column, answer_column, label_column, delimiter, encoding, skip_bad_rows),
        split=SplitSettings(seed=seed),
        drop_leaks=drop_leaks,
        retriever=retriever,
        where=conditions(where),
    )
    console = Console(stderr=True, quiet=quiet, highlight=False)
    with bars(quiet, console) as progress:
        finished = (tune_blog if recipe is Recipe.blog else run)(
            file,
            out,
            settings,
            overwrite=overwrite,
            progress=progress,
            say=lambda message: console.print(message, markup=False, soft_wrap=True),
        )
    if as_json:
        typer.echo(json.dumps(finished.report))
    else:
        typer.echo(f"\n{text_table(finished.evaluation)}\n\nShipped is {finished.report['shipped']}.")
        typer.echo(f"{finished.verdict_sentence}\n")
        typer.echo(f"Report  {out / 'report.html'}\nModel   {finished.model or 'none: it was not fit to ship'}")
    raise typer.Exit(finished.verdict.exit_code)
