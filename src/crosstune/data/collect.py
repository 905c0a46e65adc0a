"""Records to a `Collection`, and the fingerprint that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from crosstune.data.ledger import PairTable
from crosstune.data.records import Record
from crosstune.types import Collection, Passage, Qrels, Query


def build_collection(records: Sequence[Record], table: PairTable) -> Collection:
    """Questions and passages under ids "q1", "p1", ... in order of first appearance.

    Texts and metadata are those of the first row; a pair labelled twice has the higher label.
    """
    # A person asked it if any of its rows is a person's.
    real = {int(query) for query, record in zip(table.query, records, strict=True) if not record.synthetic}
    queries = {
        f"q{number}": Query(f"q{number}", records[record].query, synthetic=number - 1 not in real)
        for number, record in enumerate(table.query_record, start=1)
    }
    passages = {
        f"p{number}": Passage(f"p{number}", records[record].passage, metadata=records[record].metadata)
        for number, record in enumerate(table.passage_record, start=1)
    }
    qrels: Qrels = {}
    for query, passage, relevance in zip(table.query, table.passage, table.relevance, strict=True):
        judged = qrels.setdefault(f"q{query + 1}", {})
        passage_id = f"p{passage + 1}"
        judged[passage_id] = max(judged.get(passage_id, 0), int(relevance))
    return collection_of(passages, queries, qrels)


def collection_of(passages: Mapping[str, Passage], queries: Mapping[str, Query], qrels: Qrels) -> Collection:
    """A collection with its fingerprint: SHA-256 over all ids, texts, metadata and judgments, in order."""
    digest = hashlib.sha256()
    for passage in passages.values():
        _feed(digest, "p", passage.passage_id, passage.title, passage.text, sorted(passage.metadata.items()))
    for query in queries.values():
        _feed(digest, "q", query.query_id, query.text, *(["synthetic"] if query.synthetic else []))
    for query_id in sorted(qrels):
        _feed(digest, "j", query_id, sorted(qrels[query_id].items()))
    return Collection(passages, queries, qrels, digest.hexdigest())


def _feed(digest: hashlib._Hash, *parts: object) -> None:
    # JSON keeps the parts apart, and ASCII output makes lone surrogates harmless.
    digest.update(json.dumps(parts).encode("ascii") + b"\n")
