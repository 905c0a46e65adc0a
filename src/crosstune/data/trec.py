"""Runs and judgments in TREC's text formats, which every evaluation tool reads.

Fields are separated by blanks, so ids must not hold any. A run's last column, its tag, is the run's name.
What a run line has no room for, the depth and what the scores mean, is for the caller to keep and give back.
A path that ends in .gz is written and read compressed.
"""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from crosstune.errors import DataError
from crosstune.files import require_file
from crosstune.types import Candidate, Qrels, Run, ScoreKind


def write_run(run: Run, path: str | Path) -> None:
    """Write `query_id Q0 passage_id rank score tag` lines, scores with full float precision.

    The file is there whole or not at all.

    Raises:
        DataError: An id or the name holds a blank.
    """
    tag = _word(run.name, path)
    _write(
        path,
        (
            f"{_word(query_id, path)} Q0 {_word(candidate.passage_id, path)} {candidate.rank} "
            f"{float(candidate.score)!r} {tag}\n"
            for query_id, candidates in run.candidates.items()
            for candidate in candidates
        ),
    )


def read_run(path: str | Path, score_kind: ScoreKind, depth: int | None = None) -> Run:
    """Read a run; candidates are put in the order of their ranks.

    Args:
        score_kind: What the scores mean.
        depth: Depth the run was retrieved to; None takes the most candidates of any query.

    Raises:
        DataError: A line has not six fields, a rank or score is not a number, or the tags differ.
    """
    found: dict[str, list[Candidate]] = {}
    names: dict[str, None] = {}
    for line, fields in _fields(path, 6, "query_id Q0 passage_id rank score tag"):
        try:
            candidate = Candidate(fields[2], float(fields[4]), int(fields[3]))
        except ValueError as error:
            raise DataError(f"rank or score is not a number ({error}); repair the line", path, line) from error
        found.setdefault(fields[0], []).append(candidate)
        names[fields[5]] = None
    if len(names) > 1:
        raise DataError(f"more than one run in the file ({', '.join(names)}); split it by its last column", path)
    candidates = {
        query_id: tuple(sorted(ranked, key=lambda candidate: candidate.rank)) for query_id, ranked in found.items()
    }
    most = max((len(ranked) for ranked in candidates.values()), default=0)
    return Run(next(iter(names), Path(path).stem), depth or most, score_kind, candidates)


def write_qrels(qrels: Qrels, path: str | Path) -> None:
    """Write `query_id 0 passage_id relevance` lines. The file is there whole or not at all.

    Raises:
        DataError: An id holds a blank.
    """
    _write(
        path,
        (
            f"{_word(query_id, path)} 0 {_word(passage_id, path)} {relevance}\n"
            for query_id, judged in qrels.items()
            for passage_id, relevance in judged.items()
        ),
    )


def read_qrels(path: str | Path) -> Qrels:
    """Read judgments.

    Raises:
        DataError: A line has not four fields, or its relevance is not a whole number.
    """
    qrels: Qrels = {}
    for line, fields in _fields(path, 4, "query_id 0 passage_id relevance"):
        try:
            qrels.setdefault(fields[0], {})[fields[2]] = int(fields[3])
        except ValueError as error:
            raise DataError(f"relevance {fields[3]!r} is not a whole number; repair it", path, line) from error
    return qrels


def _word(text: str, path: str | Path) -> str:
    if not text or text.split() != [text]:
        raise DataError(f"TREC files have no room for the blank or empty id {text!r}; rename it", path)
    return text


def _write(path: str | Path, lines: Iterable[str]) -> None:
    partial = Path(f"{path}.partial")
    try:
        with partial.open("wb") as raw, _text(raw, path) as file:
            file.writelines(lines)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _text(raw: BinaryIO, path: str | Path) -> TextIO:
    """What is written to `raw`, as text."""
    # Without a time and a name, so that equal runs are equal files.
    packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if str(path).endswith(".gz") else raw
    return io.TextIOWrapper(packed, encoding="utf-8", newline="\n")


def _fields(path: str | Path, count: int, layout: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line that is not blank."""
    require_file(Path(path))
    opened = gzip.open if str(path).endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        try:
            for line, text in enumerate(file, start=1):
                fields = text.split()
                if len(fields) == count:
                    yield line, fields
                elif fields:
                    raise DataError(f"expected {count} fields ({layout}), found {len(fields)}", path, line)
        except (gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"the file is not whole or not compressed by gzip ({error}); copy it anew", path) from error
