"""The way in: a user's file or folder to a `Collection`, or, when only its state is wanted, to an `Audit`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from crosstune.data.audit import Audit, AuditLog, Finding
from crosstune.data.beir import load_folder
from crosstune.data.collect import build_collection
from crosstune.data.compare import Sizes, compare, split_of_queries
from crosstune.data.csvfile import open_csv
from crosstune.data.jsonl import open_jsonl
from crosstune.data.ledger import Ledger, PairTable
from crosstune.data.parquet import open_parquet
from crosstune.data.prepare import prepare
from crosstune.data.records import Record, Source
from crosstune.data.settings import LoadSettings
from crosstune.errors import DataError, LeakageError
from crosstune.files import require_file
from crosstune.language import detect_language
from crosstune.progress import Progress, silent
from crosstune.types import Collection

_OPENERS: Mapping[str, Callable[[Path, LoadSettings, AuditLog], Source]] = {
    ".csv": open_csv,
    ".tsv": open_csv,
    ".txt": open_csv,
    ".jsonl": open_jsonl,
    ".ndjson": open_jsonl,
    ".parquet": open_parquet,
    ".pq": open_parquet,
}
_SAMPLE_SIZE = 1000
_SAMPLE_CHARACTERS = 2000
_REPORT_EVERY = 500


@dataclass(frozen=True, slots=True)
class LoadedData:
    """A user's data, ready to use.

    Attributes:
        splits_by_user: query_id -> "train", "dev" or "test", for the questions whose split the user gave;
            None when the data names no splits.
    """

    collection: Collection
    audit: Audit
    splits_by_user: dict[str, str] | None


def load(path: str | Path, settings: LoadSettings | None = None, progress: Progress = silent) -> LoadedData:
    """Read a file (CSV, TSV, JSONL, Parquet) or a BEIR folder into memory, cleaned.

    Texts that are equal under `crosstune.text.normalized` are one question or one passage; near-duplicates
    are reported and never merged. Extra columns become metadata of the passage, from its first row.

    Raises:
        DataError: The file cannot be read, or nothing in it can be used.
        LeakageError: A question is in two of the splits that the user gave.
        MissingExtraError: The format needs a package that is not installed.
    """
    path, settings = Path(path), settings or LoadSettings()
    records: list[Record] = []
    if path.is_dir():
        loaded = _load_folder(path, settings, progress, None)
    else:
        report, table = _read(path, settings, progress, None, records.append)
        by_number = split_of_queries(table)
        by_user = {f"q{number + 1}": name for number, name in by_number.items()} or None
        loaded = LoadedData(build_collection(records, table), report, by_user)
    _refuse_unusable(loaded.audit, path)
    return loaded


def audit(
    path: str | Path,
    settings: LoadSettings | None = None,
    progress: Progress = silent,
    sink: Callable[[Finding], None] | None = None,
) -> Audit:
    """What `load` would say of a file, without holding its texts in memory; a million rows are fine.

    A BEIR folder is loaded whole.

    Args:
        sink: Called with every finding, also those that `Audit.findings` has no room for.

    Raises:
        DataError: The file cannot be read.
        MissingExtraError: The format needs a package that is not installed.
    """
    path, settings = Path(path), settings or LoadSettings()
    if path.is_dir():
        return _load_folder(path, settings, progress, sink).audit
    return _read(path, settings, progress, sink, None)[0]


def _load_folder(
    path: Path, settings: LoadSettings, progress: Progress, sink: Callable[[Finding], None] | None
) -> LoadedData:
    log = AuditLog(path, settings.skip_bad_rows, sink)
    collection, sizes, by_user = load_folder(path, log, progress)
    sample = Sample()
    for query in collection.queries.values():
        sample.add(query.text, "")
    for passage in collection.passages.values():
        sample.add("", passage.full_text)
    columns = {"question": "queries.jsonl", "answer": "corpus.jsonl", "label": "qrels/"}
    report = _audit(path, ("beir", "utf-8", "", columns), log, sizes, sample, Counter(by_user.values()))
    return LoadedData(collection, report, by_user or None)


def _read(
    path: Path,
    settings: LoadSettings,
    progress: Progress,
    sink: Callable[[Finding], None] | None,
    keep: Callable[[Record], None] | None,
) -> tuple[Audit, PairTable]:
    """Stream a file once; both ways in go through here."""
    log = AuditLog(path, settings.skip_bad_rows, sink)
    source = open_source(path, settings, log)
    ledger, sample = Ledger(), Sample()
    n_synthetic = 0
    try:
        for found, cleaned in prepare(_watched(source, progress), log):
            ledger.add(found, cleaned)
            n_synthetic += cleaned.synthetic
            sample.add(cleaned.query, cleaned.passage)
            if keep is not None:
                keep(cleaned)
        table = ledger.table()
        sizes = compare(ledger, table, log, progress)
    finally:
        ledger.close()
    form = (source.format, source.encoding, source.delimiter, source.columns)
    return _audit(path, form, log, sizes, sample, Counter(split_of_queries(table).values()), n_synthetic), table


def open_source(path: Path, settings: LoadSettings, log: AuditLog) -> Source:
    """Open a file by its ending.

    Raises:
        DataError: No such file, an unknown ending, or the format's own complaints.
    """
    require_file(path)
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        known = ", ".join(_OPENERS)
        raise DataError(
            f"the ending {path.suffix!r} names no known format; expected {known}, or a BEIR folder: "
            "rename the file or save it in one of these",
            path,
        )
    return opener(path, settings, log)


def _watched(source: Source, progress: Progress) -> Iterator[Record]:
    with progress("reading", source.total) as advance:
        reported = 0
        for count, record in enumerate(source.records, start=1):
            if count % _REPORT_EVERY == 0:
                position = source.position()
                advance(position - reported)
                reported = position
            yield record
        advance(source.total - reported)


def _audit(
    path: Path,
    form: tuple[str, str, str, Mapping[str, str]],
    log: AuditLog,
    sizes: Sizes,
    sample: Sample,
    user_split: Mapping[str, int],
    n_synthetic: int = 0,
) -> Audit:
    n_used, n_merged, n_dropped = log.outcomes()
    languages = [detect_language(texts).code for texts in (sample.questions, sample.answers) if texts]
    return Audit(
        path=str(path),
        format=form[0],
        encoding=form[1],
        delimiter=form[2],
        columns=form[3],
        rows_read=n_used + n_merged + n_dropped,
        rows_used=n_used,
        rows_merged=n_merged,
        rows_dropped=n_dropped,
        rows_synthetic=n_synthetic,
        findings=log.findings(),
        counts=dict(sorted(log.counts.items())),
        unlisted=log.unlisted(),
        **asdict(sizes),
        languages=tuple(dict.fromkeys(languages)),
        user_split=dict(user_split),
        sample_questions=tuple(sample.questions),
        sample_answers=tuple(sample.answers),
    )


def _refuse_unusable(report: Audit, path: Path) -> None:
    split_twice = report.counts.get("question-in-two-splits", 0)
    if split_twice:
        first = next(f for f in report.findings if f.kind == "question-in-two-splits")
        raise LeakageError(
            f"{path.name} row {first.row}: {first.detail} ({split_twice} such rows); "
            "put all rows of a question in one split"
        )
    if report.rows_used == 0:
        reasons = ", ".join(f"{kind} {count}" for kind, count in report.counts.items()) or "it has no rows"
        raise DataError(f"no row can be used of {report.rows_read} ({reasons}); see: crosstune check", path)


class Sample:
    """An even, seeded sample of a stream (reservoir sampling), long texts cut."""

    def __init__(self) -> None:
        self.questions: list[str] = []
        self.answers: list[str] = []
        self._seen = {"question": 0, "answer": 0}
        self._random = random.Random(0)

    def add(self, question: str, answer: str) -> None:
        """Offer a pair; empty texts are left out."""
        self._offer("question", self.questions, question)
        self._offer("answer", self.answers, answer)

    def _offer(self, what: str, kept: list[str], text: str) -> None:
        if not text:
            return
        self._seen[what] += 1
        if len(kept) < _SAMPLE_SIZE:
            kept.append(text[:_SAMPLE_CHARACTERS])
            return
        place = self._random.randrange(self._seen[what])
        if place < _SAMPLE_SIZE:
            kept[place] = text[:_SAMPLE_CHARACTERS]
