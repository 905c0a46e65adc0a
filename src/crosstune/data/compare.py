"""Findings that need the whole file: repeats, near-duplicates, shared answers, and the number of groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosstune.data.audit import AuditLog
from crosstune.data.groups import as_links, components, shared_passage_links
from crosstune.data.ledger import SPLITS, Chosen, Ledger, PairTable, Spool
from crosstune.data.near import similar_pairs
from crosstune.progress import Progress

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts over the whole file; the names are those of `Audit`."""

    n_queries: int
    n_passages: int
    n_judgments: int
    n_queries_with_relevant: int
    n_groups: int
    largest_group: int


def compare(ledger: Ledger, table: PairTable, log: AuditLog, progress: Progress) -> Sizes:
    """Record every finding that compares rows, mark rows as used or merged, and count."""
    is_first = table.first_of_pair == np.arange(len(table.row))
    _repeats(table, is_first, log)
    relevant = is_first & (table.relevance > 0)
    _shared(table, relevant, log)
    query_links = _near(ledger.queries, table, "question", log, progress)
    _near(ledger.passages, table, "answer", log, progress)
    shared = shared_passage_links(table.query[relevant], table.passage[relevant])
    groups = components(len(table.query_record), np.concatenate([query_links, shared]))
    judged = np.unique(table.query[relevant])
    _without_relevant(table, judged, log)
    _two_splits(table, log)
    sizes = np.unique(groups[judged], return_counts=True)[1]
    return Sizes(
        len(table.query_record),
        len(table.passage_record),
        int(is_first.sum()),
        len(judged),
        len(sizes),
        int(sizes.max(initial=0)),
    )


def _repeats(table: PairTable, is_first: NDArray[np.bool_], log: AuditLog) -> None:
    for record in np.flatnonzero(is_first):
        log.used(int(table.row[record]))
    for record in np.flatnonzero(~is_first):
        row = int(table.row[record])
        log.merged(row)
        same_cells = int(table.first_of_cells[record])
        earlier = same_cells if same_cells != record else int(table.first_of_pair[record])
        other = int(table.row[earlier])
        if same_cells != record:
            log.add(row, "exact-duplicate", "merged", f"question and answer are those of row {other}", other)
        else:
            detail = f"differs from row {other} only in case, blanks, punctuation or markup"
            log.add(row, "near-duplicate", "merged", detail, other)
        _conflict(table, int(record), row, log)


def _conflict(table: PairTable, record: int, row: int, log: AuditLog) -> None:
    first = int(table.first_of_pair[record])
    ours, theirs = int(table.relevance[record]), int(table.relevance[first])
    if ours != theirs:
        other = int(table.row[first])
        detail = f"label {ours} here, {theirs} in row {other}; the highest is used"
        log.add(row, "conflicting-label", "kept", detail, other)


def _shared(table: PairTable, relevant: NDArray[np.bool_], log: AuditLog) -> None:
    """Several answers to a question and several questions to an answer: normal, and worth knowing."""
    records = np.flatnonzero(relevant)
    for key, kind, what in (
        (table.query, "same-question-other-answer", "question"),
        (table.passage, "same-answer-other-question", "answer"),
    ):
        _, first, inverse = np.unique(key[records], return_index=True, return_inverse=True)
        earliest = table.row[records[first]][inverse]
        rows = table.row[records]
        for i in np.flatnonzero(earliest != rows):
            row, other = int(rows[i]), int(earliest[i])
            log.add(row, kind, "kept", f"the {what} is that of row {other}", other)


def _near(spool: Spool, table: PairTable, what: str, log: AuditLog, progress: Progress) -> Ints:
    """Record near-duplicate texts; links between the numbers of the questions or passages."""
    first = table.query_record if what == "question" else table.passage_record
    pairs = similar_pairs(Chosen(spool, first), progress=progress)
    reported: set[int] = set()
    for earlier, later in pairs:
        row, other = int(table.row[first[later]]), int(table.row[first[earlier]])
        if later not in reported:
            reported.add(later)
            log.add(row, f"near-duplicate-{what}", "kept", f"the {what} is nearly that of row {other}", other)
    return as_links(pairs)


def _without_relevant(table: PairTable, judged: Ints, log: AuditLog) -> None:
    for query in np.setdiff1d(np.arange(len(table.query_record)), judged):
        row = int(table.row[table.query_record[query]])
        log.add(
            row,
            "no-relevant-answer",
            "kept",
            "every answer to this question is labelled 0: it cannot be tested",
        )


def split_of_queries(table: PairTable) -> dict[int, str]:
    """Question number -> the split its first row names; empty when no row names one."""
    named = {query: SPLITS[int(table.split[record])] for query, record in enumerate(table.query_record)}
    return {query: name for query, name in named.items() if name is not None}


def _two_splits(table: PairTable, log: AuditLog) -> None:
    first = table.query_record[table.query]
    for record in np.flatnonzero(table.split != table.split[first]):
        row, other = int(table.row[record]), int(table.row[first[record]])
        ours, theirs = SPLITS[int(table.split[record])], SPLITS[int(table.split[first[record]])]
        detail = f"the question is in {ours} here and in {theirs} in row {other}"
        log.add(row, "question-in-two-splits", "kept", detail, other)
