"""Where an index is: a folder, or a name in a Redis server."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from crosstune.errors import StoreError

PASSWORD_VARIABLE = "CROSSTUNE_REDIS_PASSWORD"
"""Environment variable that gives the password where the location holds none: command lines are seen by others."""

_FORM = "expected a folder, or redis://[user:password@]host:port[/db]/NAME"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DEFAULT_PORT = 6379


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """An index in a folder."""

    path: Path

    @property
    def location(self) -> str:
        """The folder as it was given."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """An index in Redis.

    Attributes:
        scheme: "redis", or "rediss" with TLS.
        server: host:port.
        database: Number of the logical database.
        name: Of the index; also an alias that any Redis client can search.
        username: Empty for Redis' default user.
        password: Empty where none is needed; never part of a message.
        tls: Options of redis-py that begin with ssl_, from the location's query.
    """

    scheme: str
    server: str
    database: int
    name: str
    username: str
    password: str = field(repr=False)
    tls: str

    @property
    def url(self) -> str:
        """What redis-py connects to: no user and no password."""
        return f"{self.scheme}://{self.server}/{self.database}{self.tls}"

    @property
    def location(self) -> str:
        """The location without its password."""
        user = f"{self.username}@" if self.username else ""
        database = f"/{self.database}" if self.database else ""
        return f"{self.scheme}://{user}{self.server}{database}/{self.name}{self.tls}"


def parse_location(location: str) -> FolderPlace | RedisPlace:
    """Read a location: a folder path, or redis://[user:password@]host:port[/db]/NAME (rediss:// for TLS).

    A password that the location leaves out is taken from the environment variable CROSSTUNE_REDIS_PASSWORD.

    Raises:
        StoreError: It has another form; the message never repeats what could be a password.
    """
    if location.startswith(("redis://", "rediss://")):
        return _parse_redis(location)
    if "://" in location:
        raise StoreError(f"an index cannot be at {location.split('://')[0]}://...; {_FORM}")
    if not location.strip():
        raise StoreError(f"the location of the index is empty; {_FORM}")
    return FolderPlace(Path(location))


def _parse_redis(location: str) -> RedisPlace:
    parts = urlsplit(location)
    try:
        port = parts.port or _DEFAULT_PORT
    except ValueError as error:
        raise StoreError(f"the port of the Redis server is not a number up to 65535; {_FORM}") from error
    if not parts.hostname:
        raise StoreError(f"the location names no Redis server; {_FORM}")
    database, name = _database_and_name(parts.path)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return RedisPlace(
        scheme=parts.scheme,
        server=f"{host}:{port}",
        database=database,
        name=name,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or "") or os.environ.get(PASSWORD_VARIABLE, ""),
        tls=_tls_options(parts.query),
    )


def _database_and_name(path: str) -> tuple[int, str]:
    names = [part for part in path.split("/") if part]
    if not names or names[-1].isdigit():
        raise StoreError(f"the location names no index after the server; {_FORM}")
    name = names.pop()
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot be the name of an index in Redis; use letters, digits, '_', '-' and '.', "
            "beginning with a letter or a digit"
        )
    if len(names) > 1 or (names and not names[0].isdigit()):
        raise StoreError(f"what stands between server and index must be the number of a database; {_FORM}")
    return (int(names[0]) if names else 0), name


def _tls_options(query: str) -> str:
    options = parse_qsl(query, keep_blank_values=True)
    # Anything else could be a password, which a location must not show again.
    others = [option for option, _ in options if not option.startswith("ssl_") or "password" in option]
    if others:
        raise StoreError(f"the location's option {others[0]!r} is not known; only ssl_... options of redis-py are")
    return f"?{urlencode(options)}" if options else ""
