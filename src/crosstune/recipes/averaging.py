"""How much of a bi-encoder's tuning is kept: decided on dev, by a sample as large as the budget allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crosstune.bi_encoder import LeanEncoder, load_bi_encoder, unit
from crosstune.checkpoints import quiet_transformers, resolve
from crosstune.evaluation import headline_mean
from crosstune.recipes.prepare import Prepared, top_of
from crosstune.recipes.run_folder import RunFolder
from crosstune.scoring import best_device, rerank

# Shares of the tuned weights that are tried on dev beside all of them, each times the one before: averaging goes on
# from the model as it is.
_SHARES = (0.5,)
_N_CHECKS = 1 + len(_SHARES)
_MOST_DEV, _LEAST_DEV, _DEV_DEPTH = 100, 20, 20
# Of the whole budget that may go into embedding dev candidates for the shares: beyond it fewer questions are asked.
_MOST_FOR_SHARES = 0.1


def average(prepared: Prepared, tuned: Path, budget_s: float, folder: RunFolder) -> tuple[float, Path]:
    """The share of the tuned weights that ranks dev best, and the folder of the model.

    Half way back to the untuned weights often ranks as well and forgets less (Wortsman et al., "Robust fine-tuning of
    zero-shot models", 2022); where the model knew the domain before, tuning alone can even lose. Equal shares are
    decided for the less tuned.
    """
    averaged = folder.training / "first-stage-averaged"
    remembered = folder.recall("tuned_share")
    if remembered is None:
        model = load_bi_encoder(resolve(str(tuned)), best_device().type)
        n_dev = _n_dev(prepared, budget_s, folder)
        quality = DevQuality(prepared, folder.recall("embedder_precision") or "fp32", n_dev)
        scores = {1.0: quality(model)}
        for share in _SHARES:
            average_weights(model, load_bi_encoder(prepared.embedder, best_device().type), share)
            scores[share] = quality(model)
        remembered = min(scores, key=lambda share: (-scores[share], share))
        if remembered < 1:
            with quiet_transformers():
                model.save_pretrained(str(averaged))
        folder.remember(tuned_share=remembered)
    return float(remembered), averaged if remembered < 1 else tuned


def average_weights(model: Any, other: Any, share: float) -> None:
    """Make a model's weights `share` of its own and the rest of another's of the same shape."""
    import torch

    with torch.no_grad():
        for own, foreign in zip(model.parameters(), other.parameters(), strict=True):
            own.mul_(share).add_(foreign, alpha=1 - share)


def seconds_afterwards(prepared: Prepared, budget_s: float, folder: RunFolder) -> float:
    """Expected seconds of embedding after the training: the dev candidates for each share, then the corpus."""
    n_candidates = _n_dev(prepared, budget_s, folder) * _DEV_DEPTH
    share = min(1.0, n_candidates / len(prepared.collection.passages))
    return _embedding_s(prepared, folder) * (1 + _N_CHECKS * share)


def _n_dev(prepared: Prepared, budget_s: float, folder: RunFolder) -> int:
    """How many dev questions the shares are tried on."""
    one_s = _N_CHECKS * _DEV_DEPTH * _embedding_s(prepared, folder) / len(prepared.collection.passages)
    n = int(min(_MOST_DEV, max(_LEAST_DEV, _MOST_FOR_SHARES * budget_s / one_s)))
    return min(n, len(prepared.splits.dev))


def _embedding_s(prepared: Prepared, folder: RunFolder) -> float:
    """Expected seconds for embedding the corpus, measured once a run."""
    remembered = folder.recall("embedding_s")
    if remembered is None:
        remembered = max(1e-3, prepared.embedding_s())
        folder.remember(embedding_s=remembered)
    return float(remembered)


class DevQuality:
    """nDCG@10 of a bi-encoder that reorders the top of the untuned candidates of a sample of dev questions.

    Args:
        prepared: Splits, texts and candidates.
        precision: To embed with, where the model's pass is ours.
        n_dev: Questions.
    """

    def __init__(self, prepared: Prepared, precision: str, n_dev: int) -> None:
        self._precision = precision
        random = np.random.default_rng(prepared.splits.seed or 0)
        query_ids = sorted(random.choice(np.array(prepared.splits.dev), size=n_dev, replace=False).tolist())
        self._run = top_of(prepared.candidates, query_ids, _DEV_DEPTH)
        self._collection = prepared.collection

    def __call__(self, model: Any) -> float:
        """Mean nDCG@10."""
        passages = self._collection.passages
        used = dict.fromkeys(c.passage_id for ranked in self._run.candidates.values() for c in ranked)
        encoder = LeanEncoder(model)
        precision = self._precision if encoder.is_lean else "fp32"
        texts = [passages[passage_id].full_text for passage_id in used]
        rows = dict(zip(used, unit(encoder.vectors(texts, "document", precision)), strict=True))
        query_ids = list(self._run.candidates)
        questions = [self._collection.queries[query_id].text for query_id in query_ids]
        queries = unit(encoder.vectors(questions, "query", precision))
        cosines = {
            query_id: np.array([float(rows[c.passage_id] @ query) for c in self._run.candidates[query_id]])
            for query_id, query in zip(query_ids, queries, strict=True)
        }
        run = rerank(self._run, cosines, "dev")
        return headline_mean(run, self._collection.qrels, query_ids)
