"""How much of a bi-encoder's tuning is kept: decided on dev, by a sample as large as the budget allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.bi_encoder import LeanEncoder, load_bi_encoder, unit
from crosstune.checkpoints import quiet_transformers, resolve
from crosstune.evaluation import headline_mean
from crosstune.recipes.prepare import Prepared, top_of
from crosstune.recipes.run_folder import RunFolder
from crosstune.scoring import best_device, rerank

# Shares of the tuned weights that are tried on dev: all, half, none.
_HALF = 0.5
_N_CHECKS = 2  # that embed: for none of it the vectors are there
_MOST_DEV, _LEAST_DEV, _DEV_DEPTH = 100, 20, 20
# Of the whole budget that may go into embedding dev candidates for the shares: beyond it fewer questions are asked.
_MOST_FOR_SHARES = 0.1

Vectors = NDArray[np.float32]


def average(prepared: Prepared, tuned: Path, budget_s: float, folder: RunFolder) -> tuple[float, Path | None]:
    """The share of the tuned weights of both sides that ranks dev best, and the folder of the model.

    None where nothing of it is kept: the model stays as it is, and so does the index.
    """
    averaged = folder.training / "first-stage-averaged"
    share = folder.recall("tuned_share")
    if share is None:
        device = best_device().type
        model, untuned = load_bi_encoder(resolve(str(tuned)), device), load_bi_encoder(prepared.embedder, device)
        quality = DevQuality(
            prepared, folder.recall("embedder_precision") or "fp32", _n_dev(prepared, budget_s, folder)
        )
        share, _ = best_share(model, untuned, quality, quality(untuned, prepared.vectors()))
        if 0 < share < 1:
            with quiet_transformers():
                model.save_pretrained(str(averaged))
        folder.remember(tuned_share=share)
    return float(share), tuned if share == 1 else averaged if share > 0 else None


def best_share(model: Any, untuned: Any, quality: Callable[[Any], float], without: float) -> tuple[float, float]:
    """The share of a model's weights, the rest an untuned one's, that ranks dev best, and how well it does.

    The model is left with these weights.

    Half way back to the untuned weights often ranks as well and forgets less (Wortsman et al., "Robust fine-tuning of
    zero-shot models", 2022); where the model knew the domain before, tuning can even lose. Equal shares are decided
    for the less tuned.

    Args:
        model, untuned: Of one shape.
        quality: nDCG@10 on dev.
        without: That of the untuned one.
    """
    tuned = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    scores = {0.0: without, 1.0: quality(model)}
    average_weights(model, untuned, _HALF)
    scores[_HALF] = quality(model)
    best = min(scores, key=lambda share: (-scores[share], share))
    if best == 1:
        model.load_state_dict(tuned)
    elif best == 0:
        average_weights(model, untuned, 0.0)
    return best, scores[best]


def average_weights(model: Any, other: Any, share: float) -> None:
    """Make a model's weights `share` of its own and the rest of another's of the same shape."""
    import torch

    with torch.no_grad():
        for own, foreign in zip(model.parameters(), other.parameters(), strict=True):
            own.mul_(share).add_(foreign, alpha=1 - share)


def seconds_afterwards(prepared: Prepared, budget_s: float, folder: RunFolder) -> float:
    """Expected seconds of embedding after both sides are trained: dev candidates for each share, then the corpus."""
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
        used = {c.passage_id for ranked in self._run.candidates.values() for c in ranked}
        self._used = {pid: place for place, pid in enumerate(prepared.collection.passages) if pid in used}

    def __call__(self, model: Any, vectors: Vectors | None = None) -> float:
        """Mean nDCG@10.

        Args:
            model: From `load_bi_encoder`.
            vectors: (passages, dimensions) of all passages of the collection, where the model need not embed them.
        """
        encoder = LeanEncoder(model)
        precision = self._precision if encoder.is_lean else "fp32"
        passages = list(self._used)
        if vectors is None:
            texts = [self._collection.passages[passage_id].full_text for passage_id in passages]
            rows = dict(zip(passages, unit(encoder.vectors(texts, "document", precision)), strict=True))
        else:
            rows = {passage_id: vectors[place] for passage_id, place in self._used.items()}
        query_ids = list(self._run.candidates)
        questions = [self._collection.queries[query_id].text for query_id in query_ids]
        queries = unit(encoder.vectors(questions, "query", precision))
        cosines = {
            query_id: np.array([float(rows[c.passage_id] @ query) for c in self._run.candidates[query_id]])
            for query_id, query in zip(query_ids, queries, strict=True)
        }
        run = rerank(self._run, cosines, "dev")
        return headline_mean(run, self._collection.qrels, query_ids)
