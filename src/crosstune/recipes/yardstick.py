"""What an export is measured against: dev questions with candidates, and torch's own logits of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.bundle import ModelBundle
from crosstune.data import LoadSettings, SplitSettings, load, split, splits_from_user
from crosstune.errors import ConfigError, DataError
from crosstune.evaluation import HEADLINE, estimate, per_query
from crosstune.export import Parity, compare_logits
from crosstune.pair_encoding import EncodedPair
from crosstune.progress import Progress
from crosstune.recipes.prepare import make_bm25, select
from crosstune.recipes.reading import Logits, score_run
from crosstune.scoring import BatchScorer, rerank
from crosstune.types import Collection, Run, Splits

_DEPTH = 20
_MAX_DEV = 100
_N_CALIBRATION = 128


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Dev questions to judge exports on, and train pairs to calibrate them with. Test questions are never in it.

    Attributes:
        collection, splits: The data.
        dev: Judged questions.
        candidates: BM25's, of dev and of the train questions that calibrate.
        expected: Torch's logits in float32 of the dev candidates.
        calibration: Encoded train pairs, one for each question.
    """

    collection: Collection
    splits: Splits
    dev: tuple[str, ...]
    candidates: Run
    expected: Logits
    calibration: tuple[EncodedPair, ...]

    def compare(self, scorer: BatchScorer, progress: Progress) -> Parity:
        """How a scorer's logits compare with torch's."""
        found, _ = score_run(scorer, self.collection, self.candidates, self.dev, progress)
        return compare_logits(
            self.expected, found, scorer.precision, self._ndcg, estimate, {q: self.splits.groups[q] for q in self.dev}
        )

    def _ndcg(self, logits: Logits) -> NDArray[np.float64]:
        run = rerank(select(self.candidates, self.dev), logits, "parity")
        return per_query(run, self.collection.qrels, self.dev, (HEADLINE,))[HEADLINE]


def make_yardstick(bundle: ModelBundle, data: Path, reference: BatchScorer, progress: Progress) -> Yardstick:
    """Read the data as the run read it, fetch candidates and score them with the model itself.

    Args:
        bundle: The model.
        data: The file it was tuned on, or one like it.
        reference: The model in torch, in float32.
        progress: Told of the work.

    Raises:
        ConfigError: The model is in a run folder, and the data is not that run's.
        DataError: The data cannot be used, or has no dev question to judge by.
    """
    collection, splits = _read(bundle, data, progress)
    dev = tuple(query_id for query_id in splits.dev if collection.relevant(query_id))[:_MAX_DEV]
    if not dev:
        raise DataError("no dev question has an answer, so an export cannot be judged; give such questions", data)
    random = np.random.default_rng(0)
    n_train = min(_N_CALIBRATION, len(splits.train))
    train = [splits.train[i] for i in random.choice(len(splits.train), size=n_train, replace=False)]
    candidates = make_bm25(collection).retrieve([collection.queries[q] for q in (*dev, *train)], _DEPTH, progress)
    if not any(candidates.candidates[q] for q in train):
        raise DataError("no train question shares a word with a passage, so there are no pairs to calibrate with", data)
    expected, _ = score_run(reference, collection, candidates, dev, progress)
    pairs = []
    for query_id in train:
        if found := candidates.candidates[query_id]:
            passage = collection.passages[found[int(random.integers(len(found)))].passage_id]
            pairs.append((collection.queries[query_id].text, passage.full_text))
    return Yardstick(collection, splits, dev, candidates, expected, tuple(reference.encode(pairs)))


def _read(bundle: ModelBundle, data: Path, progress: Progress) -> tuple[Collection, Splits]:
    """The data and its splits: those of the run the model lies in, else cut with the run's settings."""
    loaded = load(data, LoadSettings(**bundle.settings.get("load", {})), progress)
    collection, written = loaded.collection, bundle.path.parent / "splits.json"
    if written.is_file():
        if collection.fingerprint != bundle.data_fingerprint:
            raise ConfigError(
                f"{data} is not the data that {bundle.path} was tuned on, whose splits are in {written}; give that "
                "data, or copy the model folder out of its run folder to use other data"
            )
        return collection, _splits(written)
    settings = SplitSettings(**bundle.settings.get("split", {}))
    if loaded.splits_by_user is not None:
        drop_leaks = bool(bundle.settings.get("drop_leaks", False))
        return collection, splits_from_user(collection, loaded.splits_by_user, settings, drop_leaks)
    return collection, split(collection, settings)


def _splits(path: Path) -> Splits:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        train, dev, test = (tuple(content[name]) for name in ("train", "dev", "test"))
        return Splits(train, dev, test, content["groups"], content["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); tune again, or copy the model folder elsewhere") from error
