"""What a starter is worth on a set: python starter/worth.py DATA STARTER SET

Prints one line of JSON, nDCG@10 of dense search, of the starter reranking its top 50 as it is, and of two
cross-encoders tuned alike on the train questions, one from the starter and one from a fresh head; each for dev and
test. To speak of unseen data the starter must have been trained without the set.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from train import read_set

from crosstune.bi_encoder import CachedEmbedder, SentenceTransformerEmbedder
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker, resolve
from crosstune.data import near_duplicate_passages
from crosstune.evaluation import HEADLINE, estimate, headline_mean, per_query
from crosstune.mining import MiningSettings, mine
from crosstune.pair_encoding import PairEncoder
from crosstune.progress import silent
from crosstune.recipes.prepare import queries_of
from crosstune.recipes.reading import score_run
from crosstune.recipes.tune import encode_groups, learning_rate
from crosstune.retrieval import Dense
from crosstune.scoring import TorchScorer, best_device, rerank
from crosstune.training import TrainingSettings, load_trained, make_loss, train
from crosstune.types import Collection, Run, Splits

_MAX_LENGTH, _DEPTH, _EPOCHS, _BATCH_GROUPS = 256, 50, 2, 8


def main() -> None:
    """Judge the starter as it is and as a start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("starter", type=Path)
    parser.add_argument("set")
    parser.add_argument("--cache", type=Path, default=Path("starter/.cache"))
    options = parser.parse_args()
    collection, splits = read_set(options.set, options.data)
    dense = Dense(collection.passages, CachedEmbedder(SentenceTransformerEmbedder(resolve("embedded")), options.cache))
    judge = Judge(collection, splits, dense)
    starter = Checkpoint(str(options.starter), options.starter, "", CheckpointKind.RERANKER)
    found = {"starter as it is": judge.figures(*load_reranker(starter, dropout=0.0))}
    found["dense"] = judge.of_runs(judge.runs)
    for name, base in (("tuned from a fresh head", resolve("embedded")), ("tuned from the starter", starter)):
        found[name] = judge.tuned(base, dense)
    print(json.dumps({"set": options.set, "starter": options.starter.name, "nDCG@10": found}), flush=True)


class Judge:
    """Dev and test questions of a set with their dense candidates."""

    def __init__(self, collection: Collection, splits: Splits, dense: Dense) -> None:
        self._collection, self._splits = collection, splits
        asked = {"dev": list(splits.dev), "test": list(splits.test)}
        self.runs = {part: dense.retrieve(queries_of(collection, ids), _DEPTH) for part, ids in asked.items()}

    def of_runs(self, runs: dict[str, Run]) -> dict[str, Any]:
        """Mean of dev; mean and 95% interval of test."""
        qrels, test = self._collection.qrels, list(self._splits.test)
        values = per_query(runs["test"], qrels, test, (HEADLINE,))[HEADLINE]
        figure = estimate(values, [self._splits.groups[query_id] for query_id in test])
        return {
            "dev": round(headline_mean(runs["dev"], qrels, list(self._splits.dev)), 4),
            "test": [round(number, 4) for number in (figure.mean, figure.ci_low, figure.ci_high)],
        }

    def figures(self, model: Any, tokenizer: Any) -> dict[str, Any]:
        """Of a cross-encoder alone over the candidates."""
        scorer = TorchScorer(model.to(best_device()), tokenizer, _MAX_LENGTH, "bf16")
        runs = {}
        for part, run in self.runs.items():
            logits, _ = score_run(scorer, self._collection, run, list(run.candidates), silent)
            runs[part] = rerank(run, logits, part)
        return self.of_runs(runs)

    def tuned(self, base: Checkpoint, dense: Dense) -> dict[str, Any]:
        """Of a cross-encoder tuned from a base for two epochs."""
        collection, train_ids = self._collection, list(self._splits.train)
        queries = queries_of(collection, train_ids)
        mined = mine(
            collection,
            dense.retrieve(queries, 100),
            train_ids,
            protected_passage_ids=self._splits.held_out(collection),
            near_duplicates=near_duplicate_passages(collection),
            similarity=dense.similarity(queries),
            settings=MiningSettings(seed=0),
        )
        model, tokenizer = load_reranker(base, dropout=0.0)
        encoder = PairEncoder(tokenizer, _MAX_LENGTH)
        groups = encode_groups(mined.groups, collection, encoder)
        settings = TrainingSettings(
            n_steps=math.ceil(_EPOCHS * len(groups) / _BATCH_GROUPS),
            learning_rate=learning_rate(model, base),
            batch_groups=_BATCH_GROUPS,
            precision="bf16",
            attention="sdpa" if torch.cuda.is_available() else "eager",
            n_evaluations=0,
            keep="last",
        )
        with tempfile.TemporaryDirectory() as folder:
            loss = make_loss("lce")
            result = train(model.to(best_device()), encoder, groups, loss, lambda found: 0.0, settings, Path(folder))
            return self.figures(load_trained(result.model_path), tokenizer)


if __name__ == "__main__":
    main()
