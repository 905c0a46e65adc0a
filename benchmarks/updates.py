"""Does the faster step teach as much? Dev nDCG@10 after as many updates on the same pairs, theirs and ours.

python -m benchmarks.updates [DATA] [--updates 60] mines pairs as `tune` does (5 negatives, rival for both), trains
sentence-transformers' CrossEncoderTrainer (fp32, dropout, its own batches) and our engine (bf16, no dropout) from the
starter reranker with BCE and the same batch size and learning rate, and reranks the top 20 of all dev questions. Test
is not looked at. Writes benchmarks/results/updates-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks.timing import machine
from benchmarks.workload import ROOT
from crosstune.checkpoints import load_reranker, resolve
from crosstune.evaluation import HEADLINE, compare, estimate, per_query
from crosstune.mining import MiningSettings, mine
from crosstune.pair_encoding import PairEncoder
from crosstune.progress import silent
from crosstune.recipes.prepare import Prepared, Stopwatch, first_stages, read, split_questions, top_of
from crosstune.recipes.reading import score_run
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import TorchScorer, rerank
from crosstune.training import EncodedGroup, TrainingSettings, load_trained, make_loss, train

_BATCH, _RATE, _LENGTH, _DEPTH, _N_NEGATIVES = 16, 2e-5, 256, 20, 5
_SEEDS = (0, 1, 2)
Labelled = list[tuple[str, str, float]]


def main() -> None:
    """Train both, rank dev, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=ROOT / "examples" / "helpdesk.csv")
    parser.add_argument("--updates", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        prepared = _prepare(options.data, Path(temporary) / "run")
        pairs = _pairs(prepared, options.updates * _BATCH)
        base = Path(temporary) / "base"
        for part in load_reranker(resolve("starter")):
            part.save_pretrained(base)
        values, seconds = {"base, not tuned": _dev(prepared, *load_reranker(resolve(str(base))))}, dict[str, float]()
        for seed in _SEEDS:
            name, start = f"crosstune bf16, seed {seed}", time.monotonic()
            trained = _ours(pairs, base, options.updates, seed, Path(temporary) / f"ours-{seed}")
            seconds[name] = time.monotonic() - start
            values[name] = _dev(prepared, *trained)
        start = time.monotonic()
        trained = _theirs(pairs, base, Path(temporary) / "theirs")
        seconds["sentence-transformers"] = time.monotonic() - start
        values["sentence-transformers"] = _dev(prepared, *trained)
    report = _report(prepared, values, seconds) | {
        "updates": options.updates,
        "pairs": len(pairs),
        "machine": machine(),
    }
    print(json.dumps(report, indent=2))
    name = options.data.parent.name if options.data.name == "qa.csv" else options.data.stem
    (ROOT / "benchmarks" / "results" / f"updates-{name}.json").write_text(json.dumps(report, indent=2) + "\n")


def _prepare(data: Path, folder: Path) -> Prepared:
    settings = TuneSettings()
    loaded = read(data, settings, silent, print)
    splits = split_questions(loaded, settings, print)
    return first_stages(loaded, splits, settings, RunFolder(folder, {"recipe": "updates"}), Stopwatch(), silent, print)


def _pairs(prepared: Prepared, n: int) -> Labelled:
    """(question, passage, label) in random order, as many as both sides see, passes over the data repeated."""
    collection, splits = prepared.collection, prepared.splits
    mined = mine(
        collection, prepared.mining_run, splits.train,
        protected_passage_ids=splits.held_out(collection),
        near_duplicates=prepared.near_duplicates(), similarity=prepared.similarity,
        settings=MiningSettings(n_negatives=_N_NEGATIVES, seed=0),
    )  # fmt: skip
    found = [
        (collection.queries[group.query_id].text, collection.passages[pid].full_text, float(pid == group.positive_id))
        for group in mined.groups
        for pid in (group.positive_id, *group.negative_ids)
    ]
    random = np.random.default_rng(0)
    order = np.concatenate([random.permutation(len(found)) for _ in range(-(-n // len(found)))])[:n]
    return [found[i] for i in order]


def _ours(pairs: Labelled, base: Path, n_updates: int, seed: int, folder: Path) -> tuple[Any, Any]:
    model, tokenizer = load_reranker(resolve(str(base)), dropout=0.0)
    encoder = PairEncoder(tokenizer, _LENGTH)
    queries, passages = (encoder.tokenize([str(pair[side]) for pair in pairs]) for side in (0, 1))
    groups = [
        EncodedGroup((encoder.pair(query, passage),), (label,))
        for query, passage, (_, _, label) in zip(queries, passages, pairs, strict=True)
    ]
    settings = TrainingSettings(
        n_steps=n_updates, loss="bce", learning_rate=_RATE, batch_groups=_BATCH, precision="bf16", attention="eager",
        n_evaluations=0, keep="last", seed=seed,
    )  # fmt: skip
    result = train(model, encoder, groups, make_loss("bce", float(_N_NEGATIVES)), _unasked, settings, folder)
    return load_trained(result.model_path), tokenizer


def _unasked(model: Any) -> float:
    raise AssertionError("the last weights are kept")


def _theirs(pairs: Labelled, base: Path, folder: Path) -> tuple[Any, Any]:
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    model = CrossEncoder(str(base), num_labels=1, max_length=_LENGTH, device="cpu")
    queries, passages, labels = zip(*pairs, strict=True)
    data = Dataset.from_dict({"query": list(queries), "passage": list(passages), "label": list(labels)})
    arguments = CrossEncoderTrainingArguments(
        str(folder), num_train_epochs=1, per_device_train_batch_size=_BATCH, learning_rate=_RATE, warmup_steps=0.1,
        save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    loss = BinaryCrossEntropyLoss(model, pos_weight=torch.tensor(float(_N_NEGATIVES)))
    CrossEncoderTrainer(model, arguments, data, loss=loss).train()
    model.save_pretrained(str(folder / "model"))
    return load_reranker(resolve(str(folder / "model")), dropout=0.0)


def _dev(prepared: Prepared, model: Any, tokenizer: Any) -> np.ndarray:
    """nDCG@10 of every dev question."""
    dev, collection = prepared.splits.dev, prepared.collection
    run = top_of(prepared.candidates, dev, _DEPTH)
    logits, _ = score_run(TorchScorer(model.eval(), tokenizer, _LENGTH), collection, run, dev, silent)
    return per_query(rerank(run, logits, "dev"), collection.qrels, dev, (HEADLINE,))[HEADLINE]


def _report(prepared: Prepared, values: dict[str, np.ndarray], seconds: dict[str, float]) -> dict[str, Any]:
    groups: Sequence[str] = [prepared.splits.groups[query_id] for query_id in prepared.splits.dev]
    ours = np.mean([found for name, found in values.items() if name.startswith("crosstune")], axis=0)
    delta = compare(HEADLINE, "theirs", "ours", values["sentence-transformers"], ours, groups).delta
    rows = {}
    for name, found in values.items():
        figure = estimate(found, groups)
        rows[name] = {"mean": figure.mean, "ci_low": figure.ci_low, "ci_high": figure.ci_high}
        if name in seconds:
            rows[name]["seconds"] = round(seconds[name], 1)
    mean_of_seeds = {"mean": delta.mean, "ci_low": delta.ci_low, "ci_high": delta.ci_high, "n": delta.n}
    return {"rows": rows, "mean of our seeds minus theirs": mean_of_seeds}


if __name__ == "__main__":
    main()
