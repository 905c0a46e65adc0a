"""An index in Redis that another program made: RedisVL, LangChain, LlamaIndex, or the user's own. It is only read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import StoreError
from crosstune.language import UNDETERMINED, detect_language
from crosstune.retrieval.ranking import require_depth
from crosstune.retrieval.stores.checks import check_vectors, missing
from crosstune.retrieval.stores.conditions import check_conditions
from crosstune.retrieval.stores.foreign_rows import Documents
from crosstune.retrieval.stores.foreign_schema import ForeignSchema, read_foreign_schema
from crosstune.retrieval.stores.location import RedisPlace
from crosstune.retrieval.stores.redis_connection import Connection
from crosstune.retrieval.stores.redis_query import filter_of, words_of
from crosstune.retrieval.stores.redis_search import Searches, nearest
from crosstune.retrieval.stores.redis_server import index_info, wait_until_indexed
from crosstune.types import Condition, Found, IndexSpec, Passage

_DECIMALS = 6
_PASSAGES_AT_ONCE = 200
_INDEXING_TIMEOUT_S = 15.0
_LANGUAGE_SAMPLE = 100
# What RediSearch parts words by, in its own indexes of text.
_WORD = re.compile(r"""[^\s,./(){}\[\]:;~!@#$%^&*\-=+|'`"<>?\\]+""")


@dataclass(frozen=True, slots=True)
class ForeignSpec:
    """The embedder that the vectors of an index are from; the index does not tell.

    Attributes:
        embedder: Its identity, as of `IndexSpec`.
        embedder_source: What to load it from.
        dimensions: Of its vectors.
    """

    embedder: str
    embedder_source: str
    dimensions: int


class ForeignRedisStore:
    """An index that another program made, as a `protocols.Store` that refuses to write. Several threads can use it.

    The id of a passage is its key, without the index's prefix. Metadata are the tags and numbers of the index; a
    condition means what it means in Redis: a tag may be one of several, and is compared without case unless the
    index says otherwise.

    Args:
        connection: To the server.
        place: Server and name of the index.
        schema: How it is read.
        spec: What its vectors are from, and what its schema says.
    """

    def __init__(self, connection: Connection, place: RedisPlace, schema: ForeignSchema, spec: IndexSpec) -> None:
        self._connection, self._place, self._schema, self._spec = connection, place, schema, spec
        self._documents = Documents(connection, schema)
        self._searches = Searches(connection, schema.index)
        connection.on_return = partial(wait_until_indexed, schema.index, _INDEXING_TIMEOUT_S)

    @property
    def location(self) -> str:
        """Server, name and chosen fields, without a password."""
        return self._place.location

    @property
    def spec(self) -> IndexSpec:
        """What its vectors are from; the language is detected, and documents were not cut by us (0 tokens)."""
        return self._spec

    @property
    def version(self) -> str:
        """None that we know of."""
        return ""

    @property
    def text_field(self) -> str:
        """The field that passages are read from."""
        return self._schema.text.name

    def count(self) -> int:
        """Number of documents, also of those without a text or a vector."""
        info = index_info(self._connection, self._schema.index)
        if info is None:
            raise StoreError(f"the index at {self.location} was dropped from Redis")
        return int(info["num_docs"])

    def search_vector(
        self, vector: NDArray[np.float32], depth: int, where: Sequence[Condition] = ()
    ) -> tuple[Found, ...]:
        """The passages nearest to a unit vector (dimensions,) by the index's own metric, best first.

        The score is the cosine in an index by cosine, the dot product in one by inner product, and 1 - d/2 of the
        squared distance d in one by L2: the cosine in all three when the vectors that are stored have length 1.
        """
        require_depth(depth)
        check_conditions(where, self.spec.fields)
        (row,) = check_vectors(np.atleast_2d(vector), 1, self.spec)
        condition, parameters = filter_of(where, self.spec.fields)
        parameters["vector"] = row.astype(self._schema.datatype).tobytes()
        text = nearest(
            condition, self._schema.vector.in_query, parameters, depth, approximate=self._schema.is_graph
        )  # fmt: skip
        query = self._searches.query(text, depth, "distance").sort_by("distance")
        result = self._searches.search(query, parameters)
        share = 0.5 if self._schema.metric == "l2" else 1.0
        return self._found((one.id, round(1 - share * float(one.distance), _DECIMALS)) for one in result.docs)

    def search_text(self, text: str, depth: int, where: Sequence[Condition] = ()) -> tuple[Found, ...]:
        """Passages by BM25 over the text field, with the words and stems of RediSearch; equal ones by passage id."""
        require_depth(depth)
        check_conditions(where, self.spec.fields)
        if self._schema.text.kind != "text":
            raise StoreError(
                f"the field {self.text_field!r} of the index at {self.location} is not indexed as TEXT: only vector "
                "search is possible (--mode vector)"
            )
        terms = _WORD.findall(text.lower())
        if not terms:
            return ()
        words, parameters = words_of(terms, self._schema.text.in_query)
        condition, of_condition = filter_of(where, self.spec.fields)
        query = self._searches.query(words if condition == "*" else f"{words} {condition}", depth)
        result = self._searches.scored(query, parameters | of_condition)
        return self._found((one.id, float(one.score)) for one in result.docs)

    def vectors(self, passage_ids: Sequence[str]) -> NDArray[np.float32]:
        """(passages, dimensions) in the order asked for, brought to length 1."""
        matrix = np.zeros((len(passage_ids), self.spec.dimensions))
        for place, row in enumerate(self._documents.vectors(passage_ids)):
            if row is None:
                raise missing(passage_ids[place], self.location)
            matrix[place] = row
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        return (matrix / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def passages(self, where: Sequence[Condition] = ()) -> Iterator[Passage]:
        """All passages that meet the conditions, ordered by key."""
        check_conditions(where, self.spec.fields)
        keys = self._documents.keys(*filter_of(where, self.spec.fields))
        for start in range(0, len(keys), _PASSAGES_AT_ONCE):
            found = self._documents.passages(keys[start : start + _PASSAGES_AT_ONCE])
            yield from (passage for passage in found if passage is not None)

    def sample(self, n: int) -> tuple[Passage, ...]:
        """Up to n passages, at little cost."""
        result = self._searches.search(self._searches.query("*", n), {})
        return tuple(item.passage for item in self._found((one.id, 0.0) for one in result.docs))

    def digests(self) -> Mapping[str, str]:
        """Refused: there are none."""
        self._refuse()

    def put(self, passages: Sequence[Passage], vectors: NDArray[np.float32], digests: Sequence[str]) -> None:
        """Refused."""
        self._refuse()

    def update(self, passages: Sequence[Passage], digests: Sequence[str]) -> None:
        """Refused."""
        self._refuse()

    def remove(self, passage_ids: Sequence[str]) -> None:
        """Refused."""
        self._refuse()

    def publish(self) -> None:
        """Refused."""
        self._refuse()

    def close(self) -> None:
        """Release the connections."""
        self._connection.close()

    def _refuse(self) -> NoReturn:
        raise StoreError(f"the index at {self.location} was made by another program and is only read")

    def _found(self, scored: Iterator[tuple[str, float]]) -> tuple[Found, ...]:
        keys_scores = list(scored)
        passages = self._documents.passages([key for key, _ in keys_scores])
        found = [
            Found(passage, score)
            for passage, (_, score) in zip(passages, keys_scores, strict=True)
            if passage is not None  # removed a moment ago, or without a text or a vector
        ]
        return tuple(sorted(found, key=lambda one: (-one.score, one.passage.passage_id)))


def read_foreign(
    connection: Connection, place: RedisPlace, info: Mapping[str, Any], foreign: ForeignSpec
) -> ForeignRedisStore:  # fmt: skip
    """The store of an index that another program made.

    Args:
        connection: To the server.
        place: With the name of the index or its alias, and the fields that the user chose.
        info: FT.INFO of it.
        foreign: What its vectors are from.

    Raises:
        StoreError: Its vectors have another number of dimensions, or its fields cannot be told.
    """
    schema = read_foreign_schema(info, place)
    if schema.dimensions != foreign.dimensions:
        raise StoreError(
            f"vectors of the index at {place.location} have {schema.dimensions} dimensions, those of "
            f"{foreign.embedder_source!r} {foreign.dimensions}: name the model that they are from with --embedder"
        )
    spec = IndexSpec(
        foreign.embedder, foreign.embedder_source, foreign.dimensions, language=UNDETERMINED, chunk_tokens=0,
        overlap_tokens=0, fields=schema.searchable,
    )  # fmt: skip
    sample = ForeignRedisStore(connection, place, schema, spec).sample(_LANGUAGE_SAMPLE)
    spec = replace(spec, language=detect_language([passage.text for passage in sample]).code)
    return ForeignRedisStore(connection, place, schema, spec)
