"""Tuning the first stage: the bi-encoder on the train questions, and what it ranks afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.bi_encoder import (
    CachedEmbedder,
    LeanEncoder,
    SentenceTransformerEmbedder,
    TextEncoder,
    load_bi_encoder,
    unit,
    without_dropout,
)
from crosstune.checkpoints import Checkpoint, quiet_transformers, resolve
from crosstune.evaluation import HEADLINE, headline_mean
from crosstune.progress import Progress
from crosstune.recipes.prepare import (
    Prepared,
    Say,
    Similarity,
    make_first_stages,
    queries_of,
    rank_with,
    top_of,
)
from crosstune.recipes.run_folder import RunFolder
from crosstune.recipes.settings import TuneSettings
from crosstune.scoring import best_device, rerank
from crosstune.training import (
    ContrastiveExample,
    FirstStagePlan,
    TrainingSettings,
    measure_training,
    plan_first_stage,
    train_bi_encoder,
)
from crosstune.types import Collection, Run

_BATCH = 32
_TEXTS_TO_TIME = 32
# Shares of the tuned weights that are tried on dev beside all of them, each times the one before: averaging goes on
# from the model as it is.
_SHARES = (0.5,)
_N_CHECKS = 1 + len(_SHARES)
_MOST_DEV, _LEAST_DEV, _DEV_DEPTH = 100, 20, 20
# Of the whole budget that may go into embedding dev candidates for the shares: beyond it fewer questions are asked.
_MOST_FOR_SHARES = 0.1
_RIVALS_NOTE = (
    "Most answers to train questions answer dev or test questions, too, so that they may not be anybody's negative: "
    "the first stage learnt to tell an answer from the other questions instead."
)


@dataclass(frozen=True, slots=True)
class TunedFirstStage:
    """The tuned bi-encoder and what it ranks.

    Attributes:
        model: It, in sentence-transformers' format.
        base: What it was tuned from.
        runs: "tuned dense" and "tuned hybrid" -> ranking of dev and test questions, of the judged depth.
        chosen: Which of them ranks dev best.
        mining_run: Its deeper ranking of the train questions.
        cosines: (query_id, passage_ids) -> cosines, for dev and test questions.
        settings: Plan and training settings, for the artefacts.
        notes: What the reader must know.
    """

    model: Checkpoint
    base: Checkpoint
    runs: Mapping[str, Run]
    chosen: str
    mining_run: Run
    cosines: Similarity
    settings: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def candidates(self) -> Run:
        """Candidates of dev and test questions from the chosen one."""
        return self.runs[self.chosen]


def tune_first_stage(
    prepared: Prepared, settings: TuneSettings, budget_s: float, folder: RunFolder, progress: Progress, say: Say
) -> TunedFirstStage:
    """Tune the bi-encoder of the dense first stage on the train questions, and rank with it.

    Args:
        prepared: Splits and untuned first stages.
        settings: Of the run.
        budget_s: Seconds for training.
        folder: For checkpoints and embeddings.
        progress, say: Told of the work.
    """
    with prepared.stopwatch.stage("tune first stage"):
        model = load_bi_encoder(prepared.embedder, best_device().type)
        without_dropout(model)
        examples = _Examples(prepared)
        plan, precision, attention = _measure(model, examples, budget_s, settings.seed, folder)
        say(f"Tuning the first stage: {plan.sentence()}; {precision}.")
        training = TrainingSettings(
            n_steps=plan.n_steps,
            loss="contrastive",
            learning_rate=_learning_rate(model),
            batch_groups=_BATCH,
            precision=precision,
            attention=attention,
            n_evaluations=0,
            keep="last",
            deadline_s=max(30.0, 1.5 * plan.training_s),
            seed=settings.seed,
        )
        result = train_bi_encoder(
            model, TextEncoder(model, plan.max_length), examples.queries, examples.passages, examples.all,
            examples.protected, training, folder.training / "first-stage", progress,
            rival_questions=examples.rival_questions,
        )  # fmt: skip
        if result.resumed_from:
            say(f"Training of the first stage continued from step {result.resumed_from}.")
        share, path = _average(prepared, result.model_path, settings.budget_s, folder)
    resolved = {"plan": asdict(plan), "training": asdict(training), "tuned_share": share}
    notes = (
        f"The first stage's bi-encoder ({prepared.embedder.name}) was tuned on {plan.n_examples:,} question-answer "
        f"pairs: {result.n_steps} steps of {_BATCH} pairs, {result.stopped}. On dev {share:.0%} of the tuned and "
        f"{1 - share:.0%} of the untuned weights ranked best.",
        *((_RIVALS_NOTE,) if examples.rival_questions else ()),
    )
    return _ranked(prepared, path, resolved, notes, settings, folder, progress, say)


def _average(prepared: Prepared, tuned: Path, budget_s: float, folder: RunFolder) -> tuple[float, Path]:
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


def _ranked(
    prepared: Prepared,
    path: Path,
    resolved: Mapping[str, Any],
    notes: tuple[str, ...],
    settings: TuneSettings,
    folder: RunFolder,
    progress: Progress,
    say: Say,
) -> TunedFirstStage:
    """What the tuned model ranks."""
    collection, splits = prepared.collection, prepared.splits
    with prepared.stopwatch.stage("rank with the tuned first stage"):
        model = resolve(str(path))
        precision = folder.recall("embedder_precision")
        embedder = CachedEmbedder(SentenceTransformerEmbedder(model, precision=precision), folder.cache)
        _, dense, hybrid = make_first_stages(collection, embedder, progress, prefix="tuned ")
        dev = queries_of(collection, splits.dev)
        runs, chosen, mining_run = rank_with((dense, hybrid), dev, collection, splits, settings.depth, progress)
        cosines = dense.similarity(queries_of(collection, splits.dev + splits.test), progress)
    before, after = (_dev_quality(run, prepared) for run in (prepared.first_stages["dense"], runs[dense.name]))
    sentence = f"Dense search on the dev questions: {HEADLINE} {before:.3f} untuned, {after:.3f} tuned."
    say(sentence)
    return TunedFirstStage(
        model=model,
        base=prepared.embedder,
        runs=runs,
        chosen=chosen,
        mining_run=mining_run,
        cosines=cosines,
        settings=resolved,
        notes=(*notes, sentence),
    )


class _Examples:
    """Question-answer pairs of the train split, with who must not be whose negative."""

    def __init__(self, prepared: Prepared) -> None:
        collection, splits = prepared.collection, prepared.splits
        duplicates = prepared.near_duplicates()
        pairs = [(query_id, pid) for query_id in splits.train for pid in sorted(collection.relevant(query_id))]
        query_ids, passage_ids = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
        query = {query_id: place for place, query_id in enumerate(query_ids)}
        passage = {passage_id: place for place, passage_id in enumerate(passage_ids)}

        def places(found: set[str]) -> frozenset[int]:
            return frozenset(passage[pid] for pid in found if pid in passage)

        never = {query_id: places(_alike(collection, query_id, duplicates)) for query_id in query_ids}
        held_out = {pid for query_id in splits.dev + splits.test for pid in collection.relevant(query_id)}
        self.queries = [collection.queries[query_id].text for query_id in query_ids]
        self.passages = [collection.passages[passage_id].full_text for passage_id in passage_ids]
        groups = splits.groups
        self.all = [ContrastiveExample(query[qid], passage[pid], (), never[qid], groups[qid]) for qid, pid in pairs]
        self.protected = places(held_out)
        # In data with one set of answers for all splits hardly a passage may be anybody's negative.
        self.rival_questions = 2 * len(self.protected) > len(passage_ids)


def _alike(collection: Collection, query_id: str, duplicates: Mapping[str, frozenset[str]]) -> set[str]:
    """Answers to a question, and their near-duplicates."""
    relevant = collection.relevant(query_id)
    return relevant.union(*(duplicates.get(passage_id, frozenset()) for passage_id in relevant))


def _measure(
    model: Any, examples: _Examples, budget_s: float, seed: int, folder: RunFolder
) -> tuple[FirstStagePlan, str, str]:
    """Plan, precision and attention by measured speed, or what the interrupted run chose."""
    remembered = folder.recall("first_stage")
    if remembered is not None:
        return FirstStagePlan(**remembered["plan"]), remembered["precision"], remembered["attention"]
    encoder = TextEncoder(model)
    queries, passages = encoder.queries(examples.queries), encoder.passages(examples.passages)
    chosen = np.random.default_rng(seed).choice(len(passages), size=min(_TEXTS_TO_TIME, len(passages)), replace=False)
    fastest = measure_training(model, encoder, [passages[i] for i in chosen])[0]
    plan = plan_first_stage(
        np.array([len(queries[example.query]) for example in examples.all]),
        np.array([len(passages[example.positive]) for example in examples.all]),
        fastest.tokens_per_s,
        budget_s,
        batch=_BATCH,
        longest=encoder.max_length,
    )
    folder.remember(first_stage={"plan": asdict(plan), "precision": fastest.precision, "attention": fastest.attention})
    return plan, fastest.precision, fastest.attention


def _learning_rate(model: Any) -> float:
    """Peak learning rate by size: small models take and need larger steps."""
    n_million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return 5e-5 if n_million < 50 else 2e-5


def _dev_quality(run: Run, prepared: Prepared) -> float:
    return headline_mean(run, prepared.collection.qrels, prepared.splits.dev)
