"""Which questions belong together: near-duplicates, and questions with a common answer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from crosstune.data.near import near_duplicate_pairs
from crosstune.types import Collection

Ints = NDArray[np.int64]


def components(n: int, links: Ints) -> Ints:
    """Component number of each of n nodes, in order of first appearance.

    Args:
        links: (m, 2) pairs of node numbers.
    """
    if n == 0:
        return np.empty(0, dtype=np.int64)
    graph = coo_array((np.ones(len(links), dtype=bool), (links[:, 0], links[:, 1])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def as_links(pairs: Iterable[tuple[int, int]]) -> Ints:
    """(m, 2) array of pairs, also when there are none."""
    return np.array(list(pairs), dtype=np.int64).reshape(-1, 2)


def shared_passage_links(queries: Ints, passages: Ints) -> Ints:
    """Links between questions that have a passage in common; the two arrays list the relevant pairs."""
    order = np.argsort(passages, kind="stable")
    same = passages[order][1:] == passages[order][:-1]
    return np.column_stack([queries[order][:-1][same], queries[order][1:][same]])


def group_queries(collection: Collection, shared_passages: bool = True) -> dict[str, str]:
    """query_id -> group id, which is the query_id of the group's first question.

    Args:
        shared_passages: Whether a common relevant passage joins two questions; near-duplicate questions are
            always joined.
    """
    ids = list(collection.queries)
    links = as_links(near_duplicate_pairs([query.text for query in collection.queries.values()]))
    if shared_passages:
        links = np.concatenate([links, _shared(collection, ids)])
    labels = components(len(ids), links)
    first: dict[int, str] = {}
    return {query_id: first.setdefault(int(label), query_id) for query_id, label in zip(ids, labels, strict=True)}


def _shared(collection: Collection, ids: list[str]) -> Ints:
    number = {passage_id: i for i, passage_id in enumerate(collection.passages)}
    pairs = as_links(
        (i, number[passage_id])
        for i, query_id in enumerate(ids)
        for passage_id in sorted(collection.relevant(query_id))
    )
    return shared_passage_links(pairs[:, 0], pairs[:, 1])
