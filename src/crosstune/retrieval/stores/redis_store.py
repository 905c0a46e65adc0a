"""An index in Redis: a hash for each passage, and an index of RediSearch over them for each version.

crosstune:index:NAME          the published version and its spec
NAME:0123456789ab             index of a version; the published one also has the alias NAME
NAME:0123456789ab:PASSAGE     a passage
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import StoreError
from crosstune.language import language_of
from crosstune.lexical import remembering
from crosstune.retrieval.ranking import require_depth
from crosstune.retrieval.stores.checks import check_passages, check_vectors, missing
from crosstune.retrieval.stores.conditions import check_conditions
from crosstune.retrieval.stores.location import RedisPlace
from crosstune.retrieval.stores.redis_connection import Connection
from crosstune.retrieval.stores.redis_query import filter_of, words_of
from crosstune.retrieval.stores.redis_rows import PARTS, absent, fields_of, passage_of
from crosstune.retrieval.stores.redis_search import Searches, nearest, pipelined
from crosstune.retrieval.stores.redis_server import (
    drop_other_versions,
    index_info,
    index_name,
    manifest_key,
    scan,
    wait_until_indexed,
)  # fmt: skip
from crosstune.retrieval.stores.version import Manifest
from crosstune.types import Condition, Found, IndexSpec, Passage

_PASSAGES_AT_ONCE = 200
_DECIMALS = 6  # of a cosine, as in every store: what float32 is good for
_INDEXING_TIMEOUT_S = 15.0


class RedisStore:
    """One version of an index in Redis. It can be used by several threads.

    Args:
        connection: To the server.
        place: Server and name of the index.
        manifest: The version and its spec.
        searched: Field -> type of what the schema takes from the metadata.
        approximate: Whether vectors are searched in a graph, which can be searched more or less widely.
    """

    def __init__(
        self,
        connection: Connection,
        place: RedisPlace,
        manifest: Manifest,
        searched: Mapping[str, str],
        *,
        approximate: bool,
    ) -> None:
        self._connection = connection
        self._place = place
        self._manifest = manifest
        self._searched = searched
        self._approximate = approximate
        self._index = index_name(place, manifest.version)
        self._cut = remembering(language_of(manifest.spec.language))
        self._searches = Searches(connection, self._index)
        connection.on_return = partial(wait_until_indexed, self._index, _INDEXING_TIMEOUT_S)

    @property
    def location(self) -> str:
        """Server and name, without a password."""
        return self._place.location

    @property
    def spec(self) -> IndexSpec:
        """What it was made with."""
        return self._manifest.spec

    @property
    def version(self) -> str:
        """Hash of the spec, and of the schema where that is not the usual one."""
        return self._manifest.version

    def count(self) -> int:
        """Number of passages."""
        return int(self._info()["num_docs"])

    def digests(self) -> Mapping[str, str]:
        """passage_id -> digest given to `put` or `update`."""
        found = {passage_id: digest for passage_id, (digest,) in self._scan("digest")}
        return {passage_id: digest for passage_id, digest in found.items() if digest is not None}

    def put(self, passages: Sequence[Passage], vectors: NDArray[np.float32], digests: Sequence[str]) -> None:
        """Write passages with their vectors (passages, dimensions); those that are there are replaced."""
        check_passages(passages, digests)
        rows = check_vectors(vectors, len(passages), self.spec)
        self._write(passages, digests, [{"vector": row.tobytes()} for row in rows])

    def update(self, passages: Sequence[Passage], digests: Sequence[str]) -> None:
        """Write all but the vectors of passages that are there."""
        check_passages(passages, digests)
        there = pipelined(self._connection, [("EXISTS", self._key(passage.passage_id)) for passage in passages])
        for passage, exists in zip(passages, there, strict=True):
            if not exists:
                raise missing(passage.passage_id, self.location)
        self._write(passages, digests, [{}] * len(passages))

    def remove(self, passage_ids: Sequence[str]) -> None:
        """Forget passages; ids that are not there are passed over."""
        pipelined(self._connection, [("UNLINK", self._key(passage_id)) for passage_id in passage_ids])

    def publish(self) -> None:
        """Make this version the one that `open_store` gives, in one step, and drop the others."""
        failures = int(self._info()["hash_indexing_failures"])
        if failures:
            raise StoreError(
                f"Redis could not index {failures} passages of {self.location}, so the version is not published; a "
                "field of the schema does not fit the metadata: see FT.INFO " + self._index
            )
        name, index = self._place.name, self._index
        manifest = json.dumps(self._manifest.as_json(), ensure_ascii=False)

        def switch(client: Any) -> None:
            with client.pipeline(transaction=True) as pipeline:
                pipeline.execute_command("FT.ALIASUPDATE", name, index)
                pipeline.set(manifest_key(self._place), manifest)
                pipeline.execute()

        self._connection.run(switch)
        drop_other_versions(self._connection, self._place, self._manifest.version)

    def search_vector(
        self, vector: NDArray[np.float32], depth: int, where: Sequence[Condition] = ()
    ) -> tuple[Found, ...]:
        """Passages with the highest cosine to a unit vector (dimensions,), best first; equal ones by passage id."""
        require_depth(depth)
        check_conditions(where, self.spec.fields)
        (row,) = check_vectors(np.atleast_2d(vector), 1, self.spec)
        condition, parameters = filter_of(where, self.spec.fields)
        parameters |= {"vector": row.tobytes()}
        text = nearest(condition, "vector", parameters, depth, approximate=self._approximate)
        query = self._searches.query(text, depth, *PARTS, "distance").sort_by("distance")
        result = self._searches.search(query, parameters)
        return self._found((document, round(1 - float(document.distance), _DECIMALS)) for document in result.docs)

    def search_text(self, text: str, depth: int, where: Sequence[Condition] = ()) -> tuple[Found, ...]:
        """Passages by BM25 over title and text, best first; equal ones by passage id."""
        require_depth(depth)
        check_conditions(where, self.spec.fields)
        terms = self._cut(text)
        if not terms:
            return ()
        words, parameters = words_of(terms)
        condition, of_condition = filter_of(where, self.spec.fields)
        found = words if condition == "*" else f"{words} {condition}"
        query = self._searches.query(found, depth, *PARTS).verbatim()
        result = self._searches.scored(query, parameters | of_condition)
        return self._found((document, float(document.score)) for document in result.docs)

    def vectors(self, passage_ids: Sequence[str]) -> NDArray[np.float32]:
        """(passages, dimensions) in the order asked for."""
        matrix = np.empty((len(passage_ids), self.spec.dimensions), dtype=np.float32)
        for start in range(0, len(passage_ids), _PASSAGES_AT_ONCE):
            some = passage_ids[start : start + _PASSAGES_AT_ONCE]
            blobs = pipelined(self._connection, [("HGET", self._key(one), "vector") for one in some], decoded=False)
            for place, (passage_id, blob) in enumerate(zip(some, blobs, strict=True), start=start):
                if blob is None:
                    raise missing(passage_id, self.location)
                matrix[place] = np.frombuffer(blob, dtype=np.float32)
        return matrix

    def passages(self) -> Iterator[Passage]:
        """All passages, ordered by document and position; those of no document first."""
        places = {
            passage_id: (document or "", int(position or 0))
            for passage_id, (document, position) in self._scan("document", "position")
        }
        ordered = sorted(places, key=lambda passage_id: (*places[passage_id], passage_id))
        for start in range(0, len(ordered), _PASSAGES_AT_ONCE):
            some = ordered[start : start + _PASSAGES_AT_ONCE]
            rows = pipelined(self._connection, [("HMGET", self._key(passage_id), *PARTS) for passage_id in some])
            found = (passage_of(passage_id, parts) for passage_id, parts in zip(some, rows, strict=True))
            yield from (passage for passage in found if passage is not None)

    def close(self) -> None:
        """Release the connections."""
        self._connection.close()

    def _key(self, passage_id: str) -> str:
        return f"{self._index}:{passage_id}"

    def _passage_id(self, key: str) -> str:
        return key[len(self._index) + 1 :]

    def _info(self) -> dict[str, Any]:
        info = index_info(self._connection, self._index)
        if info is None:
            raise StoreError(f"this version of the index at {self.location} was dropped; open it again")
        return info

    def _write(self, passages: Sequence[Passage], digests: Sequence[str], more: Sequence[Mapping[str, bytes]]) -> None:
        for start in range(0, len(passages), _PASSAGES_AT_ONCE):
            batch = slice(start, start + _PASSAGES_AT_ONCE)
            commands: list[tuple[Any, ...]] = []
            for passage, digest, extra in zip(passages[batch], digests[batch], more[batch], strict=True):
                fields = fields_of(passage, digest, self._searched, self._cut)
                gone = absent(fields, self._searched)
                key = self._key(passage.passage_id)
                commands.append(("HSET", key, *(part for pair in {**fields, **extra}.items() for part in pair)))
                commands += [("HDEL", key, *gone)] if gone else []
            pipelined(self._connection, commands, transaction=True)

    def _scan(self, *fields: str) -> Iterator[tuple[str, list[str | None]]]:
        """(passage_id, values of fields) of every passage, in no order; one can come twice."""
        for keys in scan(self._connection, f"{self._index}:*"):
            rows = pipelined(self._connection, [("HMGET", key, *fields) for key in keys])
            yield from zip(map(self._passage_id, keys), rows, strict=True)

    def _found(self, scored: Iterator[tuple[Any, float]]) -> tuple[Found, ...]:
        found = []
        for document, score in scored:
            passage_id = self._passage_id(document.id)
            passage = passage_of(passage_id, [getattr(document, part, None) for part in PARTS])
            if passage is not None:
                found.append(Found(passage, score))
        return tuple(sorted(found, key=lambda one: (-one.score, one.passage.passage_id)))
