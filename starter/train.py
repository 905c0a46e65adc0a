"""Trains the starter reranker that the package ships: python starter/train.py DATA OUT [--without SET ...]

DATA holds the sets named below, in the layout of their README.md files. Only their train splits are learnt from (the
splits that `crosstune tune` makes with seed 0), so that a set's test questions have never been seen; `--without` leaves
a whole set out, which is how the starter's worth on unseen data is measured (`worth.py`).

On a GPU this takes two minutes, on 2 cores about an hour.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from crosstune.bi_encoder import CachedEmbedder, SentenceTransformerEmbedder
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker, resolve
from crosstune.data import load, near_duplicate_passages, split, splits_from_user
from crosstune.data.settings import SplitSettings
from crosstune.evaluation import headline_mean
from crosstune.mining import MiningSettings, mine
from crosstune.pair_encoding import PairEncoder
from crosstune.progress import silent
from crosstune.quantised import save_quantised
from crosstune.recipes.prepare import queries_of
from crosstune.recipes.reading import score_run
from crosstune.recipes.tune import encode_groups
from crosstune.retrieval import Dense
from crosstune.scoring import TorchScorer, best_device, rerank
from crosstune.training import EncodedGroup, TrainingSettings, load_trained, make_loss, train
from crosstune.types import Collection, Run, Splits

# Licences that allow it: CC BY 4.0, MIT, CC BY 4.0, and CC BY 4.0 with ODC-By 1.0.
SETS = ("medquad", "counselchat", "azure-faq", "scifact")
# Questions of a set: the largest must not drown the others.
_MOST_QUESTIONS = 4000
_N_NEGATIVES, _MAX_LENGTH, _BATCH_GROUPS = 7, 256, 32
_LEARNING_RATE = 1e-4
_N_DEV, _DEPTH = 40, 20


@dataclass(frozen=True, slots=True)
class Source:
    """One set: its training groups, and dev questions with their candidates."""

    name: str
    collection: Collection
    groups: list[EncodedGroup]
    dev: Run


def read_set(name: str, data: Path) -> tuple[Collection, Splits]:
    """A set and its splits, as `crosstune tune` makes them."""
    path = data / name / "qa.csv"
    loaded = load(path if path.is_file() else data / name)
    settings = SplitSettings(seed=0)
    if loaded.splits_by_user is None:
        return loaded.collection, split(loaded.collection, settings)
    return loaded.collection, splits_from_user(loaded.collection, loaded.splits_by_user, settings, True)


def read(name: str, data: Path, cache: Path, encoder: PairEncoder) -> Source:
    """Mine negatives for the train questions of a set, tokenise."""
    collection, splits = read_set(name, data)
    random = np.random.default_rng(0)
    train_ids = sorted(random.permutation(splits.train)[:_MOST_QUESTIONS].tolist())
    dev_ids = sorted(random.permutation(splits.dev)[:_N_DEV].tolist())
    embedder = CachedEmbedder(SentenceTransformerEmbedder(resolve("embedded")), cache)
    dense = Dense(collection.passages, embedder)
    queries = queries_of(collection, train_ids)
    mined = mine(
        collection,
        dense.retrieve(queries, 100),
        train_ids,
        protected_passage_ids=splits.held_out(collection),
        near_duplicates=near_duplicate_passages(collection),
        similarity=dense.similarity(queries),
        settings=MiningSettings(n_negatives=_N_NEGATIVES, seed=0),
    )
    groups = encode_groups(mined.groups, collection, encoder)
    print(f"{name}: {len(train_ids):,} train questions, {len(groups):,} groups", flush=True)
    return Source(name, collection, groups, dense.retrieve(queries_of(collection, dev_ids), _DEPTH))


def dev_scores(sources: Sequence[Source], model: Any, tokenizer: Any) -> dict[str, float]:
    """nDCG@10 of each set's dev questions over their dense candidates."""
    scorer = TorchScorer(model, tokenizer, _MAX_LENGTH, "bf16")
    found = {}
    for source in sources:
        dev = list(source.dev.candidates)
        logits, _ = score_run(scorer, source.collection, source.dev, dev, silent)
        run = rerank(source.dev, logits, "dev")
        found[source.name] = headline_mean(run, source.collection.qrels, dev)
    return found


def write(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write configuration, tokenizer and int8 weights."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_quantised(model.state_dict(), folder)


def main() -> None:
    """Read the sets, train over all of them, quantise, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--without", action="append", default=[], choices=SETS)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--cache", type=Path, default=Path("starter/.cache"))
    options = parser.parse_args()
    model, tokenizer = load_reranker(resolve("embedded"), dropout=0.0)
    encoder = PairEncoder(tokenizer, _MAX_LENGTH)
    names = [name for name in SETS if name not in options.without]
    sources = [read(name, options.data, options.cache, encoder) for name in names]
    groups = [group for source in sources for group in source.groups]

    def validate(found: Any) -> float:
        scores = dev_scores(sources, found, tokenizer)
        print({name: round(score, 3) for name, score in scores.items()}, flush=True)
        return float(np.mean(list(scores.values())))

    settings = TrainingSettings(
        n_steps=math.ceil(options.epochs * len(groups) / _BATCH_GROUPS),
        learning_rate=_LEARNING_RATE,
        batch_groups=_BATCH_GROUPS,
        precision="bf16",
        attention="sdpa" if torch.cuda.is_available() else "eager",
        n_evaluations=4,
        patience=4,
    )
    print(f"{len(groups):,} groups, {settings.n_steps} steps", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            model.to(best_device()), encoder, groups, make_loss("lce"), validate, settings, Path(folder),
            on_evaluation=lambda step, score: print(f"step {step}: dev {score:.4f}", flush=True),
        )  # fmt: skip
        write(load_trained(result.model_path), tokenizer, options.out)
    size = sum(path.stat().st_size for path in options.out.iterdir()) / 1e6
    quantised, _ = load_reranker(Checkpoint(str(options.out), options.out, "", CheckpointKind.RERANKER), dropout=0.0)
    score = validate(quantised.to(best_device()))
    print(f"written to {options.out} ({size:.1f} MB); dev after quantisation: {score:.4f}")


if __name__ == "__main__":
    main()
