"""The field's recipes as their own projects recommend them, with their own library.

Each takes train questions with answers, a time limit, a folder to work in, the folder of the encoder or reranker to
start from and a seed, and gives a ranking of the dev and test questions. A recipe that is not done when its time is up
stops there, with its learning rate schedule cut, as a user's would be.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, LambdaLoss, NDCGLoss2PPScheme
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import mine_hard_negatives
from transformers import TrainerCallback

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker, resolve
from crosstune.data.nli import build_nli_pairs
from crosstune.progress import silent
from crosstune.recipes.blog import train_qa_dict
from crosstune.recipes.prepare import Prepared, queries_of, select
from crosstune.recipes.reading import score_run
from crosstune.retrieval import Dense
from crosstune.scoring import TorchScorer, rerank
from crosstune.types import Run

_MAX_LENGTH = 256


class _Deadline(TrainerCallback):  # type: ignore[misc]
    """Stops training when the time is up."""

    def __init__(self, limit_s: float) -> None:
        self._end = time.monotonic() + limit_s

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_training_stop |= time.monotonic() > self._end
        return control


def _pairs(prepared: Prepared) -> list[tuple[str, str]]:
    collection = prepared.collection
    return [
        (collection.queries[q].text, collection.passages[p].full_text)
        for q in prepared.splits.train
        for p in sorted(collection.relevant(q))
    ]


def st_bi_encoder(prepared: Prepared, limit_s: float, folder: str, base: str, seed: int) -> Run:
    """sentence-transformers' bi-encoder recipe: MultipleNegativesRankingLoss, no repeated answers in a batch.

    Batch 32, 2e-5 with 10% warm-up, up to 4 epochs. The index is embedded anew.
    """
    start = time.monotonic()
    model = SentenceTransformer(base, device="cpu")
    pairs = _pairs(prepared)
    data = Dataset.from_dict({"anchor": [q for q, _ in pairs], "positive": [p for _, p in pairs]})
    arguments = SentenceTransformerTrainingArguments(
        folder, num_train_epochs=4, per_device_train_batch_size=32, learning_rate=2e-5, warmup_steps=0.1,
        batch_sampler="no_duplicates", save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, seed=seed,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model, arguments, data, loss=MultipleNegativesRankingLoss(model),
        callbacks=[_Deadline(limit_s - (time.monotonic() - start))],
    )  # fmt: skip
    trainer.train()
    model.save_pretrained(f"{folder}/model")
    embedder = SentenceTransformerEmbedder(resolve(f"{folder}/model"))
    judged = queries_of(prepared.collection, prepared.splits.dev + prepared.splits.test)
    return Dense(prepared.collection.passages, embedder).retrieve(judged, prepared.candidates.depth)


def st_cross_encoder_bce(prepared: Prepared, limit_s: float, folder: str, base: str, seed: int) -> Run:
    """sentence-transformers' reranker recipe: BCE with five mined negatives, positives weighted by their number."""

    def loss(model: Any) -> Any:
        return BinaryCrossEntropyLoss(model, pos_weight=torch.tensor(5.0))

    return _st_cross_encoder(prepared, limit_s, folder, base, seed, "labeled-pair", loss)


def st_cross_encoder_lambda(prepared: Prepared, limit_s: float, folder: str, base: str, seed: int) -> Run:
    """sentence-transformers' listwise recipe: LambdaLoss with the weights of NDCG-Loss2++ over the same lists."""

    def loss(model: Any) -> Any:
        return LambdaLoss(model, weighting_scheme=NDCGLoss2PPScheme(), mini_batch_size=16)

    return _st_cross_encoder(prepared, limit_s, folder, base, seed, "labeled-list", loss)


def _st_cross_encoder(
    prepared: Prepared, limit_s: float, folder: str, base: str, seed: int, form: str, make_loss: Callable[[Any], Any]
) -> Run:
    """One epoch over five mined negatives a pair."""
    start = time.monotonic()
    pairs = _pairs(prepared)
    data = mine_hard_negatives(
        Dataset.from_dict({"query": [q for q, _ in pairs], "answer": [p for _, p in pairs]}),
        SentenceTransformer(str(resolve("embedded").path), device="cpu"),
        num_negatives=5, range_min=0, range_max=100, relative_margin=0.05, sampling_strategy="top",
        output_format=form, use_faiss=False, verbose=False,
    )  # fmt: skip
    return _st_trained(prepared, data, make_loss, 1, limit_s - (time.monotonic() - start), folder, base, seed)


def blog(prepared: Prepared, limit_s: float, folder: str, base: str, seed: int) -> Run:
    """The Redis article's recipe: each answer and one random other for its question, BCE, 8 epochs."""
    pairs = build_nli_pairs(train_qa_dict(prepared), seed)
    columns = {"query": "query", "answer": "passage", "label": "label"}
    data = Dataset.from_dict({name: [getattr(pair, field) for pair in pairs] for name, field in columns.items()})
    return _st_trained(prepared, data, BinaryCrossEntropyLoss, 8, limit_s, folder, base, seed)


