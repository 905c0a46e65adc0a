"""The connection to Redis: retried for some seconds when it is lost, and errors that say what to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from crosstune.errors import StoreError
from crosstune.extras import require
from crosstune.retrieval.stores.location import PASSWORD_VARIABLE, RedisPlace

T = TypeVar("T")

_WHAT = "an index in Redis"
_PATIENCE_S = 15.0
"""How long a lost server is waited for: a restart with its data takes seconds."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 30.0
_SHOWN_CHARACTERS = 200


class Connection:
    """A server that answers, loses its connection, and is asked again.

    Args:
        place: The index; its server and credentials.

    Raises:
        MissingExtraError: redisvl is not installed.
    """

    def __init__(self, place: RedisPlace) -> None:
        require("redisvl", extra="redis", what=_WHAT)
        redis = require("redis", extra="redis", what=_WHAT)
        retry = require("redis.retry", extra="redis", what=_WHAT)
        backoff = require("redis.backoff", extra="redis", what=_WHAT)
        self._errors = require("redis.exceptions", extra="redis", what=_WHAT)
        self._place = place
        self._answered = False
        self.on_return: Callable[[Any], None] = lambda client: None
        """Called with the client before a lost server is asked again; it can find it lost still."""
        try:
            self._client = redis.Redis.from_url(
                place.url,
                username=place.username or None,
                password=place.password or None,
                decode_responses=True,
                protocol=2,  # one form of answers for all versions of server and client
                socket_connect_timeout=_CONNECT_TIMEOUT_S,
                socket_timeout=_ANSWER_TIMEOUT_S,
                retry=retry.Retry(backoff.NoBackoff(), 0),  # `run` retries, and knows when the server was away
            )
            pool = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # connects to nothing, but looks at the options
        except (TypeError, ValueError) as error:
            raise StoreError(f"the ssl_ options of {place.location} are not ones of redis-py: {error}") from error

    def run(self, work: Callable[[Any], T]) -> T:
        """Let work use the client; it is done again when the connection was lost, so it must bear that.

        Raises:
            StoreError: The server cannot be reached, or refuses.
        """
        lost = (self._errors.ConnectionError, self._errors.TimeoutError)
        refused = (self._errors.AuthenticationError, self._errors.AuthorizationError)
        away_since: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if away_since is not None:
                    self.on_return(self._client)
                result = work(self._client)
            except refused as error:  # redis-py counts these among lost connections
                raise self._explained(error) from error
            except lost as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since >= self._patience_s(error):
                    raise self._explained(error) from error
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except self._errors.RedisError as error:
                raise self._explained(error) from error
            else:
                self._answered = True
                return result

    def close(self) -> None:
        """Close all sockets."""
        self._client.close()

    def _patience_s(self, error: Exception) -> float:
        # A server that never answered is probably not there at all: a wrong port should not take long to be told.
        known = self._answered or isinstance(error, self._errors.BusyLoadingError)
        return _PATIENCE_S if known else 0.0

    def _explained(self, error: Exception) -> StoreError:
        return StoreError(f"Redis at {self._place.location} {_meaning(error, self._errors)}")


def _meaning(error: Exception, errors: Any) -> str:
    text = _brief(str(error))
    if isinstance(error, errors.AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return (
            "refuses the user or the password, or needs one: give them in the location "
            f"(redis://user:password@host/NAME), or the password in the variable {PASSWORD_VARIABLE}"
        )
    if isinstance(error, (errors.NoPermissionError, errors.AuthorizationError)):
        return f"does not let this user do that; it needs the rights of @search, @write, @read and SCAN ({text})"
    if isinstance(error, errors.TimeoutError):
        return "does not answer in time; check its load and the network"
    if isinstance(error, errors.BusyLoadingError):
        return "is still loading its data; try again when it has"
    if isinstance(error, errors.ConnectionError):
        return "cannot be reached; check host and port, and that the server runs"
    if isinstance(error, errors.OutOfMemoryError) or "OOM" in text:
        return (
            "has no memory left for more passages (maxmemory is reached): raise maxmemory or index fewer documents, "
            "and run again: what was written stays"
        )
    if isinstance(error, errors.ReadOnlyError):
        return "is a replica, which takes no writes; give the location of its primary"
    if "unknown command" in text:
        return f"has no search module ({text}); use Redis 8 or Redis Stack"
    if "index on db != 0" in text:
        return "searches in database 0 only; leave the number of the database out of the location"
    if "no such index" in text.lower() or "unknown index" in text.lower():
        return "no longer has the version that was opened: a newer one was published, or it was dropped; open it again"
    return f"refuses: {text}"


def _brief(text: str) -> str:
    """What the server says, without the command that it says it of, which holds the user's texts."""
    return text.split("caused error: ")[-1].split(" near ")[0].split(", with args")[0][:_SHOWN_CHARACTERS]
