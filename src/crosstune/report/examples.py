"""Questions worth a look: where two rankings differ most, and what nobody has judged yet."""

from __future__ import annotations

from collections.abc import Sequence

from crosstune.report.document import Example, ExampleRanking, RankedPassage, UnjudgedPassage, headline
from crosstune.types import Candidate, Collection, EvalReport, Run

TOP = 5
SNIPPET_CHARACTERS = 180

# Deeper than this, nobody looks and Judged@10 does not either.
_UNJUDGED_DEPTH = 10


def pick_examples(
    evaluation: EvalReport, baseline: Run, candidate: Run, collection: Collection, n: int = 10
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The questions with the largest gains and the largest losses on the headline measure.

    Args:
        evaluation: Has per-question values of both runs' rows.
        baseline, candidate: The rankings that the values are of.
        collection: Texts and judgments.
        n: Most questions on either side.

    Returns:
        (wins, losses), the largest first, equal ones by query_id. Questions without a difference are in
        neither.
    """
    measure = headline(evaluation)
    before, after = (evaluation.per_query[run.name][measure] for run in (baseline, candidate))
    deltas = {query_id: after[query_id] - value for query_id, value in before.items()}
    by_gain = sorted(deltas, key=lambda query_id: (-deltas[query_id], query_id))
    by_loss = sorted(deltas, key=lambda query_id: (deltas[query_id], query_id))

    def example(query_id: str) -> Example:
        return Example(
            query_id=query_id,
            question=collection.queries[query_id].text,
            delta=deltas[query_id],
            baseline=_top(baseline, query_id, collection),
            candidate=_top(candidate, query_id, collection),
        )

    # Values of equal rankings can differ in the last bits.
    wins = [example(query_id) for query_id in by_gain[:n] if deltas[query_id] > 1e-9]
    losses = [example(query_id) for query_id in by_loss[:n] if deltas[query_id] < -1e-9]
    return tuple(wins), tuple(losses)


def pick_unjudged(
    run: Run, collection: Collection, query_ids: Sequence[str], n: int = 20
) -> tuple[UnjudgedPassage, ...]:
    """Highly ranked passages without a judgment, for a person to judge: at most one for each question.

    Taken from the top 10 of every question, best rank first, then by falling score.
    """
    found: list[tuple[Candidate, str]] = []
    for query_id in query_ids:
        judged = collection.qrels.get(query_id, {})
        top = run.candidates.get(query_id, ())[:_UNJUDGED_DEPTH]
        found += [(candidate, query_id) for candidate in top if candidate.passage_id not in judged][:1]
    found.sort(key=lambda item: (item[0].rank, -item[0].score, item[1]))
    return tuple(
        UnjudgedPassage(
            query_id=query_id,
            question=collection.queries[query_id].text,
            passage_id=candidate.passage_id,
            snippet=snippet(collection.passages[candidate.passage_id].full_text),
            rank=candidate.rank,
        )
        for candidate, query_id in found[:n]
    )


def snippet(text: str) -> str:
    """The beginning of a text on one line, cut between words where there are blanks near the end."""
    line = " ".join(text.split())
    if len(line) <= SNIPPET_CHARACTERS:
        return line
    cut = line.rfind(" ", SNIPPET_CHARACTERS - 30, SNIPPET_CHARACTERS)
    return line[: cut if cut > 0 else SNIPPET_CHARACTERS - 1] + "…"


def _top(run: Run, query_id: str, collection: Collection) -> ExampleRanking:
    relevance = collection.qrels.get(query_id, {})
    candidates = run.candidates.get(query_id, ())
    ranks = [candidate.rank for candidate in candidates if relevance.get(candidate.passage_id, 0) > 0]
    top = tuple(
        RankedPassage(
            rank=candidate.rank,
            passage_id=candidate.passage_id,
            snippet=snippet(collection.passages[candidate.passage_id].full_text),
            relevance=relevance.get(candidate.passage_id),
        )
        for candidate in candidates[:TOP]
    )
    return ExampleRanking(run.name, top, min(ranks, default=None))
