"""From an HTTP request to its answer, whatever the dialect."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crosstune.serving.dialects import DIALECTS, Body, Envelope, RerankRequest, dialect_of
from crosstune.serving.refusal import Reason, Refusal
from crosstune.serving.settings import ServingSettings
from crosstune.serving.worker import Done, Worker, without_texts

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_log = logging.getLogger(__name__)
NOTES = "crosstune"
"""Key of a request's scope: its id, and what only the handler can tell the access log."""
# A client that is still sending does not read: so much more than the limit is taken and thrown away, so that it
# gets to see the answer instead of a broken connection.
_PATIENCE = 10


class RerankHandler:
    """Reads, has it ranked, answers.

    Args:
        worker: Ranks.
        settings: Limits.
        model: The model's name in answers.
    """

    def __init__(self, worker: Worker, settings: ServingSettings, model: str) -> None:
        self._worker, self._settings, self._model = worker, settings, model

    async def __call__(self, request: Request) -> Response:
        """The answer, an error among them; never raises for what a client sent."""
        started = time.monotonic()
        dialect = DIALECTS[-1]
        notes = request.scope[NOTES]
        envelope = Envelope(notes["id"], request.scope["path"], self._model)
        try:
            body = await self._body(request)
            dialect = dialect_of(body)
            notes["dialect"] = dialect.name
            wanted = dialect.read(body)
            notes["n_documents"] = len(wanted.texts)
            done = await self._done(request, wanted)
        except Refusal as refusal:
            return refused(refusal, *dialect.error(refusal, envelope), envelope)
        except Exception as error:  # Told without its message: it may hold the user's text.
            _log.error("a request failed: %s", without_texts(error))
            failed = Refusal(Reason.FAILED, "the server failed; its log names the error")
            return refused(failed, *dialect.error(failed, envelope), envelope)
        times = {"total": time.monotonic() - started, "queue": done.waited_s, "inference": done.took_s}
        headers = {f"x-{name}-time": f"{1000 * seconds:.0f}" for name, seconds in times.items()}
        content = dialect.answer(wanted, done.ranking, envelope)
        return json_response(200, content, headers | {"x-request-id": envelope.request_id})

    async def _body(self, request: Request) -> Body:
        content = await _read(request, self._settings.max_body_bytes)
        try:
            body = json.loads(content, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Refusal(Reason.MALFORMED, "the body is not valid JSON; send one JSON object in UTF-8") from error
        if not isinstance(body, dict):
            raise Refusal(Reason.MALFORMED, 'the body is no JSON object; send {"query": ..., "documents": [...]}')
        return body

    async def _done(self, request: Request, wanted: RerankRequest) -> Done:
        n, most = len(wanted.texts), self._settings.max_documents
        if n > most:
            raise Refusal(Reason.TOO_LARGE, f"{n} documents, at most {most} are taken; send them in several requests")
        job = self._worker.submit(wanted, self._deadline_ms(request))
        gone = asyncio.create_task(_gone(request))
        try:
            either: set[asyncio.Future[Any]] = {job.future, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if job.future.done():
                return job.future.result()
            raise Refusal(Reason.GONE, "the client closed the connection")
        finally:
            gone.cancel()
            self._worker.drop(job)

    def _deadline_ms(self, request: Request) -> float | None:
        """The server's deadline, or less if the client asks for less."""
        given = request.headers.get("x-deadline-ms")
        if given is None:
            return self._settings.deadline_ms
        try:
            asked = float(given)
        except ValueError:
            asked = math.nan
        if not (asked > 0 and math.isfinite(asked)):
            raise Refusal(Reason.INVALID, "X-Deadline-Ms must be a number of milliseconds above 0; correct it")
        return min(asked, self._settings.deadline_ms or asked)


async def _read(request: Request, limit: int) -> bytes:
    """The body."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > _PATIENCE * limit:
            break
    if size > limit:
        raise Refusal(Reason.TOO_LARGE, f"the body has more than {limit} bytes; send fewer or shorter documents")
    return b"".join(chunks)


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def json_response(status: int, content: Any, headers: Mapping[str, str]) -> Response:
    """A response of JSON. ASCII alone, since half a surrogate pair that a client sent cannot be written in UTF-8."""
    from starlette.responses import Response

    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Response(text, status, dict(headers), "application/json")


def refused(refusal: Refusal, status: int, content: Mapping[str, Any], envelope: Envelope) -> Response:
    """The response to a request that is refused."""
    headers = {"x-request-id": envelope.request_id}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(refusal.retry_after_s)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response(status, content, headers)
