"""Parquet, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crosstune.data.audit import AuditLog
from crosstune.data.jsonl import as_text
from crosstune.data.records import Source
from crosstune.data.rows import Row, pair_records
from crosstune.data.settings import LoadSettings
from crosstune.errors import DataError
from crosstune.extras import require


def open_parquet(path: Path, settings: LoadSettings, log: AuditLog) -> Source:
    """Open a Parquet file with one pair in each row; null reads as the empty text.

    Raises:
        DataError: Not Parquet, or no question or answer column.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = require("pyarrow", extra="parquet", what="reading Parquet")
    parquet = require("pyarrow.parquet", extra="parquet", what="reading Parquet")
    try:
        file = parquet.ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise DataError(f"this is not a whole Parquet file ({error}); get or write it again", path) from error
    names = list(file.schema_arrow.names)
    n_read = [0]
    roles, records = pair_records(_rows(file, n_read), names, settings, log, path)
    return Source("parquet", roles.as_columns(), records, file.metadata.num_rows, lambda: n_read[0])


def _rows(file: Any, n_read: list[int]) -> Iterator[Row]:
    for batch in file.iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            n_read[0] += 1
            yield n_read[0], {name: as_text(value) for name, value in row.items()}
