"""Queries to one index of RediSearch, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crosstune.errors import StoreError
from crosstune.extras import require
from crosstune.retrieval.stores.redis_connection import Connection
from crosstune.retrieval.stores.redis_query import Parameters

# How many near passages the graph keeps in view while it searches: the more the fewer it misses.
_LEAST_WIDTH = 600
_NEVER_DECODE = "NEVER_DECODE"  # redis-py's name of the option that gives an answer as bytes
SEARCH_TIMEOUT_MS = 20_000
"""After Redis' own 500 ms it would return a part of what it should find, without a word."""
_SCORERS = ("BM25STD", "BM25")
"""The textbook's BM25, and what servers have that do not know it yet."""


class Searches:
    """What is asked of one index. It can be used by several threads.

    Args:
        connection: To the server.
        index: Name of the index, or an alias.
    """

    def __init__(self, connection: Connection, index: str) -> None:
        self._connection, self._index = connection, index
        self._scorers = list(_SCORERS)

    def query(self, text: str, depth: int, *fields: str) -> Any:
        """A query that returns these fields of the `depth` best; without fields, their keys alone."""
        queries = require("redis.commands.search.query", extra="redis", what="an index in Redis")
        query = queries.Query(text).paging(0, depth).dialect(2).timeout(SEARCH_TIMEOUT_MS)
        return query.return_fields(*fields) if fields else query.no_content()

    def search(self, query: Any, parameters: Parameters) -> Any:
        """What is found, in the query's order."""
        return self._connection.run(lambda client: client.ft(self._index).search(query, parameters))

    def scored(self, query: Any, parameters: Parameters) -> Any:
        """As `search`, by BM25: with the first scorer that the server knows."""
        while True:
            try:
                return self.search(query.with_scores().scorer(self._scorers[0]), parameters)
            except StoreError as error:
                if "No such scorer" not in str(error) or len(self._scorers) == 1:
                    raise
                self._scorers = self._scorers[1:]


def nearest(condition: str, vector: str, parameters: Parameters, depth: int, *, approximate: bool) -> str:
    """The query for the `depth` nearest passages, their distance in "distance"; its parameters are added.

    Args:
        condition: That passages must meet; "*" for none.
        vector: Name of the field; the vector that is looked for is the parameter "vector".
        parameters: Of the query.
        depth: Passages that are found.
        approximate: Whether a graph is searched, which can be done more or less widely.
    """
    parameters["depth"] = depth
    width = ""
    if approximate:
        width, parameters["width"] = "EF_RUNTIME $width", max(_LEAST_WIDTH, 2 * depth)
    return f"({condition})=>[KNN $depth @{vector} $vector {width} AS distance]"


def pipelined(
    connection: Connection, commands: Sequence[tuple[Any, ...]], *, transaction: bool = False, decoded: bool = True
) -> list[Any]:
    """The answers to commands that are sent at once; as bytes when they are not decoded."""
    options = {} if decoded else {_NEVER_DECODE: True}

    def execute(client: Any) -> list[Any]:
        with client.pipeline(transaction=transaction) as pipeline:
            for command in commands:
                pipeline.execute_command(*command, **options)
            results: list[Any] = pipeline.execute()
            return results

    return connection.run(execute)
