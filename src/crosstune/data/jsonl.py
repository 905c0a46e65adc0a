"""JSONL: one object in each line, either a pair or a question with its passages.

Layouts: question/answer pairs and labelled pairs under the column names that CSV has too; FlagEmbedding's
`{"query", "pos": [...], "neg": [...]}`; Cohere's
`{"query", "relevant_passages": [...], "hard_negatives": [...]}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from crosstune.data.audit import AuditLog
from crosstune.data.records import Record, Source, column_key
from crosstune.data.rows import Row, pair_records
from crosstune.data.settings import LoadSettings
from crosstune.encoding import detect_encoding, open_text
from crosstune.errors import DataError

_GROUPED = {"pos": "neg", "relevantpassages": "hardnegatives"}
_REMEDY = "every line must be one JSON object such as {...}"

Fields = Mapping[str, Any]


def open_jsonl(path: Path, settings: LoadSettings, log: AuditLog) -> Source:
    """Open a JSONL file; the first object decides the layout.

    Raises:
        DataError: Not JSONL, no known layout, or (while streaming) a line that cannot be read.
    """
    encoding, errors = (
        (settings.encoding, "strict") if settings.encoding else detect_encoding(path, settings.skip_bad_rows)
    )
    file, position = open_text(path, encoding, errors)
    objects = _objects(file, log)
    first = next(objects, None)
    if first is None:
        raise DataError("there is no JSON object in the file; expected one in each line", path)
    objects = chain([first], objects)
    positives = next((key for key in first[1] if column_key(key) in _GROUPED), None)
    if positives is None:
        layout, columns, records = _pairs(objects, list(first[1]), settings, log, path)
    else:
        layout, columns, records = _grouped(objects, list(first[1]), positives, log, path)
    return Source(layout, columns, records, os.path.getsize(path), position, encoding)


def _objects(file: TextIO, log: AuditLog) -> Iterator[tuple[int, Fields]]:
    """Line number and object; blank lines and lines that are not objects are reported."""
    with file:
        for row, line in enumerate(file, start=1):
            log.start_row(row)
            if not line.strip("\ufeff \t\r\n"):
                log.add(row, "blank-row", "dropped", "the line is empty")
                continue
            try:
                value = json.loads(line.lstrip("\ufeff"))
            except json.JSONDecodeError as error:
                cut = not line.endswith("\n")
                kind, cause = ("truncated-file", "the last line is cut off") if cut else ("unreadable-row", "not JSON")
                remedy = "get the whole file" if cut else _REMEDY
                log.refuse(row, kind, f"{cause} ({error.msg} at character {error.pos})", remedy)
                continue
            if isinstance(value, dict):
                yield row, value
            else:
                log.refuse(row, "unreadable-row", f"found a JSON {type(value).__name__}, not an object", _REMEDY)


def _pairs(
    objects: Iterator[tuple[int, Fields]], names: list[str], settings: LoadSettings, log: AuditLog, path: Path
) -> tuple[str, Mapping[str, str], Iterator[Record]]:
    roles, records = pair_records(_rows(objects, log), names, settings, log, path)
    return "jsonl", roles.as_columns(), records


def _rows(objects: Iterator[tuple[int, Fields]], log: AuditLog) -> Iterator[Row]:
    for row, fields in objects:
        nested = [name for name, value in fields.items() if isinstance(value, dict | list)]
        if nested:
            cause = f"field {nested[0]!r} holds a list or an object where a text is expected"
            log.refuse(row, "unreadable-row", cause, "write one line for each pair")
        else:
            yield row, {name: as_text(value) for name, value in fields.items()}


def as_text(value: object) -> str:
    """A scalar as the text a CSV would have; null is the empty text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _grouped(
    objects: Iterator[tuple[int, Fields]], names: list[str], positives: str, log: AuditLog, path: Path
) -> tuple[str, Mapping[str, str], Iterator[Record]]:
    query = next((name for name in names if column_key(name) in ("query", "question")), None)
    if query is None:
        raise DataError(f"expected a field 'query' beside {positives!r}, found {', '.join(names)}", path)
    wanted = _GROUPED[column_key(positives)]
    negatives = next((name for name in names if column_key(name) == wanted), None)
    # The first line may lack the negatives that later lines have.
    negatives = negatives or {"neg": "neg", "hardnegatives": "hard_negatives"}[wanted]
    columns = {"question": query, "answer": positives, "negatives": negatives}
    return "grouped-jsonl", columns, _group_records(objects, columns, log)


def _group_records(
    objects: Iterator[tuple[int, Fields]], columns: Mapping[str, str], log: AuditLog
) -> Iterator[Record]:
    for row, fields in objects:
        query = fields.get(columns["question"])
        positives = _texts(fields.get(columns["answer"]))
        negatives = _texts(fields.get(columns["negatives"]))
        if positives is None or negatives is None or not isinstance(query, str | None):
            cause = f"expected a text in {columns['question']!r} and lists of texts in the other two fields"
            log.refuse(row, "unreadable-row", cause, "check the line against the layout")
        elif not positives and not negatives:
            log.add(row, "empty-answer", "dropped", "the question has neither positives nor negatives")
        else:
            metadata = _metadata(fields, columns)
            yield from (Record(row, query or "", text, metadata=metadata) for text in positives)
            yield from (Record(row, query or "", text, relevance=0) for text in negatives)


def _texts(value: object) -> list[str] | None:
    """A text or a list of texts as a list; None when it is neither."""
    if value is None:
        return []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        return None
    return values


def _metadata(fields: Fields, columns: Mapping[str, str]) -> dict[str, str]:
    return {
        name: as_text(value)
        for name, value in fields.items()
        if name not in columns.values() and not isinstance(value, dict | list) and as_text(value).strip()
    }
