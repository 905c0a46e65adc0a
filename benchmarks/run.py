"""Training and scoring speed against sentence-transformers' defaults: both sides in one run, same pairs, same threads.

`make bench` prints a table and writes benchmarks/results/<machine>.json. Ratios are what counts; machines differ.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# As the command line does: set before torch loads, so for both sides.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from crosstune.checkpoints import load_reranker, quiet_transformers, resolve
from crosstune.data import load
from crosstune.pair_encoding import PairEncoder
from crosstune.scoring import TorchScorer, measure_scoring
from crosstune.training import EncodedGroup, TrainingSettings, make_loss, measure_training, train

ROOT = Path(__file__).resolve().parents[1]
MAX_LENGTH = 256
N_GROUPS, N_NEGATIVES, BATCH_GROUPS = 24, 5, 8
N_SCORED = 100
ROUNDS = 3


def main() -> None:
    """Measure, print, write."""
    pairs = mixed_pairs()
    results = {"machine": machine(), "scoring": scoring(pairs[:N_SCORED]), "training": training(pairs)}
    print(json.dumps(results, indent=2))
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{platform.machine()}-{os.cpu_count()}cpu.json"
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(ROOT)}")


def mixed_pairs() -> list[tuple[str, str]]:
    """Pairs of our example, passages joined one to eight at a time so that lengths are mixed as in real data."""
    collection = load(ROOT / "examples" / "helpdesk.csv").collection
    draw = random.Random(0)
    passages = [passage.text for passage in collection.passages.values()]
    queries = [query.text for query in collection.queries.values()]
    return [
        (draw.choice(queries), " ".join(draw.sample(passages, draw.randint(1, 8))))
        for _ in range(N_GROUPS * (1 + N_NEGATIVES))
    ]


def scoring(pairs: list[tuple[str, str]]) -> dict[str, object]:
    """Pairs a second of `CrossEncoder.predict` with its defaults and of our scorer, and how far the logits differ."""
    from sentence_transformers import CrossEncoder

    model, tokenizer = load_reranker(resolve("embedded"), dropout=0.0)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        theirs = CrossEncoder(folder, max_length=MAX_LENGTH, device="cpu", activation_fn=torch.nn.Identity())
        precision, _ = measure_scoring(model, tokenizer, MAX_LENGTH, pairs[:16])
        ours = TorchScorer(model, tokenizer, MAX_LENGTH, precision)
        reference = TorchScorer(model, tokenizer, MAX_LENGTH, "fp32").score_pairs(pairs)
        expected = theirs.predict(pairs, show_progress_bar=False)
        speed = alternate(
            len(pairs),
            theirs=lambda: theirs.predict(pairs, show_progress_bar=False),
            ours=lambda: ours.score_pairs(pairs),
        )
    difference = float(np.abs(reference - expected).max())
    return {"precision": precision, "largest fp32 logit difference": difference, **speed}


def training(pairs: list[tuple[str, str]]) -> dict[str, object]:
    """Pairs a second of `CrossEncoderTrainer` with its defaults (BCE, batches of as many pairs) and of our engine."""
    model, tokenizer = load_reranker(resolve("embedded"), dropout=0.0)
    encoder = PairEncoder(tokenizer, MAX_LENGTH)
    queries = encoder.tokenize([query for query, _ in pairs])
    passages = encoder.tokenize([passage for _, passage in pairs])
    encoded = [encoder.pair(query, passage) for query, passage in zip(queries, passages, strict=True)]
    size = 1 + N_NEGATIVES
    labels = (1.0, *[0.0] * N_NEGATIVES)
    groups = [EncodedGroup(tuple(encoded[i : i + size]), labels) for i in range(0, len(encoded), size)]
    fastest = measure_training(model, encoder, encoded[:16])[0]
    settings = TrainingSettings(
        n_steps=N_GROUPS // BATCH_GROUPS,
        batch_groups=BATCH_GROUPS,
        precision=fastest.precision,
        attention=fastest.attention,
        n_evaluations=1,
        checkpoint_every_s=1e9,
    )

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(model, encoder, groups, make_loss("lce"), lambda model: 0.0, settings, Path(folder))

    speed = alternate(len(pairs), theirs=_trainer_of_sentence_transformers(pairs, labels), ours=ours)
    return {"precision": fastest.precision, "attention": fastest.attention, **speed}


def _trainer_of_sentence_transformers(pairs: list[tuple[str, str]], labels: tuple[float, ...]) -> Callable[[], object]:
    from datasets import Dataset
    from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments

    columns = {
        "query": [query for query, _ in pairs],
        "passage": [passage for _, passage in pairs],
        "label": list(labels) * (len(pairs) // len(labels)),
    }

    def theirs() -> None:
        with quiet_transformers():
            model = CrossEncoder(str(resolve("embedded").path), num_labels=1, max_length=MAX_LENGTH, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            arguments = CrossEncoderTrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH_GROUPS * len(labels),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            )
            with quiet_transformers():
                CrossEncoderTrainer(model=model, args=arguments, train_dataset=Dataset.from_dict(columns)).train()

    return theirs


def alternate(n_pairs: int, **sides: Callable[[], object]) -> dict[str, object]:
    """Time the sides in turn, so that a slow minute hits both; medians and spread, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(ROUNDS + 1):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "pairs_per_s": {name: round(n_pairs / value, 2) for name, value in median.items()},
        "seconds": {name: [round(value, 2) for value in found] for name, found in seconds.items()},
        "ratio": round(median["theirs"] / median["ours"], 2),
    }


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
    }


if __name__ == "__main__":
    main()
