"""What mining took and left out, for every group, in numbers and in samples that a person can judge."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from crosstune.mining.rules import Reason
from crosstune.mining.settings import Band, MiningSettings
from crosstune.types import Collection

_REVIEW_ROWS = 50
_REVIEW_HEADER = [
    "query_id", "query", "positive_id", "positive", "positive_similarity",
    "candidate_id", "candidate", "candidate_similarity", "also answers the question (yes / no)",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class GroupAccount:
    """What happened to the candidates of one (query, positive).

    Attributes:
        query_id, positive_id: The group.
        positive_similarity: Of query and positive; None when no similarity was given.
        n_seen: Candidates looked at; each was taken, removed, or passed and not needed.
        taken: Negatives by where they came from.
        removed: Passages left out, by reason.
        too_similar: Passages removed by the margin rule, with their similarity to the query.
    """

    query_id: str
    positive_id: str
    positive_similarity: float | None
    n_seen: int
    taken: Mapping[Band, tuple[str, ...]]
    removed: Mapping[Reason, tuple[str, ...]]
    too_similar: Mapping[str, float]

    @property
    def negative_ids(self) -> tuple[str, ...]:
        """All negatives, judged ones first, then hard, mid and random."""
        return tuple(passage_id for band in Band for passage_id in self.taken.get(band, ()))


@dataclass(frozen=True, slots=True)
class MiningTotals:
    """Sums over all groups.

    Attributes:
        n_groups: Groups to train on.
        n_short: Those of them with fewer negatives than asked for. They are kept: the softmax over fewer
            passages is still right, and small corpora would otherwise lose most groups.
        n_dropped: (query, positive) pairs left out because not one negative passed: nothing to learn from.
        queries_without_positive: Ids of training queries that have no relevant passage, so no group.
        n_seen: Candidates looked at.
        taken: Negatives by band.
        removed: Candidates left out by reason, counted once for each group.
        margin_rule: False when no similarity was given and the rule could not be applied.
    """

    n_groups: int
    n_short: int
    n_dropped: int
    queries_without_positive: tuple[str, ...]
    n_seen: int
    taken: Mapping[str, int]
    removed: Mapping[str, int]
    margin_rule: bool


@dataclass(frozen=True, slots=True)
class MiningAccount:
    """The account of one mining of a collection: `groups` holds the dropped ones too."""

    collection: Collection
    first_stage: str
    settings: MiningSettings
    groups: tuple[GroupAccount, ...]
    queries_without_positive: tuple[str, ...]
    margin_rule: bool

    @property
    def totals(self) -> MiningTotals:
        """Sums over all groups."""
        sizes = [len(group.negative_ids) for group in self.groups]
        taken, removed = Counter[str](), Counter[str]()
        for group in self.groups:
            taken.update({band.value: len(ids) for band, ids in group.taken.items()})
            removed.update({reason.value: len(ids) for reason, ids in group.removed.items()})
        return MiningTotals(
            n_groups=sum(size > 0 for size in sizes),
            n_short=sum(0 < size < self.settings.n_negatives for size in sizes),
            n_dropped=sizes.count(0),
            queries_without_positive=self.queries_without_positive,
            n_seen=sum(group.n_seen for group in self.groups),
            taken={band.value: taken[band.value] for band in Band},
            removed={reason.value: removed[reason.value] for reason in Reason},
            margin_rule=self.margin_rule,
        )


def write_account(folder: Path, account: MiningAccount) -> None:
    """Write the account into a run folder, each file complete or not at all.

    `mining.json`: settings, data fingerprint and totals. `mining.jsonl`: one line for each group, by id.
    `mining-review.csv`: up to 50 candidates, picked by the seed, that the margin rule took for possible
    answers, with their texts and an empty column for a person's judgment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = {
        "first_stage": account.first_stage,
        "data_fingerprint": account.collection.fingerprint,
        "settings": asdict(account.settings),
        "totals": asdict(account.totals),
    }
    _replace(folder / "mining.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    lines = "".join(json.dumps(_as_record(group), ensure_ascii=False) + "\n" for group in account.groups)
    _replace(folder / "mining.jsonl", lines)
    # Spreadsheet programs take a CSV file without this mark for one in the local code page.
    _replace(folder / "mining-review.csv", "\ufeff" + _review(account))


def _as_record(group: GroupAccount) -> dict[str, object]:
    return {
        "query_id": group.query_id,
        "positive_id": group.positive_id,
        "positive_similarity": group.positive_similarity,
        "n_seen": group.n_seen,
        "taken": {band.value: list(ids) for band, ids in group.taken.items()},
        "removed": {reason.value: list(ids) for reason, ids in group.removed.items()},
        "too_similar": dict(group.too_similar),
    }


def _review(account: MiningAccount) -> str:
    collection = account.collection
    suspects = [(group, passage_id) for group in account.groups for passage_id in group.too_similar]
    picked = random.Random(account.settings.seed).sample(suspects, min(_REVIEW_ROWS, len(suspects)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_REVIEW_HEADER)
    for group, passage_id in picked:
        positive, candidate = collection.passages[group.positive_id], collection.passages[passage_id]
        writer.writerow([
            group.query_id, collection.queries[group.query_id].text,
            positive.passage_id, positive.full_text, group.positive_similarity,
            passage_id, candidate.full_text, group.too_similar[passage_id], "",
        ])  # fmt: skip
    return text.getvalue()


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8", newline="")
    os.replace(unfinished, path)
