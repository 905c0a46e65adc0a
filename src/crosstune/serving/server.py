"""A socket, an event loop, and an orderly end."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crosstune.errors import ConfigError
from crosstune.extras import require
from crosstune.scoring import Reranker
from crosstune.serving.app import create_app
from crosstune.serving.gate import App
from crosstune.serving.metrics import Metrics
from crosstune.serving.settings import ServingSettings
from crosstune.serving.worker import Worker

if TYPE_CHECKING:
    import uvicorn

# Below the 30 s that Kubernetes waits before it kills.
_SHUTDOWN_S = 25


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        port: 0 takes one that is free.

    Raises:
        ConfigError: The port is taken or not allowed, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            remedy = f"port {port} of {host} is in use; stop what uses it, or give another --port (0 finds a free one)"
        elif number == errno.EACCES:
            remedy = f"port {port} of {host} needs rights that this user lacks; give a --port from 1024 on"
        else:
            remedy = f"cannot listen on port {port} of {host} ({error}); correct --host or --port"
        raise ConfigError(remedy) from error
    # Connections inherit it. asyncio sets it only on sockets made another way, and without it every answer, whose head
    # and body are two packets, waits some 40 ms for the client's delayed acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a listening socket is reached, for example "http://127.0.0.1:8000"."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(load: Callable[[], Reranker], model: str, settings: ServingSettings, listener: socket.socket) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then finish those that were taken, for at most 25 s.

    The server answers from the start, and is ready when the model is loaded.

    Args:
        load: Gives the model.
        model: Its name in answers.
        settings: Limits.
        listener: From `listen`; closed at the end.

    Raises:
        CrosstuneError: The model cannot be loaded, or its scores are not sound.
        MissingExtraError: fastapi or uvicorn is not installed.
    """
    metrics = Metrics()
    worker = Worker(load, metrics, settings.max_waiting)
    server = server_of(create_app(worker, metrics, settings, model))

    def end() -> None:
        server.should_exit = True

    worker.on_failure = end
    with listener, _ended_by_signals(end):
        server.run([listener])
    if worker.failure is not None:
        raise worker.failure


def server_of(app: App) -> uvicorn.Server:
    """A uvicorn server that logs nothing of requests.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    require("uvicorn", extra="serve", what="crosstune serve")
    import uvicorn

    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    return uvicorn.Server(config)


@contextmanager
def _ended_by_signals(end: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the server and no more: uvicorn raises them once again when it has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: end()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
