"""The article's training data: of every row an entailment pair, and a contradiction pair from the other half.

These are the starting recipe's own steps, kept because its results are compared with ours. What they miss
(hard negatives, a split, duplicates) is what the default recipe does instead.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crosstune.data.audit import AuditLog
from crosstune.data.csvfile import open_csv
from crosstune.data.records import Record
from crosstune.data.settings import LoadSettings
from crosstune.errors import DataError
from crosstune.files import require_file
from crosstune.text import normalized

LABELS = {"contradiction": 0, "entailment": 1}

_SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class NLIPair:
    """A question with an answer.

    Attributes:
        label: 1 for entailment (the question's own answer), 0 for contradiction.
        key: Key in the qa_dict of the row that the question is from.
    """

    query: str
    passage: str
    label: int
    key: str


def read_qa_dict(path: str | Path) -> dict[str, dict[str, str]]:
    """Read a CSV of questions and answers the way the article does.

    Cells are taken as they are: no repairs, no trimming, no merging of duplicates. A row that lacks its
    question or its answer cannot make a pair; it is left out, the keys of the others have no gaps, and a
    `UserWarning` names the rows that were left out.

    Args:
        path: CSV with a column for the question and one for the answer, for example `Question,Answer`;
            delimiter and encoding are found out.

    Returns:
        "0", "1", ... in file order -> {"q": question, "a": answer}.

    Raises:
        DataError: The file or a row cannot be read, a row is labelled as a wrong answer, or nothing is left.
    """
    path = Path(path)
    require_file(path)
    log = AuditLog(path)
    records = list(open_csv(path, LoadSettings(), log).records)
    _refuse_wrong_answers(records, path)
    whole = [record for record in records if record.query.strip() and record.passage.strip()]
    if not whole:
        raise DataError("no row has both a question and an answer; see: crosstune check", path)
    # The reader itself leaves out blank rows and rows that repeat the header, and logs them.
    left_out = {record.row for record in records} - {record.row for record in whole}
    _warn_of(sorted(left_out | {finding.row for finding in log.findings()}), path)
    return {str(i): {"q": record.query, "a": record.passage} for i, record in enumerate(whole)}


def build_nli_pairs(qa_dict: Mapping[str, Mapping[str, str]], seed: int = 0) -> list[NLIPair]:
    """One entailment and one contradiction pair for each row, in that order, row after row.

    The contradiction is a random answer from the opposite half of the rows. Double quotes are removed from
    all texts. Where this differs from the article: it is seeded, and a row never gets an answer equal to
    its own as its contradiction. Another row's answer to the very same question can still be drawn, as in
    the article.

    Args:
        qa_dict: As from `read_qa_dict`; its order is the order of the rows.
        seed: Of the draw.

    Raises:
        DataError: A row finds no different answer in the opposite half.
    """
    keys = list(qa_dict)
    queries = [qa_dict[key]["q"].replace('"', "") for key in keys]
    answers = [qa_dict[key]["a"].replace('"', "") for key in keys]
    draw = _OppositeHalf(answers, seed)
    pairs = []
    for i, key in enumerate(keys):
        pairs.append(NLIPair(queries[i], answers[i], LABELS["entailment"], key))
        pairs.append(NLIPair(queries[i], answers[draw(i)], LABELS["contradiction"], key))
    return pairs


class _OppositeHalf:
    """Draws, for a row, a row of the opposite half that has another answer; each such row is as likely.

    With n rows the first half is rows 0 to n // 2 - 1. The article counts row n // 2 of an odd n into the
    first half but draws the contradictions of that half from row n // 2 on, so that this row can get its
    own answer, labelled 0. Here the half a row is in and the half it draws from never overlap.
    """

    def __init__(self, answers: Sequence[str], seed: int) -> None:
        self._texts = [normalized(answer) for answer in answers]
        middle = len(answers) // 2
        self._halves = (range(middle), range(middle, len(answers)))
        self._counts = [Counter(self._texts[i] for i in half) for half in self._halves]
        self._random = random.Random(seed)

    def __call__(self, row: int) -> int:
        opposite = 1 if row in self._halves[0] else 0
        own, half = self._texts[row], self._halves[opposite]
        if self._counts[opposite][own] == len(half):
            raise DataError(
                f"row {row} of {len(self._texts)} finds no answer other than its own in the opposite half; "
                "this recipe needs rows with different answers"
            )
        while True:
            drawn = self._random.choice(half)
            # Ours: in FAQ data several rows often share one answer, which would be labelled 1 and 0 at once.
            if self._texts[drawn] != own:
                return drawn


def _refuse_wrong_answers(records: Sequence[Record], path: Path) -> None:
    for record in records:
        if record.relevance == 0:
            remedy = "this recipe draws its wrong answers itself: remove such rows"
            raise DataError(f"label 0 marks a wrong answer; {remedy}", path, record.row)


def _warn_of(rows: Sequence[int], path: Path) -> None:
    if not rows:
        return
    shown = ", ".join(str(row) for row in rows[:_SHOWN_ROWS]) + (", ..." if len(rows) > _SHOWN_ROWS else "")
    warnings.warn(
        f"{path.name}: {len(rows)} rows without a question or an answer are left out (row {shown}); "
        "crosstune check lists them",
        UserWarning,
        stacklevel=3,
    )