def _st_trained(
    prepared: Prepared,
    data: Any,
    make_loss: Callable[[Any], Any],
    n_epochs: int,
    limit_s: float,
    folder: str,
    base: str,
    seed: int,
) -> Run:
    """sentence-transformers' CrossEncoderTrainer: batch 16, 2e-5 with 10% warm-up."""
    torch.manual_seed(seed)
    model = CrossEncoder(base, num_labels=1, device="cpu", max_length=_MAX_LENGTH)
    arguments = CrossEncoderTrainingArguments(
        folder, num_train_epochs=n_epochs, per_device_train_batch_size=16, learning_rate=2e-5, warmup_steps=0.1,
        save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, seed=seed,
    )  # fmt: skip
    trainer = CrossEncoderTrainer(model, arguments, data, loss=make_loss(model), callbacks=[_Deadline(limit_s)])
    trainer.train()
    model.save_pretrained(f"{folder}/model")
    return _reranked(prepared, f"{folder}/model")


def flag_embedding(prepared: Prepared, limit_s: float, folder: str, base: str, seed: int) -> Run:
    """FlagEmbedding's reranker recipe: groups of 8 with softmax cross-entropy, 6e-5 with 10% warm-up, 2 epochs.

    Negatives are 15 of places 2 to 200 of the untuned dense search, as its mining script takes them. Needs the packages
    FlagEmbedding, peft and ir-datasets, which are no dependencies of ours.
    """
    start = time.monotonic()
    from FlagEmbedding.abc.finetune.reranker import AbsRerankerDataArguments, AbsRerankerModelArguments
    from FlagEmbedding.abc.finetune.reranker import AbsRerankerTrainingArguments as Arguments
    from FlagEmbedding.finetune.reranker.encoder_only.base import EncoderOnlyRerankerRunner

    data = _flag_data(prepared, f"{folder}/train.jsonl", seed)
    runner = EncoderOnlyRerankerRunner(
        model_args=AbsRerankerModelArguments(model_name_or_path=base),
        data_args=AbsRerankerDataArguments([data], train_group_size=8, query_max_len=32, passage_max_len=224),
        training_args=Arguments(
            output_dir=f"{folder}/out", num_train_epochs=2, per_device_train_batch_size=2, learning_rate=6e-5,
            warmup_steps=0.1, weight_decay=0.01, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            seed=seed,
        ),
    )  # fmt: skip
    runner.trainer.add_callback(_Deadline(limit_s - (time.monotonic() - start)))
    runner.trainer.train()
    runner.model.model.save_pretrained(f"{folder}/model")
    runner.tokenizer.save_pretrained(f"{folder}/model")
    return _reranked(prepared, f"{folder}/model")


def _flag_data(prepared: Prepared, path: str, seed: int) -> str:
    """FlagEmbedding's JSONL: query, pos, neg."""
    draw, collection = random.Random(seed), prepared.collection
    embedder = SentenceTransformerEmbedder(resolve("embedded"))
    queries = queries_of(collection, prepared.splits.train)
    ranked = Dense(collection.passages, embedder).retrieve(queries, 200).candidates
    with open(path, "w", encoding="utf-8") as file:
        for query in queries:
            relevant = collection.relevant(query.query_id)
            others = [c.passage_id for c in ranked[query.query_id][2:] if c.passage_id not in relevant]
            texts = {p: collection.passages[p].full_text for p in (*relevant, *others)}
            negatives = draw.sample(others, min(15, len(others)))
            row = {
                "query": query.text,
                "pos": [texts[p] for p in sorted(relevant)],
                "neg": [texts[p] for p in negatives],
            }
            file.write(json.dumps(row) + "\n")
    return path


def _reranked(prepared: Prepared, folder: str) -> Run:
    """The untuned candidates in the order of a saved reranker's logits."""
    checkpoint = Checkpoint(folder, resolve(folder).path, "", CheckpointKind.RERANKER)
    scorer = TorchScorer(*load_reranker(checkpoint, dropout=0.0), _MAX_LENGTH, "bf16")
    judged = [*prepared.splits.dev, *prepared.splits.test]
    run = select(prepared.candidates, judged)
    logits, _ = score_run(scorer, prepared.collection, run, judged, silent)
    return rerank(run, logits, "reranked")


RIVALS: dict[str, Callable[[Prepared, float, str, str, int], Run]] = {
    "sentence-transformers bi-encoder (MNRL)": st_bi_encoder,
    "sentence-transformers cross-encoder (BCE)": st_cross_encoder_bce,
    "sentence-transformers cross-encoder (LambdaLoss)": st_cross_encoder_lambda,
    "FlagEmbedding reranker": flag_embedding,
    "the article's recipe": blog,
}
