"""crosstune ask: an answer with citations from an index."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosstune.cli.options import (
    DepthOption,
    ForeignEmbedder,
    IndexName,
    JsonOption,
    ModeName,
    ModeOption,
    RedisOption,
    StoreOption,
    TunedModel,
    WhereOption,
    conditions,
    location,
)
from crosstune.cli.search import hit_as_json

if TYPE_CHECKING:
    from crosstune.llm import LanguageModel
    from crosstune.recipes.ask import Grounds


class OrderName(str, Enum):
    """In which order passages are packed."""

    best = "best"
    source = "source"
    edges = "edges"


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    redis: RedisOption = None,
    name: IndexName = "docs",
    store: StoreOption = None,
    model: TunedModel = None,
    embedder: ForeignEmbedder = None,
    mode: ModeOption = ModeName.auto,
    where: WhereOption = None,
    depth: DepthOption = 50,
    context_tokens: Annotated[int, typer.Option(help="Most tokens of the passages that the model reads.")] = 1024,
    order: Annotated[
        OrderName,
        typer.Option(help="best first; source: by document; edges: best at both ends, where models read most."),
    ] = OrderName.best,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Probability that the best passage must reach for an answer; 0 always answers. Default: the model's "
            "own threshold, chosen on your dev questions."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json to count tokens with. Default: the embedder's.")
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Name of the language model. Default: CROSSTUNE_LLM_MODEL.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from an index, with citations.

    Searches and reranks as `crosstune search` does, packs the best passages into --context-tokens, and lets a language
    model answer from them: any OpenAI-compatible endpoint, named by OPENAI_BASE_URL and OPENAI_API_KEY. Where none is
    named, it prints the packed context. When no passage reaches the no-answer threshold it says "I don't know", and
    asks nobody.

    Example: OPENAI_BASE_URL=http://localhost:11434/v1 crosstune ask "How do refunds work?" --llm qwen3
    """
    from crosstune.llm import configured, connect
    from crosstune.recipes.ask import grounds, token_counter
    from crosstune.recipes.search import open_pipeline, warnings

    language_model = connect(llm) if configured() else None
    pipeline = open_pipeline(location(redis, name, store), model, mode.value, embedder=embedder)
    try:
        found = grounds(
            pipeline, question, context_tokens, token_counter(pipeline.store, tokenizer), order=order.value,
            depth=depth, where=conditions(where), threshold=threshold,
        )  # fmt: skip
        for warning in warnings(pipeline):
            typer.echo(warning, err=True)
    finally:
        pipeline.close()
    if as_json:
        typer.echo(json.dumps(_as_json(question, found, language_model), ensure_ascii=False))
    else:
        _print(question, found, language_model)


def _print(question: str, found: Grounds, model: LanguageModel | None) -> None:
    from crosstune.llm import cited
    from crosstune.recipes.ask import reply

    if model is None and found.context.text:
        typer.echo("No language model is named (OPENAI_BASE_URL or OPENAI_API_KEY): this is the context.", err=True)
        typer.echo(found.context.text)
        typer.echo(f"\n{found.context.n_tokens} tokens. {_left_out(found)}", err=True)
        return
    pieces = []
    for piece in reply(question, found, model):
        pieces.append(piece)
        sys.stdout.write(piece)
        sys.stdout.flush()
    typer.echo()
    used = cited("".join(pieces), len(found.context.citations)).numbers
    for citation in found.context.citations:
        if citation.number in used:
            where = ", ".join(name for name in (citation.title, citation.document_id) if name)
            typer.echo(f"[{citation.number}] {where or citation.passage_ids[0]}")


def _left_out(found: Grounds) -> str:
    reasons = [left.reason for left in found.context.left_out]
    return "Left out: " + (", ".join(f"{reasons.count(r)} {r}" for r in dict.fromkeys(reasons)) or "nothing") + "."


def _as_json(question: str, found: Grounds, model: LanguageModel | None) -> dict[str, Any]:
    from dataclasses import asdict

    from crosstune.llm import cited
    from crosstune.recipes.ask import reply

    text = None if model is None and found.context.text else "".join(reply(question, found, model))
    citations = found.context.citations
    return {
        "question": question,
        "answer": text,
        "cited": [] if text is None else list(cited(text, len(citations)).numbers),
        "answered": found.search.answered,
        "context": {
            "text": found.context.text,
            "n_tokens": found.context.n_tokens,
            "citations": [asdict(citation) for citation in citations],
            "left_out": [asdict(left) for left in found.context.left_out],
        },
        "hits": [hit_as_json(hit) for hit in found.search.hits],
        "timings_ms": dict(found.search.timings_ms),
    }
