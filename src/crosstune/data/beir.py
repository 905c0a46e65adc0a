"""The BEIR layout: corpus.jsonl, queries.jsonl, and judgments in qrels/train.tsv, dev.tsv, test.tsv."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.cleaning import clean
from crosstune.data.audit import AuditLog
from crosstune.data.collect import collection_of
from crosstune.data.compare import Sizes
from crosstune.data.groups import as_links, components, shared_passage_links
from crosstune.data.near import near_duplicate_pairs
from crosstune.errors import DataError, LeakageError
from crosstune.progress import Progress, silent
from crosstune.types import Collection, Passage, Qrels, Query

_SPLIT_FILES = (("train", "train.tsv"), ("dev", "dev.tsv"), ("test", "test.tsv"))


def read_beir(folder: str | Path, split: str) -> Collection:
    """The whole corpus with the judged queries of one split.

    Args:
        split: "train", "dev" or "test".

    Raises:
        DataError: A file is missing or cannot be read, or the split has no judgments.
    """
    folder = Path(folder)
    collection, _, by_user = load_folder(folder, AuditLog(folder), silent)
    queries = {qid: query for qid, query in collection.queries.items() if by_user[qid] == split}
    if not queries:
        raise DataError(f"there are no judgments in qrels/{split}.tsv; add them or name another split", folder)
    qrels = {qid: collection.qrels[qid] for qid in queries}
    return collection_of(collection.passages, queries, qrels)


def load_folder(folder: Path, log: AuditLog, progress: Progress) -> tuple[Collection, Sizes, dict[str, str]]:
    """Read all splits of a folder; ids are kept, so that equal texts under different ids stay apart.

    Rows are judgments, counted through train.tsv, dev.tsv and test.tsv. Findings about texts have the line
    number in their file as row, and name the file.

    Returns:
        The collection of judged queries, its sizes, and query_id -> split.
    """
    passages = _read_corpus(folder / "corpus.jsonl", log)
    queries = _read_queries(folder / "queries.jsonl", log)
    qrels, by_user = _read_judgments(folder, passages, queries, log)
    for line, query_id in enumerate(queries, start=1):
        if query_id not in qrels:
            log.add(line, "query-without-judgments", "dropped", f"queries.jsonl: query {query_id!r} is not judged")
    judged = {query_id: query for query_id, query in queries.items() if query_id in qrels}
    collection = collection_of(passages, judged, qrels)
    return collection, _sizes(collection, log, progress), by_user


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise DataError(
            f"a BEIR folder has corpus.jsonl, queries.jsonl and qrels/*.tsv; {path.name} is missing: "
            "add it, or pass the file you mean",
            path.parent,
        )
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _fields(line, path, number)


def _fields(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"not a JSON object ({error.msg}); repair the line", path, number) from error
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str) or "_id" not in fields:
        raise DataError('expected an object such as {"_id": "d1", "text": "..."}; repair the line', path, number)
    return fields


def _read_corpus(path: Path, log: AuditLog) -> dict[str, Passage]:
    passages: dict[str, Passage] = {}
    for number, fields in _lines(path):
        passage_id = str(fields["_id"])
        if passage_id in passages:
            raise DataError(f"the id {passage_id!r} is there twice; give each document its own", path, number)
        title = _cleaned(str(fields.get("title") or ""), path.name, number, log)
        text = _cleaned(fields["text"], path.name, number, log)
        if text or title:
            metadata = {
                key: str(value)
                for key, value in fields.items()
                if key not in ("_id", "title", "text") and isinstance(value, str | int | float) and str(value)
            }
            passages[passage_id] = Passage(passage_id, text, title, metadata)
        else:
            log.add(number, "empty-answer", "dropped", f"corpus.jsonl: document {passage_id!r} has no text")
    return passages


def _read_queries(path: Path, log: AuditLog) -> dict[str, Query]:
    queries: dict[str, Query] = {}
    for number, fields in _lines(path):
        query_id = str(fields["_id"])
        if query_id in queries:
            raise DataError(f"the id {query_id!r} is there twice; give each query its own", path, number)
        text = _cleaned(fields["text"], path.name, number, log)
        if text:
            queries[query_id] = Query(query_id, text)
        else:
            log.add(number, "empty-question", "dropped", f"queries.jsonl: query {query_id!r} has no text")
    return queries


def _cleaned(text: str, file: str, line: int, log: AuditLog) -> str:
    cleaned, repairs = clean(text)
    for repair in repairs:
        kind = "html-answer" if repair == "html" else repair
        log.add(line, kind, "cleaned", f"{file} line {line}: the text was repaired")
    return cleaned


def _read_judgments(
    folder: Path, passages: Mapping[str, Passage], queries: Mapping[str, Query], log: AuditLog
) -> tuple[Qrels, dict[str, str]]:
    files = [(split, folder / "qrels" / name) for split, name in _SPLIT_FILES]
    files = [(split, path) for split, path in files if path.is_file()]
    if not files:
        raise DataError("there is no qrels/train.tsv, dev.tsv or test.tsv; add the judgments", folder)
    qrels: Qrels = {}
    by_user: dict[str, str] = {}
    row = 0
    for split, path in files:
        for line, fields in _judgment_lines(path):
            row += 1
            log.start_row(row)
            where = f"qrels/{path.name} line {line}"
            cause = _fault(fields, passages, queries)
            if cause is not None:
                log.refuse(row, "bad-judgment", f"{where}: {cause}", "repair the line")
                continue
            query_id, passage_id, relevance = fields
            if by_user.setdefault(query_id, split) != split:
                raise LeakageError(
                    f"{where}: query {query_id!r} is judged in {by_user[query_id]} too; keep each query in one split"
                )
            qrels.setdefault(query_id, {})[passage_id] = max(int(relevance), 0)
            log.used(row)
    return qrels, by_user


def _judgment_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            fields = line.rstrip("\r\n").split("\t")
            is_header = number == 1 and not fields[-1].lstrip("-").isdigit()
            if line.strip() and not is_header:
                yield number, fields


def _fault(fields: list[str], passages: Mapping[str, Passage], queries: Mapping[str, Query]) -> str | None:
    """What is wrong with a judgment; None when nothing is."""
    if len(fields) != 3 or not fields[2].lstrip("-").isdigit():
        return f"expected query-id, corpus-id and a whole-number score between tabs, found {fields}"
    if fields[0] not in queries:
        return f"query {fields[0]!r} is not in queries.jsonl or has no text"
    if fields[1] not in passages:
        return f"document {fields[1]!r} is not in corpus.jsonl or has no text"
    return None


def _sizes(collection: Collection, log: AuditLog, progress: Progress) -> Sizes:
    queries, passages = list(collection.queries.values()), list(collection.passages.values())
    query_pairs = near_duplicate_pairs([query.text for query in queries], progress=progress)
    passage_pairs = near_duplicate_pairs([passage.full_text for passage in passages], progress=progress)
    for kind, pairs, ids in (
        ("near-duplicate-question", query_pairs, [query.query_id for query in queries]),
        ("near-duplicate-answer", passage_pairs, [passage.passage_id for passage in passages]),
    ):
        first = {later: earlier for earlier, later in reversed(pairs)}
        for later, earlier in sorted(first.items()):
            log.add(later + 1, kind, "kept", f"{ids[later]!r} is nearly {ids[earlier]!r}", earlier + 1)
    number = {passage.passage_id: i for i, passage in enumerate(passages)}
    relevant = as_links(
        (i, number[pid]) for i, query in enumerate(queries) for pid in sorted(collection.relevant(query.query_id))
    )
    links = np.concatenate([as_links(query_pairs), shared_passage_links(relevant[:, 0], relevant[:, 1])])
    groups = components(len(queries), links)
    with_relevant = np.unique(relevant[:, 0])
    for i in np.setdiff1d(np.arange(len(queries)), with_relevant):
        detail = f"query {queries[i].query_id!r} has no judgment above 0: it cannot be tested"
        log.add(int(i) + 1, "no-relevant-answer", "kept", detail)
    sizes = np.unique(groups[with_relevant], return_counts=True)[1]
    n_judgments = sum(len(judged) for judged in collection.qrels.values())
    return Sizes(len(queries), len(passages), n_judgments, len(with_relevant), len(sizes), int(sizes.max(initial=0)))
