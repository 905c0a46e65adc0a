"""The paths of the server."""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions below, whose names are
# imported inside a function, since fastapi is optional.
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from crosstune import __version__
from crosstune.extras import require
from crosstune.serving.dialects import DIALECTS, Envelope
from crosstune.serving.gate import App, Gate
from crosstune.serving.handler import NOTES, RerankHandler, json_response, refused
from crosstune.serving.metrics import CONTENT_TYPE, Metrics
from crosstune.serving.refusal import Reason, Refusal
from crosstune.serving.settings import ServingSettings
from crosstune.serving.worker import Worker
from crosstune.types import Part

if TYPE_CHECKING:
    from fastapi import FastAPI

# Clients add one of these to their base URL. /v1/v1: a base that ends in /v1 already, given to Cohere's client.
DOORS = ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/v1/rerank", "/invocations")
PROBES = ("/health", "/ping", "/ready", "/metrics")
OPEN_PATHS = ("/", *PROBES)
"""Paths that need no key: they tell nothing of a user."""
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
# The page is one file and talks to this server alone.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def create_app(worker: Worker, metrics: Metrics, settings: ServingSettings, model: str) -> App:
    """The server's application (ASGI). It starts and stops the worker.

    Args:
        worker: Ranks, and is not started yet.
        metrics: The worker's.
        settings: Limits.
        model: The model's name in answers.

    Raises:
        MissingExtraError: fastapi is not installed.
    """
    require("fastapi", extra="serve", what="crosstune serve")
    from fastapi import FastAPI
    from starlette.routing import Route

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()

    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(title="crosstune", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_doors(app, RerankHandler(worker, settings, model))
    _add_probes(app, worker, metrics)
    _add_facts(app, worker, settings, model)
    _add_page(app)
    _add_errors(app, model)
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    return Gate(app, settings.api_key, OPEN_PATHS, paths - set(PROBES), DOORS, metrics)


def _add_doors(app: "FastAPI", handler: RerankHandler) -> None:
    from fastapi import Request, Response

    async def rerank(request: Request) -> Response:
        return await handler(request)

    schema = {"anyOf": [dialect.schema for dialect in DIALECTS]}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    for path in DOORS:
        app.post(
            path,
            summary="Rank documents for a query",
            description="The dialect is told by the body's fields, not by the path.",
            openapi_extra={"requestBody": body},
        )(rerank)


def _add_probes(app: "FastAPI", worker: Worker, metrics: Metrics) -> None:
    from fastapi import Response

    async def health() -> Response:
        """Whether the process should live: 503 when a ranking hangs."""
        return json_response(503 if worker.is_stuck else 200, {"status": "stuck" if worker.is_stuck else "ok"}, {})

    async def ready() -> Response:
        """Whether requests should come here: the model is loaded and its last trial gave sound scores."""
        return json_response(200 if worker.is_ready else 503, {"status": worker.status}, {})

    async def counts() -> Response:
        """Prometheus metrics."""
        return Response(metrics.exposition(worker.n_waiting, worker.is_ready), media_type=CONTENT_TYPE)

    app.get("/health")(health)
    app.get("/ping")(health)
    app.get("/ready")(ready)
    app.get("/metrics")(counts)


def _add_facts(app: "FastAPI", worker: Worker, settings: ServingSettings, model: str) -> None:
    from fastapi import Response

    async def info() -> Response:
        """The model and the limits, as TEI tells them."""
        return json_response(200, _info(worker, settings, model), {})

    async def models() -> Response:
        """The one model, as OpenAI lists models."""
        return json_response(
            200, {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "crosstune"}]}, {}
        )

    app.get("/info")(info)
    app.get("/v1/models")(models)


def _info(worker: Worker, settings: ServingSettings, model: str) -> Mapping[str, Any]:
    reranker = worker.reranker
    scorer = reranker.scorer if Part.CROSS_ENCODER in reranker.parts() else None
    return {
        "model_id": model,
        "model_sha": None,
        "model_dtype": _DTYPES["fp32" if scorer is None else scorer.precision],
        "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        "max_concurrent_requests": settings.max_waiting + 1,
        "max_input_length": reranker.bundle.max_length,
        "max_batch_tokens": reranker.bundle.max_length if scorer is None else scorer.max_tokens,
        "max_client_batch_size": settings.max_documents,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
    }


def _add_page(app: "FastAPI") -> None:
    from fastapi import Response

    page = (files("crosstune.serving") / "playground.html").read_text(encoding="utf-8")

    async def playground() -> Response:
        return Response(page, headers=_PAGE_HEADERS, media_type="text/html")

    app.get("/", include_in_schema=False)(playground)


def _add_errors(app: "FastAPI", model: str) -> None:
    """Refusals outside of the doors, unknown paths among them, in the form that most clients read."""
    from fastapi import Request, Response
    from starlette.exceptions import HTTPException

    def answer(request: Request, refusal: Refusal) -> Response:
        envelope = Envelope(request.scope[NOTES]["id"], request.scope["path"], model)
        return refused(refusal, *DIALECTS[-1].error(refusal, envelope), envelope)

    async def no_route(request: Request, error: HTTPException) -> Response:
        reason = Reason.WRONG_METHOD if error.status_code == 405 else Reason.NOT_FOUND
        message = f"there is nothing at this path and method; send a POST to {', '.join(DOORS[:3])}"
        return answer(request, Refusal(reason, message))

    async def refuse(request: Request, error: Refusal) -> Response:
        return answer(request, error)

    app.exception_handler(HTTPException)(no_route)
    app.exception_handler(Refusal)(refuse)
