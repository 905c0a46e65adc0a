"""Question-passage pairs row by row, nothing merged: what a model is asked to judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crosstune.data.audit import AuditLog, Finding
from crosstune.data.load import open_source
from crosstune.data.records import Record
from crosstune.data.settings import LoadSettings
from crosstune.errors import DataError


@dataclass(frozen=True, slots=True)
class PairFile:
    """Pairs in file order.

    Attributes:
        labelled: Whether their relevance was given or is only the default.
        dropped: Rows that hold no pair or could not be read, with the reason.
    """

    records: tuple[Record, ...]
    labelled: bool
    dropped: tuple[Finding, ...]


def read_pairs(path: str | Path, settings: LoadSettings | None = None) -> PairFile:
    """Read every pair of a CSV, TSV, JSONL or Parquet file as it stands.

    Raises:
        DataError: The file cannot be read, has no pairs, or a row lacks the question or the passage.
    """
    path, settings = Path(path), settings or LoadSettings()
    log = AuditLog(path, settings.skip_bad_rows)
    source = open_source(path, settings, log)
    records = tuple(source.records)
    if not records:
        raise DataError("the file has no question-passage pairs", path)
    for record in records:
        if not record.query.strip() or not record.passage.strip():
            side = "question" if not record.query.strip() else "passage"
            raise DataError(f"the {side} is empty; every pair needs both sides", path, record.row)
    labelled = "label" in source.columns or source.format == "grouped-jsonl"
    return PairFile(records, labelled, tuple(found for found in log.findings() if found.action == "dropped"))
