"""What was found in a user's file, row by row: kept bounded in memory, counted exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from crosstune.errors import DataError

Action: TypeAlias = Literal["dropped", "merged", "cleaned", "kept"]

MAX_LISTED = 1000
"""Findings kept in memory for each kind. Counts are exact beyond it."""

_DROPPED, _MERGED, _USED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth knowing about one row.

    Attributes:
        row: Data row number, 1 for the first after the header; the line number in JSONL.
        kind: Stable name, for example "exact-duplicate".
        action: What was done: the row "dropped", "merged" into another, "cleaned", or "kept" as it is.
        detail: For a person to read.
        other_row: The earlier row that this one repeats or resembles, if any.
    """

    row: int
    kind: str
    action: Action
    detail: str
    other_row: int | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """The state of a user's data.

    Attributes:
        path: The file or folder.
        format: For example "csv" or "beir".
        encoding, delimiter: As read; "" where the format has none.
        columns: Role ("question", "answer", ...) -> name of the column that has it.
        rows_read: rows_used + rows_merged + rows_dropped.
        rows_used: Rows that gave a question/passage pair of their own.
        rows_merged: Rows whose pair another row had already given.
        rows_dropped: Rows that gave nothing; each has a finding that says why.
        rows_synthetic: Rows not dropped whose question was written by a machine.
        findings: By row; at most `MAX_LISTED` of a kind.
        counts: kind -> exact number of findings.
        unlisted: kind -> how many findings are counted but not in `findings`; empty when all are listed.
        n_queries, n_passages, n_judgments: Distinct questions, passages, and judged pairs of them.
        n_queries_with_relevant: Questions that have at least one relevant passage.
        n_groups: Independent groups among those: near-duplicate questions or a shared answer join two.
        largest_group: Questions in the largest group.
        languages: Codes, of the questions and of the answers.
        user_split: Questions in each split the user gave; empty when there is none.
        sample_questions, sample_answers: Cleaned texts drawn evenly from the file, to measure on.
    """

    path: str
    format: str
    encoding: str
    delimiter: str
    columns: Mapping[str, str]
    rows_read: int
    rows_used: int
    rows_merged: int
    rows_dropped: int
    rows_synthetic: int
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    unlisted: Mapping[str, int]
    n_queries: int
    n_passages: int
    n_judgments: int
    n_queries_with_relevant: int
    n_groups: int
    largest_group: int
    languages: tuple[str, ...]
    user_split: Mapping[str, int]
    sample_questions: tuple[str, ...] = field(repr=False)
    sample_answers: tuple[str, ...] = field(repr=False)


class AuditLog:
    """Collects findings while a file streams by.

    Args:
        path: The file, for error messages.
        skip_bad_rows: Whether `refuse` drops the row or raises.
        sink: Called with every finding, also those beyond the cap; for writing them all to a file.
    """

    def __init__(self, path: Path, skip_bad_rows: bool = False, sink: Callable[[Finding], None] | None = None) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._skip_bad_rows = skip_bad_rows
        self._sink = sink
        self._listed: dict[str, list[Finding]] = {}
        self._outcome = bytearray()

    def start_row(self, row: int) -> None:
        """Count a row as read; it is dropped until `used` or `merged` says otherwise."""
        self._outcome.extend(bytes(max(row - len(self._outcome), 0)))

    def used(self, row: int) -> None:
        """The row gave a pair of its own."""
        self._outcome[row - 1] = _USED

    def merged(self, row: int) -> None:
        """The row gave a pair that was there already; a row that also gave one of its own stays used."""
        self._outcome[row - 1] = max(self._outcome[row - 1], _MERGED)

    def add(self, row: int, kind: str, action: Action, detail: str, other_row: int | None = None) -> None:
        """Record a finding."""
        finding = Finding(row, kind, action, detail, other_row)
        self.counts[kind] += 1
        listed = self._listed.setdefault(kind, [])
        if len(listed) < MAX_LISTED:
            listed.append(finding)
        if self._sink is not None:
            self._sink(finding)

    def refuse(self, row: int, kind: str, cause: str, remedy: str) -> None:
        """Drop a row that cannot be read and record it, if that is allowed.

        Raises:
            DataError: Bad rows are not to be skipped.
        """
        if not self._skip_bad_rows:
            raise DataError(f"{cause}; {remedy}, or pass --skip-bad-rows to drop such rows", self.path, row)
        self.add(row, kind, "dropped", cause)

    def outcomes(self) -> tuple[int, int, int]:
        """Rows used, merged and dropped."""
        return tuple(self._outcome.count(value) for value in (_USED, _MERGED, _DROPPED))  # type: ignore[return-value]

    def findings(self) -> tuple[Finding, ...]:
        """The listed findings by row."""
        listed = (finding for findings in self._listed.values() for finding in findings)
        return tuple(sorted(listed, key=lambda finding: (finding.row, finding.kind)))

    def unlisted(self) -> dict[str, int]:
        """kind -> findings counted but not listed."""
        return {
            kind: count - len(self._listed[kind])
            for kind, count in self.counts.items()
            if count > len(self._listed[kind])
        }
