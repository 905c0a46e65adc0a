"""What dev decides."""

from types import SimpleNamespace

import numpy as np
import pytest

from crosstune.recipes import choose
from crosstune.types import Candidate, Run, ScoreKind


def test_bf16_that_orders_dev_candidates_differently_is_not_used(monkeypatch):
    """Precision is chosen on dev: a scorer whose bf16 order is reversed must give way to float32."""

    class Scorer:
        def __init__(self, model, tokenizer, max_length, precision):
            self.precision = precision

        def score(self, pairs, progress):
            logits = np.arange(len(pairs), dtype=float)
            return SimpleNamespace(logits=-logits if self.precision == bad else logits, truncated_share=0.0)

    monkeypatch.setattr(choose, "TorchScorer", Scorer)
    tuned = SimpleNamespace(model=SimpleNamespace(to=lambda d: None), tokenizer=None, max_length=8, precision="bf16")
    run = Run("dense", 4, ScoreKind.SIMILARITY, {"q": tuple(Candidate(f"p{i}", 0.0, i + 1) for i in range(4))})
    collection = SimpleNamespace(
        passages={f"p{i}": SimpleNamespace(full_text="") for i in range(4)}, queries={"q": SimpleNamespace(text="")}
    )
    prepared = SimpleNamespace(splits=SimpleNamespace(dev=("q",)), collection=collection, candidates=run)
    bad = "bf16"
    assert choose.scorer_for(tuned, prepared).precision == "fp32"
    bad = "none"
    assert choose.scorer_for(tuned, prepared).precision == "bf16"


@pytest.mark.parametrize(
    ("scores", "keeps_index", "best"),
    [
        ((0.5, 0.6, 0.7), False, "tuned dense"),
        ((0.5, 0.7, 0.6), True, "dense reranked"),
        ((0.5, 0.6, 0.6), False, "dense reranked"),  # the index need not be embedded anew
        ((0.5, 0.6, 0.6), True, "tuned dense"),  # the index stays, and a question is embedded once
        ((0.6, 0.6, 0.6), False, "dense"),
        ((0.6, 0.6, 0.6), True, "dense"),
    ],
)
def test_of_equals_the_simplest_is_shipped(scores, keeps_index, best):
    names = ("dense", "dense reranked", "tuned dense")
    found = choose._best([(score, name) for score, name in zip(scores, names, strict=True)], keeps_index)
    assert found == (max(scores), best)
    assert choose._best([(0.5, "dense"), (0.5, "dense reranked")], keeps_index) == (0.5, "dense")
