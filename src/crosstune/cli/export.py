"""crosstune export: a tuned model to a file that runs without torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crosstune.cli.options import JsonOption, ModelOption, QuietOption
from crosstune.cli.progress import bars


def export(
    model: ModelOption,
    to: Annotated[str, typer.Option(help="onnx (ONNX Runtime) or openvino (Intel and AMD processors).")],
    data: Annotated[
        Path,
        typer.Option(help="The file the model was tuned on: its dev questions judge the export, test is not used."),
    ],
    int8: Annotated[bool, typer.Option("--int8", help="Quantize to 8 bits: a quarter of the size, faster.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Export a tuned model, and keep the file only if it ranks as the model does.

    The export's logits are compared with torch's on dev questions: correlation of the ranks, nDCG@10 with its interval,
    largest difference. What fails is removed, with exit code 2; the figures stay in exports.json beside the model.
    `rank`, `predict` and `evaluate` then use whatever is fastest on the machine.

    Example: crosstune export --model runs/mine --to openvino --int8 --data qa.csv
    """
    from crosstune.recipes.export import export_model

    console = Console(stderr=True, quiet=quiet, highlight=False)

    def say(message: str) -> None:
        console.print(message, markup=False)

    with bars(quiet, console) as progress:
        kept = export_model(model, data, to, int8=int8, progress=progress, say=say)
    if as_json:
        typer.echo(json.dumps({"artefacts": [asdict(artefact) for artefact in kept]}, ensure_ascii=False))
        return
    for artefact in kept:
        typer.echo(f"{artefact.name}  {artefact.file}  {artefact.bytes / 1e6:.1f} MB")
