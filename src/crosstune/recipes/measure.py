"""What this machine can do with this model, and what the budget buys on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crosstune.checkpoints import Checkpoint, CheckpointKind
from crosstune.pair_encoding import PairEncoder, longest_pair
from crosstune.recipes.prepare import Prepared
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import Precision, TorchScorer, best_device, measure_scoring
from crosstune.training import (
    Plan,
    ReadingPlan,
    Speed,
    Throughput,
    Workload,
    measure_training,
    plan,
    plan_reading,
)
from crosstune.types import Collection

# Longest pairs considered: beyond them a CPU has no time, and few answers have their point there.
_LONGEST = {"cpu": 256, "cuda": 512}
BATCH_GROUPS = 8
# How many pairs are timed: of training as many as a batch has, of scoring as many as keep the device busy.
_PAIRS_TO_TRAIN = {"cpu": 24, "cuda": 48}
_PAIRS_TO_SCORE = {"cpu": 24, "cuda": 960}
# A fresh head has to be learnt from nothing; a reranker only adapted, and forgets when pushed on.
_MAX_EPOCHS = {CheckpointKind.ENCODER: 4.0, CheckpointKind.RERANKER: 3.0}
# Left of the budget for statistics, report and saving.
CLOSING_S = 20.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What this machine can do with a model on a user's data; the ways are kept in the manifest for a continuation.

    Attributes:
        work, speed: What has to be done, and how fast it is.
        max_epochs: More of them would overfit this base.
        longest: Most tokens of a pair to consider.
        scoring_precision: The faster one.
    """

    work: Workload
    speed: Speed
    max_epochs: float
    longest: int
    scoring_precision: Precision

    def plan(self, budget_s: float) -> Plan:
        """What so many seconds for training and judging buy."""
        return plan(
            self.work,
            self.speed,
            budget_s,
            max_epochs=self.max_epochs,
            batch_groups=BATCH_GROUPS,
            longest=self.longest,
        )

    def reading(self, budget_s: float) -> ReadingPlan | None:
        """What so many seconds for judging buy a reranker that is not trained; None when too little, or there is none.

        A bare encoder has nothing to say before it is trained.
        """
        return plan_reading(self.work, self.speed, budget_s, longest=self.longest) if self.work.n_models > 1 else None


def measure(
    model: Any,
    tokenizer: Any,
    prepared: Prepared,
    base: Checkpoint,
    settings: TuneSettings,
    folder: RunFolder,
    n_runs: int = 1,
) -> Measured:
    """Measure speed, or recall what the interrupted run measured.

    Args:
        model, tokenizer: To be trained.
        prepared: The data.
        base: What the model is.
        settings: Of the run.
        folder: Remembers.
        n_runs: First stages whose candidates are judged.
    """
    collection, splits = prepared.collection, prepared.splits
    device = best_device().type
    longest = longest_pair(model.config, _LONGEST[device])
    encoder = PairEncoder(tokenizer, longest)
    passages = [passage.full_text for passage in list(collection.passages.values())[:5000]]
    queries = [collection.queries[query_id].text for query_id in splits.train]
    work = Workload(
        query_lengths=np.array([len(ids) for ids in encoder.tokenize(queries)]),
        passage_lengths=np.array([len(ids) for ids in encoder.tokenize(passages)]),
        n_groups=sum(len(collection.relevant(query_id)) for query_id in splits.train),
        n_dev=len(splits.dev),
        n_test=len(splits.test),
        depth=settings.depth,
        n_models=2 if base.kind is CheckpointKind.RERANKER else 1,
        n_runs=n_runs,
    )
    ways = folder.recall("speed")
    if ways is None:
        pairs = _sample_pairs(collection, splits.train, _PAIRS_TO_SCORE[device], settings.seed)
        scoring_precision, scoring_speed = measure_scoring(model, tokenizer, longest, pairs)
        encoded = TorchScorer(model, tokenizer, longest).encode(pairs[: _PAIRS_TO_TRAIN[device]])
        fastest = measure_training(model, encoder, encoded)[0]
        ways = {
            "training": asdict(fastest),
            "scoring_tokens_per_s": scoring_speed,
            "scoring_precision": scoring_precision,
        }
        folder.remember(speed=ways)
    speed = Speed(Throughput(**ways["training"]), ways["scoring_tokens_per_s"])
    model.set_attn_implementation(speed.training.attention)
    return Measured(
        work=work,
        speed=speed,
        max_epochs=_MAX_EPOCHS[base.kind],
        longest=longest,
        scoring_precision=ways["scoring_precision"],
    )


def _sample_pairs(collection: Collection, query_ids: Sequence[str], n_pairs: int, seed: int) -> list[tuple[str, str]]:
    """Questions, each once where there are enough of them, with any passages."""
    random = np.random.default_rng(seed)
    passages = list(collection.passages.values())
    chosen = random.choice(len(query_ids), size=n_pairs, replace=n_pairs > len(query_ids))
    return [(collection.queries[query_ids[i]].text, passages[random.integers(len(passages))].full_text) for i in chosen]
