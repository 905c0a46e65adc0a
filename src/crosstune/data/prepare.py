"""From a record as found to a record to use: cleaned, or dropped with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from crosstune.cleaning import clean, has_quoted_tags, is_placeholder
from crosstune.data.audit import AuditLog
from crosstune.data.records import Record
from crosstune.text import normalized

LONG_ANSWER_BYTES = 4000
"""About 1,000 tokens, twice what most rerankers read. Bytes of UTF-8, since a token is about four letters of
a Latin script but one character, of three bytes, in Chinese."""

_REPAIRS = {
    "mis-decoded-text": "a wrong decoding was undone",
    "invisible-characters": "characters that nobody sees were removed",
    "html-entities": "HTML entities were replaced by their characters",
}


def prepare(records: Iterable[Record], log: AuditLog) -> Iterator[tuple[Record, Record]]:
    """Clean records and leave out those that cannot be used; every step is recorded.

    Yields:
        (the record as found, the record to use).
    """
    for record in records:
        query, query_repairs = clean(record.query)
        passage, passage_repairs = clean(record.passage)
        reason = _reason_to_drop(record, query, passage)
        if reason is not None:
            log.add(record.row, reason[0], "dropped", reason[1])
            continue
        _record_repairs(record.row, {"question": query_repairs, "answer": passage_repairs}, log)
        _record_remains(record.row, {"question": query, "answer": passage}, log)
        n_bytes = len(passage) if passage.isascii() else len(passage.encode("utf-8", "surrogatepass"))
        if n_bytes > LONG_ANSWER_BYTES:
            detail = f"the answer has {len(passage):,} characters; most rerankers read 512 tokens of it"
            log.add(record.row, "very-long-answer", "kept", detail)
        yield record, replace(record, query=query, passage=passage)


def _reason_to_drop(record: Record, query: str, passage: str) -> tuple[str, str] | None:
    """Kind and detail."""
    if not query:
        return _nothing(record.query, "question")
    if not passage:
        return _nothing(record.passage, "answer")
    if is_placeholder(passage):
        return "placeholder-answer", f"the answer is {passage[:40]!r}"
    if is_placeholder(query):
        return "placeholder-question", f"the question is {query[:40]!r}"
    if record.relevance > 0 and normalized(query) == normalized(passage):
        return "answer-equals-question", "the answer repeats the question and says nothing more"
    return None


def _nothing(found: str, what: str) -> tuple[str, str]:
    if found == "":
        return f"empty-{what}", f"the {what} is empty"
    return f"blank-{what}", f"the {what} holds only blanks or marks: {found[:20]!r}"


def _record_repairs(row: int, repairs: Mapping[str, tuple[str, ...]], log: AuditLog) -> None:
    """One finding for each kind of repair; HTML is told apart by where it was."""
    for what, names in repairs.items():
        if "html" in names:
            log.add(row, f"html-{what}", "cleaned", f"{what}: HTML was turned into text")
    for kind, detail in _REPAIRS.items():
        where = " and ".join(what for what, names in repairs.items() if kind in names)
        if where:
            log.add(row, kind, "cleaned", f"{where}: {detail}")


def _record_remains(row: int, texts: Mapping[str, str], log: AuditLog) -> None:
    """What looks wrong and was left as it is."""
    for what, text in texts.items():
        if has_quoted_tags(text):
            log.add(row, f"html-{what}", "kept", f"{what}: tags inside plain text, taken for quoted, were left")
        if "\ufffd" in text:
            detail = f"{what}: characters were lost (U+FFFD) when the file was made or read"
            log.add(row, "lost-characters", "kept", detail)
