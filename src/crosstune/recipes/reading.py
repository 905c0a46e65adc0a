"""What the cross-encoder reads of the candidates, and what it says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.progress import Progress
from crosstune.scoring import BatchScorer, reading_order, with_unread
from crosstune.types import Candidate, Collection, Part, Reading, Run, ScoreKind

Logits = dict[str, NDArray[np.float64]]
"""query_id -> scores (candidates,) in a run's order."""
PartsOfQueries = Mapping[str, Mapping[Part, NDArray[np.float64]]]
"""query_id -> part -> scores (candidates,) in a run's order."""


def score_run(
    scorer: BatchScorer, collection: Collection, run: Run, query_ids: Sequence[str], progress: Progress
) -> tuple[Logits, float]:
    """Logits of a run's candidates, in their order, and the share of pairs that were cut."""
    texts = {
        query_id: [collection.passages[c.passage_id].full_text for c in run.candidates.get(query_id, ())]
        for query_id in query_ids
    }
    pairs = [(collection.queries[query_id].text, text) for query_id in query_ids for text in texts[query_id]]
    scored = scorer.score(pairs, progress)
    ends = np.cumsum([len(texts[query_id]) for query_id in query_ids])[:-1]
    return dict(zip(query_ids, np.split(scored.logits, ends), strict=True)), scored.truncated_share


def score_runs(
    scorer: BatchScorer, collection: Collection, runs: Sequence[Run], query_ids: Sequence[str], progress: Progress
) -> tuple[list[Logits], float]:
    """Logits of several runs' candidates, each pair scored once, and the share of pairs that were cut."""
    joined = {q: dict.fromkeys(c.passage_id for run in runs for c in run.candidates.get(q, ())) for q in query_ids}
    everything = Run("all", 0, ScoreKind.LOGIT, {
        q: tuple(Candidate(pid, 0.0, rank) for rank, pid in enumerate(ids, start=1)) for q, ids in joined.items()
    })  # fmt: skip
    logits, cut = score_run(scorer, collection, everything, query_ids, progress)
    of_pair = {q: dict(zip(joined[q], logits[q].tolist(), strict=True)) for q in query_ids}
    return [
        {q: np.array([of_pair[q][c.passage_id] for c in run.candidates.get(q, ())]) for q in query_ids} for run in runs
    ], cut


def to_read(run: Run, parts: PartsOfQueries, reading: Reading | None) -> Run:
    """The candidates that the cross-encoder reads, first the one that is worth it most; all, when it reads all."""
    if reading is None:
        return run
    picked = {}
    for query_id, candidates in run.candidates.items():
        places = reading_order(parts[query_id], reading, len(candidates))[: reading.n]
        picked[query_id] = tuple(candidates[i] for i in places)
    return Run(run.name, reading.n, run.score_kind, picked)


def with_logits(run: Run, parts: PartsOfQueries, read: Run, logits: Logits) -> PartsOfQueries:
    """The parts of a run's candidates with the cross-encoder's in front; unread ones have its lowest logit.

    Args:
        run: All candidates.
        parts: Of the other parts.
        read: From `to_read`.
        logits: In the order of `read`.
    """
    joined = {}
    for query_id, others in parts.items():
        place = {c.passage_id: i for i, c in enumerate(read.candidates.get(query_id, ()))}
        passage_ids = [c.passage_id for c in run.candidates.get(query_id, ())]
        # Unread ones are behind all that were read, wherever that is.
        order = [place.get(passage_id, len(place)) for passage_id in passage_ids]
        filled = with_unread(logits[query_id], len(place) + 1)
        joined[query_id] = {Part.CROSS_ENCODER: filled[order], **others}
    return joined
