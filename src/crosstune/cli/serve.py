"""crosstune serve: a tuned model behind HTTP."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from crosstune.cli.options import CacheOption, JsonOption, PrecisionOption, RuntimeOption, precision

_EXAMPLE = '{"query": "how do refunds work?", "documents": ["a refund takes 30 days", "the moon"]}'
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: Annotated[Path, typer.Argument(help="Model folder that `crosstune tune` wrote (or the --out folder).")],
    port: Annotated[int, typer.Option(help="Port to listen on; 0 finds a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every machine that can reach it.")] = (
        "127.0.0.1"
    ),
    max_documents: Annotated[int, typer.Option(help="Most documents in a request.")] = 1000,
    max_body_mb: Annotated[float, typer.Option(help="Largest request, in MB (1,000,000 bytes).")] = 10.0,
    max_waiting: Annotated[int, typer.Option(help="Most requests that wait; further ones get 503 (TEI: 429).")] = 64,
    deadline_ms: Annotated[
        float | None,
        typer.Option(help="Time for a request from its arrival; a header X-Deadline-Ms may ask for less."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="CROSSTUNE_API_KEY",
            help="Key that clients must send (Authorization: Bearer KEY). Better given by the environment: other "
            "users of a machine can read a command line.",
        ),
    ] = None,
    cache: CacheOption = None,
    precision_name: PrecisionOption = None,
    runtime: RuntimeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Serve a tuned model over HTTP, for clients of Cohere, Jina, TEI and Voyage as they are.

    Ranks as `crosstune rank` does. /ready tells when the model is loaded, /metrics what was done, / is a page to try
    it. SIGTERM or Ctrl-C: requests that were taken are finished, then exit code 0. With --json the address is printed
    as JSON on stdout.

    Example: crosstune serve runs/mine --port 8000
    """
    from crosstune.bundle import load_bundle
    from crosstune.scoring import Reranker
    from crosstune.serving import ServingSettings, listen, url_of
    from crosstune.serving import serve as run

    settings = ServingSettings(max_documents, int(max_body_mb * 1e6), max_waiting, deadline_ms, api_key)
    bundle, chosen = load_bundle(model), precision(precision_name)

    def load() -> Reranker:
        reranker = Reranker(bundle, chosen, runtime)
        return reranker if cache is None else reranker.with_cache(cache)

    listener = listen(host, port)
    _log_to_stderr()
    _tell(url_of(listener), host, api_key, as_json)
    name = bundle.path.resolve()
    run(load, name.parent.name if name.name == "model" else name.name, settings, listener)


def _tell(url: str, host: str, api_key: str | None, as_json: bool) -> None:
    header = "" if api_key is None else ' -H "Authorization: Bearer $CROSSTUNE_API_KEY"'
    typer.echo(f"Listening on {url}; ready when {url}/ready answers 200. Try:", err=True)
    typer.echo(f"  curl {url}/v1/rerank{header} -d '{_EXAMPLE}'", err=True)
    if api_key is None and host not in _LOOPBACK:
        typer.echo("Without a key everybody who reaches this address can use it; set CROSSTUNE_API_KEY.", err=True)
    if as_json:
        typer.echo(json.dumps({"url": url}))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("crosstune.serving")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
