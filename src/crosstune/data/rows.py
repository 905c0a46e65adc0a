"""From the cells of a table row, or the fields of an object, to records: what all row formats share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

from crosstune.data.audit import AuditLog
from crosstune.data.records import SPLIT_NAMES, SYNTHETIC_WORDS, Record, Roles, column_key, find_roles, read_relevance
from crosstune.data.settings import LoadSettings

Row: TypeAlias = tuple[int, Mapping[str, str]]
"""Row number and column name -> value."""

_SAMPLE_ROWS = 100


def pair_records(
    rows: Iterator[Row], names: Sequence[str], settings: LoadSettings, log: AuditLog, path: Path
) -> tuple[Roles, Iterator[Record]]:
    """Records of a table with one question/answer pair in each row."""
    head = list(islice(rows, _SAMPLE_ROWS))
    # Rows that repeat the header must not decide whether "label" holds labels.
    keys = {name: column_key(name) for name in names}
    sample = [row for _, row in head if any(column_key(row[name]) != keys[name] for name in names if name in row)]
    roles = find_roles(names, sample, settings, path)
    return roles, _records(chain(head, rows), names, roles, log)


def _records(rows: Iterator[Row], names: Sequence[str], roles: Roles, log: AuditLog) -> Iterator[Record]:
    header = [column_key(name) for name in names]
    extras = [name for name in names if name not in roles.as_columns().values()]
    for row, cells in rows:
        log.start_row(row)
        if not any(value.strip() for value in cells.values()):
            log.add(row, "blank-row", "dropped", "every cell is empty")
        elif [column_key(cells.get(name, "")) for name in names] == header:
            log.add(row, "repeated-header", "dropped", "the row repeats the column names")
        else:
            record = _record(row, cells, roles, extras, log)
            if record is not None:
                yield record


def _record(row: int, cells: Mapping[str, str], roles: Roles, extras: Sequence[str], log: AuditLog) -> Record | None:
    relevance, split = 1, None
    if roles.label is not None:
        value = cells.get(roles.label, "")
        label = read_relevance(value)
        if label is None:
            cause = f"label {value!r} in column {roles.label!r} is not a whole number of 0 or more"
            log.refuse(row, "bad-label", cause, "put 1 for an answer that fits and 0 for one that does not")
            return None
        relevance = label
    if roles.split is not None:
        value = cells.get(roles.split, "")
        split = SPLIT_NAMES.get(value.strip().casefold())
        if split is None:
            cause = f"split {value!r} in column {roles.split!r} is not train, dev or test"
            log.refuse(row, "bad-split", cause, "name the split of every row")
            return None
    synthetic = False
    if roles.synthetic is not None:
        synthetic = SYNTHETIC_WORDS.get(cells.get(roles.synthetic, "").strip().casefold(), False)
    metadata = {name: cells[name] for name in extras if cells.get(name, "").strip()}
    return Record(
        row, cells.get(roles.question, ""), cells.get(roles.answer, ""), relevance, split, synthetic, metadata
    )
