"""What every request passes: the key is asked for, and the answer is logged and counted."""

from __future__ import annotations

import hmac
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from hashlib import sha256
from typing import Any

from crosstune.serving.dialects import DIALECTS, Envelope
from crosstune.serving.handler import NOTES, refused
from crosstune.serving.metrics import Metrics
from crosstune.serving.refusal import Reason, Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)


class Gate:
    """ASGI middleware. No body and no query string is ever logged, and no path but our own.

    Args:
        app: What is behind it.
        key: That clients must send; None lets everybody in.
        open_paths: That need no key. Every other path does, those that do not exist among them.
        logged: Paths that are logged as they are. Probes are not, since they come every few seconds.
        counted: Paths whose requests are counted.
        metrics: Where they are counted.
    """

    def __init__(
        self,
        app: App,
        key: str | None,
        open_paths: Collection[str],
        logged: Collection[str],
        counted: Collection[str],
        metrics: Metrics,
    ) -> None:
        self._app, self._key, self._metrics = app, key, metrics
        self._open, self._logged, self._counted = open_paths, logged, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the server's own start and end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500
        notes: dict[str, Any] = {"id": uuid.uuid4().hex}
        scope[NOTES] = notes

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            app = self._app if self._may_pass(scope) else _unauthorised
            await app(scope, receive, watched)
        finally:
            self._note(scope, notes, status, time.monotonic() - started)

    def _may_pass(self, scope: Scope) -> bool:
        if self._key is None or scope["path"] in self._open:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and is_key(given[0], self._key)

    def _note(self, scope: Scope, notes: Mapping[str, Any], status: int, seconds: float) -> None:
        path = scope["path"]
        if path in self._counted:
            self._metrics.request(notes.get("dialect", "unknown"), path, status, seconds)
        if path in self._open and path not in self._logged:
            return
        # A path that a client made up may be a user's text; each of ours has one method.
        known = path if path in self._logged else "(other path)"
        details = f" {notes['dialect']} {notes['n_documents']} documents" if "n_documents" in notes else ""
        _log.info("%s %s %d %.0f ms%s", notes["id"], known, status, 1000 * seconds, details)


def is_key(given: bytes, key: str) -> bool:
    """Whether an Authorization header holds the key, as `Bearer KEY` or alone, as LlamaIndex sends it.

    Takes the same time whatever is given: digests are compared, not texts.
    """
    scheme, _, rest = given.partition(b" ")
    offered = rest.strip() if scheme.lower() == b"bearer" else given.strip()
    return hmac.compare_digest(sha256(offered).digest(), sha256(key.encode()).digest())


async def _unauthorised(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = Refusal(Reason.UNAUTHORISED, "the API key is missing or wrong; send it as Authorization: Bearer KEY")
    envelope = Envelope(scope[NOTES]["id"], scope["path"], "")
    await refused(refusal, *DIALECTS[-1].error(refusal, envelope), envelope)(scope, receive, send)
