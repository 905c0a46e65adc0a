"""Trains the starter reranker that the package ships: python starter/train.py DATA OUT [--without SET ...]

DATA holds the sets named below, in the layout of their README.md files. Only their train splits are learnt from (the
splits that `crosstune tune` makes with seed 0), so that a set's test questions have never been seen; `--without` leaves
a whole set out, which is how the starter's worth on unseen data is measured (`worth.py`).

Two kinds of examples, eight passages each. Questions with their answer and mined negatives teach what an answer is.
Questions and beginnings of sentences with passages that dense search ranks high teach to order as the bi-encoder does,
whose weights the starter begins with: a fresh head ranks far worse than the bi-encoder, and a few thousand answers do
not make up for it. The target is a distribution over the passages in both: the answer's share `_OWN_SHARE` and the
bi-encoder's softmax the rest, or the latter alone.

On a GPU this takes a few minutes, on 2 cores some hours.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosstune.bi_encoder import CachedEmbedder, SentenceTransformerEmbedder
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker, resolve
from crosstune.data import load, near_duplicate_passages, split, splits_from_user
from crosstune.data.settings import SplitSettings
from crosstune.evaluation import headline_mean
from crosstune.mining import MiningSettings, mine
from crosstune.pair_encoding import PairEncoder
from crosstune.progress import silent
from crosstune.quantised import save_quantised
from crosstune.recipes.choose import score_run
from crosstune.recipes.prepare import queries_of
from crosstune.recipes.tune import encode_groups
from crosstune.retrieval import Dense
from crosstune.scoring import TorchScorer, best_device, rerank
from crosstune.training import EncodedGroup, TrainingSettings, load_trained, train
from crosstune.training.contrastive import SCALE
from crosstune.training.losses import LocalisedContrastive
from crosstune.types import Collection, Query, Run, Splits

# Licences that allow it: CC BY 4.0, MIT, CC BY 4.0, and CC BY 4.0 with ODC-By 1.0.
SETS = ("medquad", "counselchat", "azure-faq", "scifact")
# Questions, and as many passages, of a set: the largest must not drown the others.
_MOST = 4000
_N_CANDIDATES, _MAX_LENGTH, _BATCH_GROUPS = 8, 256, 32
_DEPTH, _TOP = 100, 10
_OWN_SHARE = 0.5
_LEARNING_RATE = 1e-4
_N_DEV, _DEV_DEPTH = 40, 20
_SENTENCE_WORDS = (5, 12)


class SoftTargets(LocalisedContrastive):
    """Cross-entropy between the labels, a distribution over a group's candidates, and the softmax of the logits."""

    def __call__(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Mean over groups."""
        log_probability = logits.masked_fill(~mask, -math.inf).log_softmax(dim=1).masked_fill(~mask, 0.0)
        return -(labels * log_probability).sum(dim=1).mean()


@dataclass(frozen=True, slots=True)
class Source:
    """One set: its groups for every pass over it, and dev questions with their candidates."""

    name: str
    collection: Collection
    passes: list[list[EncodedGroup]]
    dev: Run


class Teacher:
    """Groups of one set, with targets by dense search.

    Args:
        collection: The set.
        splits: Of its questions.
        dense: Dense search over its passages.
        encoder: Tokenises.
        own_share: Of the answer in the target of its group.
    """

    def __init__(
        self, collection: Collection, splits: Splits, dense: Dense, encoder: PairEncoder, own_share: float
    ) -> None:
        self._collection = collection
        self._dense = dense
        self._encoder = encoder
        self._own_share = own_share
        random = np.random.default_rng(0)
        self._train = sorted(random.permutation(splits.train)[:_MOST].tolist())
        self._protected = {p for q in splits.dev + splits.test for p in collection.relevant(q)}
        open_ids = [p for p in collection.passages if p not in self._protected]
        chosen = random.permutation(np.array(open_ids, dtype=object))[:_MOST].tolist()
        self._sentences = [Query(f"s{i}", text) for i, text in enumerate(self._beginnings(chosen, random))]

    def _beginnings(self, passage_ids: Sequence[str], random: np.random.Generator) -> Iterator[str]:
        """The first words of a sentence of each passage."""
        fewest, most = _SENTENCE_WORDS
        for passage_id in passage_ids:
            sentences = re.split(r"(?<=[.!?])\s+", self._collection.passages[passage_id].full_text)
            words = [sentence.split() for sentence in sentences]
            long_enough = [found for found in words if len(found) >= fewest]
            if long_enough:
                yield " ".join(long_enough[random.integers(len(long_enough))][:most])

    def answered(self) -> list[EncodedGroup]:
        """Train questions with an answer and mined negatives."""
        collection, queries = self._collection, queries_of(self._collection, self._train)
        similarity = self._dense.similarity(queries)
        mined = mine(
            collection,
            self._dense.retrieve(queries, _DEPTH),
            self._train,
            protected_passage_ids=self._protected,
            near_duplicates=near_duplicate_passages(collection),
            similarity=similarity,
            settings=MiningSettings(n_negatives=_N_CANDIDATES - 1, seed=0),
        )
        encoded = encode_groups(mined.groups, collection, self._encoder)
        targets = []
        for group in mined.groups:
            cosines = similarity(group.query_id, (group.positive_id, *group.negative_ids))
            target = (1 - self._own_share) * _softmax(cosines)
            target[0] += self._own_share
            targets.append(target)
        return [EncodedGroup(g.pairs, tuple(t.tolist())) for g, t in zip(encoded, targets, strict=True)]

    def ordered(self, n_passes: int) -> list[list[EncodedGroup]]:
        """Train questions and beginnings of sentences, each with passages of the top drawn anew for every pass."""
        queries = [*queries_of(self._collection, self._train), *self._sentences]
        run, random = self._dense.retrieve(queries, _DEPTH), np.random.default_rng(1)
        tokens = dict(
            zip(
                self._collection.passages,
                self._encoder.tokenize([p.full_text for p in self._collection.passages.values()]),
                strict=True,
            )
        )
        questions = self._encoder.tokenize([query.text for query in queries])
        passes: list[list[EncodedGroup]] = []
        for _ in range(n_passes):
            groups = []
            for query, question in zip(queries, questions, strict=True):
                candidates = run.candidates[query.query_id]
                places = _drawn(len(candidates), random)
                pairs = tuple(self._encoder.pair(question, tokens[candidates[i].passage_id]) for i in places)
                target = _softmax(np.array([candidates[i].score for i in places]))
                groups.append(EncodedGroup(pairs, tuple(target.tolist())))
            passes.append(groups)
        return passes

    def dev(self, dev_ids: Sequence[str]) -> Run:
        """Dense search's ranking of a few dev questions."""
        chosen = sorted(np.random.default_rng(0).permutation(list(dev_ids))[:_N_DEV].tolist())
        return self._dense.retrieve(queries_of(self._collection, chosen), _DEV_DEPTH)


def _drawn(n: int, random: np.random.Generator) -> list[int]:
    """Places of candidates: half of them of the top, the others from anywhere below."""
    top, below = min(n, _TOP), max(0, n - _TOP)
    places = random.permutation(top)[: _N_CANDIDATES // 2].tolist()
    return [*places, *(top + random.permutation(below)[: _N_CANDIDATES - len(places)]).tolist()]


def _softmax(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(SCALE * (cosines - cosines.max()))
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def read_set(name: str, data: Path) -> tuple[Collection, Splits]:
    """A set and its splits, as `crosstune tune` makes them."""
    path = data / name / "qa.csv"
    loaded = load(path if path.is_file() else data / name)
    settings = SplitSettings(seed=0)
    if loaded.splits_by_user is None:
        return loaded.collection, split(loaded.collection, settings)
    return loaded.collection, splits_from_user(loaded.collection, loaded.splits_by_user, settings, True)


def read(name: str, data: Path, cache: Path, encoder: PairEncoder, options: argparse.Namespace) -> Source:
    """The groups and the dev questions of a set."""
    collection, splits = read_set(name, data)
    dense = Dense(collection.passages, CachedEmbedder(SentenceTransformerEmbedder(resolve("embedded")), cache))
    teacher = Teacher(collection, splits, dense, encoder, options.own_share)
    answered = teacher.answered()
    ordered = teacher.ordered(options.passes) if options.own_share < 1 else [[]] * options.passes
    print(f"{name}: {len(answered):,} answers, {len(ordered[0]):,} groups to order", flush=True)
    return Source(name, collection, [answered + groups for groups in ordered], teacher.dev(splits.dev))


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--without", action="append", default=[], choices=SETS)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--own-share", type=float, default=_OWN_SHARE, help="1 learns from answers alone")
    parser.add_argument("--cache", type=Path, default=Path("starter/.cache"))
    options = parser.parse_args()
    model, tokenizer = load_reranker(resolve("embedded"), dropout=0.0)
    encoder = PairEncoder(tokenizer, _MAX_LENGTH)
    names = [name for name in SETS if name not in options.without]
    sources = [read(name, options.data, options.cache, encoder, options) for name in names]
    groups = [group for source in sources for one_pass in source.passes for group in one_pass]

    def validate(found: Any) -> float:
        scores = dev_scores(sources, found, tokenizer)
        print({name: round(score, 3) for name, score in scores.items()}, flush=True)
        return float(np.mean(list(scores.values())))

    settings = TrainingSettings(
        n_steps=math.ceil(len(groups) / _BATCH_GROUPS),
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
            model.to(best_device()), encoder, groups, SoftTargets(), validate, settings, Path(folder),
            on_evaluation=lambda step, score: print(f"step {step}: dev {score:.4f}", flush=True),
        )  # fmt: skip
        write(load_trained(result.model_path), tokenizer, options.out)
    size = sum(path.stat().st_size for path in options.out.iterdir()) / 1e6
    quantised, _ = load_reranker(Checkpoint(str(options.out), options.out, "", CheckpointKind.RERANKER), dropout=0.0)
    score = validate(quantised.to(best_device()))
    print(f"written to {options.out} ({size:.1f} MB); dev after quantisation: {score:.4f}")


if __name__ == "__main__":
    main()
