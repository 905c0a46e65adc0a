"""How much of a first stage's tuning is kept, by what it is decided, and what that costs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crosstune.bi_encoder import load_bi_encoder
from crosstune.checkpoints import resolve
from crosstune.data import near_duplicate_passages
from crosstune.recipes import averaging
from crosstune.recipes.averaging import (
    DevQuality,
    _n_dev,
    average,
    average_weights,
    best_share,
    seconds_afterwards,
)
from crosstune.types import Candidate, Run, ScoreKind, Splits


def prepared_of(corpus, **splits):
    ids = {"train": (), "dev": (), "test": ()} | splits
    run = Run(
        "dense",
        4,
        ScoreKind.SIMILARITY,
        {
            query_id: tuple(Candidate(pid, 1.0 / rank, rank) for rank, pid in enumerate(list(corpus.passages)[::5], 1))
            for query_id in ids["dev"]
        },
    )
    return SimpleNamespace(
        collection=corpus,
        splits=Splits(**ids, groups={q: q for q in corpus.queries}, seed=0),
        candidates=run,
        near_duplicates=lambda: near_duplicate_passages(corpus),
    )


def memory(**known):
    """A run folder's memory."""
    return SimpleNamespace(values=known, recall=known.get, remember=lambda **values: known.update(values))


def test_seconds_afterwards_by_hand(corpus):
    prepared = prepared_of(corpus, dev=tuple(corpus.queries))
    prepared.embedding_s = lambda: 10.0
    # Eight questions with 20 candidates each are more than the 20 passages: all of them twice, then once more.
    assert (len(corpus.queries), len(corpus.passages)) == (8, 20)
    folder = memory()
    assert seconds_afterwards(prepared, 1e6, folder) == 30.0
    prepared.embedding_s = None  # it is not measured again
    assert folder.values == {"embedding_s": 10.0}
    assert seconds_afterwards(prepared, 1e6, folder) == 30.0
    one = prepared_of(corpus, dev=tuple(corpus.queries)[:1])
    one.collection = SimpleNamespace(passages=range(200))
    assert seconds_afterwards(one, 1e6, memory(embedding_s=10.0)) == pytest.approx(10 * (1 + 2 * 20 / 200))


@pytest.mark.parametrize(("budget_s", "n_dev"), [(10_000, 100), (600, 60), (1, 20)])
def test_dear_candidates_are_embedded_for_fewer_dev_questions(budget_s, n_dev):
    # 1,000 passages in 25 s: 20 candidates, twice, are 1 s a question, and a tenth of the budget may be spent.
    prepared = SimpleNamespace(
        collection=SimpleNamespace(passages=range(1000)), splits=SimpleNamespace(dev=tuple(range(150)))
    )
    assert _n_dev(prepared, budget_s, memory(embedding_s=25.0)) == n_dev
    prepared.splits.dev = (1, 2, 3)
    assert _n_dev(prepared, budget_s, memory(embedding_s=25.0)) == 3


def test_averaged_weights_by_hand():
    own, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    with torch.no_grad():
        own.weight[:], own.bias[:] = torch.tensor([[4.0, 8.0]]), 1.0
        other.weight[:], other.bias[:] = torch.tensor([[0.0, -8.0]]), 3.0
    average_weights(own, other, 0.75)
    assert own.weight.tolist() == [[3.0, 4.0]]
    assert own.bias.tolist() == [1.5]


def test_dev_quality_is_that_of_the_candidates_ordered_by_cosine(corpus, bare_bert):
    dev = tuple(corpus.queries)
    model = load_bi_encoder(resolve(str(bare_bert)), "cpu")
    passage_ids = list(corpus.passages)[::5]  # the four that answer: one of them is right for each question
    cosines = (
        model.encode([q.text for q in corpus.queries.values()], normalize_embeddings=True)
        @ model.encode([corpus.passages[pid].text for pid in passage_ids], normalize_embeddings=True).T
    )
    expected = []
    for row, query_id in zip(cosines, dev, strict=True):
        (right,) = (i for i, pid in enumerate(passage_ids) if corpus.qrels[query_id].get(pid, 0) == 2)
        rank = 1 + int((row > row[right]).sum())
        # Two relevant passages of relevance 2 and 1, the second of them never a candidate.
        expected.append(2 / np.log2(rank + 1) / (2 + 1 / np.log2(3)))
    quality = DevQuality(prepared_of(corpus, dev=dev), "fp32", len(dev))
    assert quality(model) == pytest.approx(np.mean(expected), abs=1e-6)
    # The same where passages' vectors are given; other vectors, another order.
    vectors = model.encode([p.text for p in corpus.passages.values()], normalize_embeddings=True)
    assert quality(model, vectors) == pytest.approx(np.mean(expected), abs=1e-6)
    assert quality(model, -vectors) != pytest.approx(np.mean(expected), abs=1e-3)


@pytest.mark.parametrize(
    ("tuned", "half", "share"),
    [(0.8, 0.7, 1.0), (0.7, 0.8, 0.5), (0.7, 0.7, 0.5), (0.6, 0.5, 0.0), (0.5, 0.6, 0.0)],
)
def test_the_best_share_and_the_weights_that_it_leaves(tuned, half, share):
    own, untuned = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.fill_(8.0)
        for parameter in untuned.parameters():
            parameter.fill_(0.0)
    qualities = {8.0: tuned, 4.0: half}
    found = best_share(own, untuned, lambda model: qualities[float(model.bias.detach())], 0.6)
    assert found == (share, {1.0: tuned, 0.5: half, 0.0: 0.6}[share])
    assert own.weight.tolist() == [[8 * share, 8 * share]]


@pytest.mark.parametrize(("tuned", "half", "share"), [(0.8, 0.7, 1.0), (0.7, 0.8, 0.5), (0.5, 0.4, 0.0)])
def test_the_share_that_dev_likes_best(bare_bert, tmp_path, monkeypatch, tuned, half, share):
    qualities = iter([0.6, tuned, half])
    monkeypatch.setattr(
        averaging, "DevQuality", lambda prepared, precision, n_dev: lambda model, vectors=None: next(qualities)
    )
    folder = memory(embedding_s=1.0)
    folder.training = tmp_path
    moved = tmp_path / "tuned"
    model = load_bi_encoder(resolve(str(bare_bert)), "cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.save_pretrained(str(moved))
    prepared = SimpleNamespace(
        embedder=resolve(str(bare_bert)),
        splits=SimpleNamespace(dev=("q1",)),
        collection=SimpleNamespace(passages="p"),
        vectors=lambda: None,
    )
    found, path = average(prepared, moved, 600.0, folder)
    assert found == share
    assert average(prepared, moved, 600.0, folder) == (share, path)  # a continued run decides nothing anew
    if share == 0:
        assert path is None
        return
    base, kept = (load_bi_encoder(resolve(str(p)), "cpu").state_dict() for p in (bare_bert, path))
    name = next(name for name in base if name.endswith("word_embeddings.weight"))
    torch.testing.assert_close(kept[name], base[name] + share)
