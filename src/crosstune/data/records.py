"""The one shape every row format is read into, and the words by which columns are known."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from crosstune.data.settings import LoadSettings
from crosstune.errors import DataError
from crosstune.text import INVISIBLE

QUESTION_NAMES = frozenset(
    {"question", "questions", "query", "queries", "q", "userquestion", "faqquestion", "anchor", "sentence1"}
)
ANSWER_NAMES = frozenset(
    {"answer", "answers", "a", "response", "reply", "passage", "passages", "document", "doc", "context"}
    | {"positive", "sentence2"}
)
LABEL_NAMES = frozenset({"label", "relevance", "relevant", "isrelevant"})
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "val": "dev",
    "test": "test",
}

SYNTHETIC_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}

_NO_METADATA: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Record:
    """One judged pair as found in the file; a row of a grouped file gives several.

    Attributes:
        relevance: 0 for an explicit negative.
        split: "train", "dev", "test", or None when the file has no split.
        synthetic: Whether the row says that its question was written by a machine.
    """

    row: int
    query: str
    passage: str
    relevance: int = 1
    split: str | None = None
    synthetic: bool = False
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)


@dataclass(frozen=True, slots=True)
class Source:
    """An open file.

    Attributes:
        columns: Role -> column name.
        records: Streams once.
        total, position: Progress, in whatever unit the format counts (bytes, rows).
    """

    format: str
    columns: Mapping[str, str]
    records: Iterator[Record]
    total: int
    position: Callable[[], int]
    encoding: str = ""
    delimiter: str = ""


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column is what; every column without a role is metadata."""

    question: str
    answer: str
    label: str | None
    split: str | None
    synthetic: str | None = None

    def as_columns(self) -> dict[str, str]:
        """Role -> column name, for reports."""
        named = {
            "question": self.question,
            "answer": self.answer,
            "label": self.label,
            "split": self.split,
            "synthetic": self.synthetic,
        }
        return {role: name for role, name in named.items() if name is not None}


def column_key(name: str) -> str:
    """Key under which two column names count as the same: case, blanks and punctuation do not count."""
    plain = INVISIBLE.sub("", unicodedata.normalize("NFKC", name)).casefold()
    return re.sub(r"[\W_]+", "", plain)


def find_roles(names: Sequence[str], sample: Sequence[Mapping[str, str]], settings: LoadSettings, path: Path) -> Roles:
    """Decide which column holds the question, the answer, and, if there are any, labels and a split.

    A column named like a label, a split or "synthetic" counts as one only when all of its sampled values read as
    such, so that a "label" of topics stays metadata.

    Args:
        names: Column names as found.
        sample: The first rows, column name -> value.

    Raises:
        DataError: No column, or more than one, fits a role.
    """
    question = _find(names, settings.question_column, QUESTION_NAMES, "question", path)
    answer = _find(names, settings.answer_column, ANSWER_NAMES, "answer", path)
    if question == answer:
        raise DataError(f"question and answer are both read from column {question!r}; name two columns", path)
    others = [name for name in names if name not in (question, answer)]
    if settings.label_column is not None:
        label: str | None = _find(names, settings.label_column, LABEL_NAMES, "label", path)
    else:
        label = _all_read_as(others, LABEL_NAMES, sample, lambda value: read_relevance(value) is not None)
    split = _all_read_as(others, {"split"}, sample, lambda value: value.strip().casefold() in SPLIT_NAMES)
    synthetic = _all_read_as(others, {"synthetic"}, sample, lambda value: value.strip().casefold() in SYNTHETIC_WORDS)
    return Roles(question, answer, label, split, synthetic)


def read_relevance(value: str) -> int | None:
    """A label as a whole number of 0 or more; None when it is not one."""
    word = value.strip().casefold()
    if word in ("true", "false"):
        return int(word == "true")
    match = re.fullmatch(r"(\d{1,9})(?:\.0+)?", word)
    return int(match[1]) if match else None


def has_role_names(names: Sequence[str], settings: LoadSettings) -> bool:
    """Whether a header can be one: it has a column for the question and one for the answer."""
    keys = {column_key(name) for name in names}
    questions = QUESTION_NAMES if settings.question_column is None else {column_key(settings.question_column)}
    answers = ANSWER_NAMES if settings.answer_column is None else {column_key(settings.answer_column)}
    return not keys.isdisjoint(questions) and not keys.isdisjoint(answers)


def _find(names: Sequence[str], wanted: str | None, known: Collection[str], role: str, path: Path) -> str:
    keys = known if wanted is None else {column_key(wanted)}
    found = [name for name in names if name == wanted] or [name for name in names if column_key(name) in keys]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(repr(name) for name in names)
    if found:
        fitting = ", ".join(repr(name) for name in found)
        cause = f"more than one column could be the {role}: {fitting}"
    elif wanted is not None:
        cause = f"there is no column {wanted!r}; the columns are {listed}"
    else:
        cause = f"expected a header row with a {role} column, found the columns {listed}"
    raise DataError(f"{cause}; name the right one with --{role}-column", path)


def _all_read_as(
    names: Sequence[str],
    known: Collection[str],
    sample: Sequence[Mapping[str, str]],
    reads: Callable[[str], bool],
) -> str | None:
    for name in names:
        values = [row[name] for row in sample if row.get(name, "").strip()]
        if column_key(name) in known and values and all(reads(value) for value in values):
            return name
    return None
