"""One made-up report, with hostile text wherever text of the user's can stand."""

import math

import pytest

from crosstune.report import TuneReport, pick_examples, pick_unjudged
from crosstune.types import (
    Calibration,
    Candidate,
    Collection,
    Comparison,
    Estimate,
    EvalReport,
    Fusion,
    HealthFinding,
    Part,
    Passage,
    Query,
    Run,
    ScoreKind,
    TableRow,
    Verdict,
)

HOSTILE = "<script>alert('x')</script> & \"quoted\" <b>"
SCALE = Calibration(1.7, -0.4, 0.62, 0.91, 0.84, 900)

# Rank of each question's relevant passage, before and after; None: not among the candidates.
BEFORE = {"q1": 2, "q2": 1, "q3": 3, "q4": None, "q5": 1}
AFTER = {"q1": 1, "q2": 2, "q3": 1, "q4": None, "q5": 1}


def run_of(name, ranks):
    candidates = {}
    for query_id, rank in ranks.items():
        order = ["p7", "p8", "p9", "p10", "p11", "p12"]
        if rank is not None:
            order.insert(rank - 1, f"p{query_id[1:]}")
        candidates[query_id] = tuple(Candidate(p, 10.0 - i, i + 1) for i, p in enumerate(order))
    return Run(name, 10, ScoreKind.FUSED, candidates)


def values_of(ranks):
    return {query_id: 1 / math.log2(rank + 1) if rank else 0.0 for query_id, rank in ranks.items()}


@pytest.fixture
def collection():
    return Collection(
        passages={f"p{i}": Passage(f"p{i}", f"Passage {i}. {HOSTILE}\n " + "More words. " * 40) for i in range(1, 13)},
        queries={q: Query(q, f"Question {q}? {HOSTILE}") for q in BEFORE},
        # p7 is judged for every question but q4 and q5.
        qrels={q: {f"p{q[1:]}": 1} | ({"p7": 0} if q in ("q1", "q2", "q3") else {}) for q in BEFORE},
        fingerprint="f" * 64,
    )


@pytest.fixture
def runs():
    return run_of("bm25", BEFORE), run_of("tuned", AFTER)


@pytest.fixture
def evaluation():
    before, after = values_of(BEFORE), values_of(AFTER)

    def row(name, mean, low, high):
        names = ("nDCG@10", "RR@10", "AP", "Success@1", "R@5", "R@50", "Judged@10")
        others = {measure: Estimate(0.4, 0.3, 0.5, 1200) for measure in names}
        return TableRow(name, others | {"nDCG@10": Estimate(mean, low, high, 1200)})

    comparison = Comparison(
        measure="nDCG@10",
        baseline="bm25",
        candidate="tuned",
        delta=Estimate(0.0512, 0.0123, 0.0901, 1200),
        p_value=0.0002,
        p_holm=0.0004,
        effect_size=0.31,
        wins=300,
        ties=800,
        losses=100,
    )
    return EvalReport(
        table=(
            row("bm25", 0.6123, 0.58, 0.64),
            row("tuned", 0.6637, 0.63, 0.69),
            row("ceiling", 0.9, 0.88, 0.92),
        ),
        comparisons=(comparison,),
        per_query={"bm25": {"nDCG@10": before}, "tuned": {"nDCG@10": after}},
    )


@pytest.fixture
def report(evaluation, runs, collection):
    wins, losses = pick_examples(evaluation, *runs, collection)
    return TuneReport(
        title=f"helpdesk.csv {HOSTILE}",
        verdict=Verdict.NOT_PROVEN,
        verdict_sentence=f"Not proven: made up. {HOSTILE}",
        shipped=f"the cross-encoder's logit + shared words (BM25) over the candidates of hybrid {HOSTILE}",
        data={"rows read": 1234, f"column {HOSTILE}": HOSTILE},
        split_counts={"train": 4000, "dev": 600, "test": 1200},
        split_seed=13,
        evaluation=evaluation,
        health=(HealthFinding("constant-scores", True, f"Collapsed. {HOSTILE}"),),
        timings_s={"training": 185.2, "evaluation": 12.34},
        settings={"training": {"epochs": 3, "note": HOSTILE}, "loss": "lce", "budget": None},
        calibration=SCALE,
        fusion=Fusion("hybrid", {Part.CROSS_ENCODER: 0.7, Part.LEXICAL: 0.25}, "en", SCALE),
        dev={"dense": 0.75, "shipped": 0.75},
        notes=(f"Fresh head. {HOSTILE}",),
        wins=wins,
        losses=losses,
        unjudged=pick_unjudged(runs[1], collection, list(BEFORE)),
        versions={"crosstune": "0.1.0"},
    )
