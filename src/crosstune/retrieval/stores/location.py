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
# Other programs like to call theirs "idx:docs".
_ANY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")
_DEFAULT_PORT = 6379
_FIELD_OPTIONS = ("text", "title", "vector")


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """An index in a folder."""

    path: Path

    @property
    def location(self) -> str:
        """The folder as it was given."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Which fields to read in an index that crosstune did not make; empty names are chosen by the schema."""

    text: str = ""
    title: str = ""
    vector: str = ""

    @property
    def options(self) -> str:
        """As options of a location: "text=content&vector=embedding"."""
        return urlencode([(name, getattr(self, name)) for name in _FIELD_OPTIONS if getattr(self, name)])


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
        fields: Options text, title and vector of it.
    """

    scheme: str
    server: str
    database: int
    name: str
    username: str
    password: str = field(repr=False)
    tls: str
    fields: FieldNames

    @property
    def url(self) -> str:
        """What redis-py connects to: no user and no password."""
        return f"{self.scheme}://{self.server}/{self.database}{_query(self.tls)}"

    @property
    def location(self) -> str:
        """The location without its password."""
        user = f"{self.username}@" if self.username else ""
        database = f"/{self.database}" if self.database else ""
        return f"{self.scheme}://{user}{self.server}{database}/{self.name}{_query(self.tls, self.fields.options)}"

    def require_own(self) -> None:
        """Refuse what only an index of another program can have.

        Raises:
            StoreError: Its name, or its options.
        """
        if not _NAME.fullmatch(self.name):
            raise _bad_name(self.name)
        if self.fields.options:
            raise StoreError(
                f"the index at {self.location} is crosstune's own, whose fields are known; leave the options "
                f"{self.fields.options} out"
            )


def parse_location(location: str) -> FolderPlace | RedisPlace:
    """Read a location: a folder path, or redis://[user:password@]host:port[/db]/NAME (rediss:// for TLS).

    Options may follow in Redis: ssl_... of redis-py, and for an index that crosstune did not make text, title and
    vector, which name its fields: redis://host:port/NAME?text=content&vector=embedding.

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
    tls, fields = _options(parts.query)
    return RedisPlace(
        scheme=parts.scheme,
        server=f"{host}:{port}",
        database=database,
        name=name,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or "") or os.environ.get(PASSWORD_VARIABLE, ""),
        tls=tls,
        fields=fields,
    )


def _database_and_name(path: str) -> tuple[int, str]:
    names = [part for part in path.split("/") if part]
    if not names or names[-1].isdigit():
        raise StoreError(f"the location names no index after the server; {_FORM}")
    name = names.pop()
    if not _ANY_NAME.fullmatch(name):
        raise _bad_name(name)
    if len(names) > 1 or (names and not names[0].isdigit()):
        raise StoreError(f"what stands between server and index must be the number of a database; {_FORM}")
    return (int(names[0]) if names else 0), name


def _bad_name(name: str) -> StoreError:
    return StoreError(
        f"{name!r} cannot be the name of an index in Redis; use letters, digits, '_', '-' and '.', "
        "beginning with a letter or a digit"
    )


def _options(query: str) -> tuple[str, FieldNames]:
    """The ssl_ options as they were given, and the names of fields."""
    options = parse_qsl(query, keep_blank_values=True)
    fields = {option: value for option, value in options if option in _FIELD_OPTIONS}
    tls = [(option, value) for option, value in options if option not in _FIELD_OPTIONS]
    # Anything else could be a password, which a location must not show again.
    others = [option for option, _ in tls if not option.startswith("ssl_") or "password" in option]
    if others:
        raise StoreError(
            f"the location's option {others[0]!r} is not known; only ssl_... options of redis-py are, and "
            f"{', '.join(_FIELD_OPTIONS)} for the fields of an index that crosstune did not make"
        )
    return urlencode(tls), FieldNames(**fields)


def _query(*options: str) -> str:
    given = "&".join(filter(None, options))
    return f"?{given}" if given else ""
