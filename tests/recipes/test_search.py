"""From a question to passages: first stage, reranking, what is said, and calls from many threads."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from crosstune.bi_encoder import load_bi_encoder, save_two_sides
from crosstune.bundle import BI_ENCODER, ModelBundle, save_bundle
from crosstune.checkpoints import resolve
from crosstune.documents import ChunkSettings
from crosstune.errors import ConfigError, StoreError
from crosstune.recipes.index import IndexSettings, index
from crosstune.recipes.search import Pipeline, judged_mode, open_embedder, open_pipeline, warnings
from crosstune.retrieval.live import LiveIndex
from crosstune.retrieval.stores import open_store
from crosstune.scoring import Reranker
from crosstune.types import Calibration, Condition, Fusion, Part, Query, ScoreKind

QUESTION = "when is my refund paid"
OF_SCORE = Calibration(4.0, 0.5, 0.55, 0, 0, 1)
WEIGHTS = {Part.BI_ENCODER: 9.0, Part.LEXICAL: 0.5}


@pytest.fixture(scope="module")
def location(corpus, bare_bert, tmp_path_factory):
    """An index of the corpus, with the topic of each passage as metadata."""
    folder = tmp_path_factory.mktemp("search")
    rows = [f"{p.passage_id},{p.text},{p.passage_id.split('-')[0]}" for p in corpus.passages.values()]
    (folder / "docs.csv").write_text("id,text,topic\n" + "\n".join(rows))
    index(folder / "docs.csv", str(folder / "index"), IndexSettings(str(bare_bert), ChunkSettings(60, 0)))
    return str(folder / "index")


def model_at(path, fusion, models):
    bundle = ModelBundle(path, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", OF_SCORE, fusion)
    save_bundle(bundle, *models)
    return path


@pytest.fixture(scope="module")
def model(bare_bert, tmp_path_factory):
    """A bi-encoder and shared words, judged over the untuned dense search."""
    path = tmp_path_factory.mktemp("run") / "model"
    return model_at(path, Fusion("dense", WEIGHTS, "en", OF_SCORE), (None, bare_bert))


@pytest.fixture(scope="module")
def pipeline(location, model):
    opened = open_pipeline(location, model)
    yield opened
    opened.close()


def test_without_a_reranker_the_order_is_the_indexs(location):
    opened = open_pipeline(location)
    result = opened.search(QUESTION, depth=8, top_n=3)
    found = LiveIndex(opened.store, opened.embedder, "hybrid").find(QUESTION, 8).found
    assert [hit.passage.passage_id for hit in result.hits] == [item.passage.passage_id for item in found[:3]]
    assert [(hit.rank, hit.first_stage_rank, hit.score) for hit in result.hits] == [
        (1, 1, None),
        (2, 2, None),
        (3, 3, None),
    ]
    assert (result.mode, result.answered, result.ranked_by, result.n_candidates) == ("hybrid", None, (), 8)
    assert set(result.timings_ms) == {"embed", "search", "rerank"}
    opened.close()


def test_with_one_it_is_that_of_the_reranker_over_all_candidates(pipeline, location, model):
    result = pipeline.search(QUESTION, depth=20, top_n=20)
    found = LiveIndex(pipeline.store, pipeline.embedder, "vector").find(QUESTION, 20).found
    expected = Reranker.load(model).rank(QUESTION, [item.passage.full_text for item in found])
    assert [hit.passage.passage_id for hit in result.hits] == [
        found[item.index].passage.passage_id for item in expected
    ]  # fmt: skip
    assert [hit.first_stage_rank for hit in result.hits] == [item.index + 1 for item in expected]
    np.testing.assert_allclose([hit.score for hit in result.hits], [item.score for item in expected], atol=1e-5)
    assert result.answered == any(item.answers for item in expected)
    assert result.ranked_by == (Part.BI_ENCODER, Part.LEXICAL)


def test_vectors_come_from_an_index_of_the_same_bi_encoder(pipeline, monkeypatch):
    def refuse(texts, progress=None):
        raise AssertionError("a passage was embedded")

    monkeypatch.setattr(pipeline.reranker._embedder, "embed_passages", refuse)
    assert pipeline.search("where is the invoice of this month").hits


def test_vectors_of_another_model_are_not_taken(location, bert, tmp_path):
    path = model_at(tmp_path / "model", Fusion("tuned dense", WEIGHTS, "en", OF_SCORE), (None, bert))
    opened = open_pipeline(location, path)
    assert not opened._shares_vectors
    assert [f"--embedder {path / BI_ENCODER}" in line for line in warnings(opened)] == [True]
    opened.close()


def test_no_advice_where_the_index_is_the_one_that_was_judged(location, bare_bert, tmp_path):
    path = model_at(tmp_path / "model", Fusion("tuned dense", WEIGHTS, "en", OF_SCORE), (None, bare_bert))
    opened = open_pipeline(location, path)
    assert warnings(opened) == []
    opened.close()


@pytest.mark.parametrize("judged_over", ["tuned dense", "dense"])
def test_questions_are_embedded_as_judged_over_an_index_that_stays(location, bare_bert, tmp_path, judged_over):
    base = resolve(str(bare_bert))
    questions, passages = load_bi_encoder(base, "cpu"), load_bi_encoder(base, "cpu")
    with torch.no_grad():
        questions[0].auto_model.embeddings.word_embeddings.weight.mul_(-1.0)
    save_two_sides(questions, passages, tmp_path / "two", base.index_revision)
    path = model_at(tmp_path / "model", Fusion(judged_over, WEIGHTS, "en", OF_SCORE), (None, tmp_path / "two"))
    opened = open_pipeline(location, path)
    assert opened._shares_vectors
    assert warnings(opened) == []
    asked = {"tuned dense": questions, "dense": passages}[judged_over].encode(QUESTION, normalize_embeddings=True)
    texts = [p.full_text for p in opened.store.passages()]
    cosines = passages.encode(texts, normalize_embeddings=True) @ asked
    found = LiveIndex(opened.store, opened.embedder, "vector").find(QUESTION, 5).found
    assert [item.passage.full_text for item in found] == [texts[i] for i in np.argsort(-cosines, kind="stable")[:5]]
    result = opened.search(QUESTION, depth=5, top_n=5)  # the score's cosine is the tuned one in both cases
    tuned = questions.encode(QUESTION, normalize_embeddings=True)
    kept = [item.passage.full_text for item in found]
    scores = Reranker.load(path).rank(QUESTION, kept)
    assert [hit.passage.full_text for hit in result.hits] == [kept[item.index] for item in scores]
    cosine = opened.reranker._cosines.score_pairs([(QUESTION, kept[0])])[0]
    assert cosine == pytest.approx(float(passages.encode(kept[0], normalize_embeddings=True) @ tuned), abs=1e-5)
    opened.close()


def test_conditions_and_counts(pipeline):
    where = [Condition("topic", "=", ("refund",))]
    result = pipeline.search(QUESTION, where=where, top_n=2)
    assert (result.n_candidates, len(result.hits)) == (5, 2)
    assert {hit.passage.metadata["topic"] for hit in result.hits} == {"refund"}
    with pytest.raises(ConfigError, match="'colour'"):
        pipeline.search(QUESTION, where=[Condition("colour", "=", ("red",))])


def test_only_passages_that_answer(pipeline, model):
    everything = pipeline.search(QUESTION, depth=20, top_n=20).hits
    reranker = Reranker.load(model)
    fusion = reranker.bundle.fusion
    threshold = (everything[6].probability + everything[7].probability) / 2
    calibration = replace(fusion.calibration, threshold=threshold)
    reranker.bundle = replace(reranker.bundle, fusion=replace(fusion, calibration=calibration))
    strict = Pipeline(pipeline.store, pipeline.embedder, reranker)
    kept = strict.search(QUESTION, depth=20, top_n=20, answers_only=True)
    assert [hit.passage for hit in kept.hits] == [hit.passage for hit in everything[:7]]
    assert kept.answered


def test_nothing_found_is_not_answered(pipeline):
    result = pipeline.search(QUESTION, where=[Condition("topic", "=", ("weather",))])
    assert (result.hits, result.answered, result.n_candidates) == ((), False, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"top_n": 0}, "top_n is 0"), ({"depth": 0}, "depth is 0"), ({"deadline_ms": 0}, "deadline")],
)
def test_refusals(pipeline, options, message):
    with pytest.raises(ConfigError, match=message):
        pipeline.search(QUESTION, **options)


def test_a_threshold_needs_a_reranker_and_a_mode_must_exist(location):
    opened = open_pipeline(location)
    with pytest.raises(ConfigError, match="threshold"):
        opened.search(QUESTION, answers_only=True)
    with pytest.raises(ConfigError, match="search mode is 'fuzzy'"):
        Pipeline(opened.store, opened.embedder, mode="fuzzy")
    opened.close()


@pytest.mark.parametrize(
    ("first_stage", "mode"),
    [
        ("bm25", "text"),
        ("dense", "vector"),
        ("tuned dense", "vector"),
        ("hybrid", "hybrid"),
        ("tuned hybrid", "hybrid"),
    ],
)
def test_the_mode_is_the_one_that_was_judged(model, first_stage, mode):
    bundle = Reranker.load(model).bundle
    assert judged_mode(replace(bundle, fusion=replace(bundle.fusion, first_stage=first_stage))) == mode


def test_an_embedder_that_changed_is_refused(location, bert):
    store = open_store(location)

    class Changed:
        location = "here"
        spec = replace(store.spec, embedder_source=str(bert))

    with pytest.raises(StoreError, match="another version"):
        open_embedder(Changed())
    store.close()


def test_many_at_once_and_the_loop_goes_on(pipeline):
    questions = [
        QUESTION,
        "how do I export a report",
        "where is the invoice of this month",
        "link to reset a password",
    ] * 5
    expected = {question: pipeline.search(question).hits for question in set(questions)}
    ticks = []

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.001)

    async def search_all():
        ticker = asyncio.create_task(tick())
        results = await asyncio.gather(*(pipeline.asearch(question) for question in questions))
        ticker.cancel()
        return results

    for question, result in zip(questions, asyncio.run(search_all()), strict=True):
        assert result.hits == expected[question]
    assert len(ticks) > 3


def test_a_live_index_is_a_retriever(pipeline, corpus):
    live = LiveIndex(pipeline.store, pipeline.embedder, "hybrid")
    queries = [Query("a", QUESTION), Query("b", "how do I export a report")]
    run = live.retrieve(queries, 4)
    assert (run.name, run.score_kind, run.depth) == ("hybrid", ScoreKind.FUSED, 4)
    for query in queries:
        one = live.find(query.text, 4).found
        assert [(c.passage_id, c.score, c.rank) for c in run.candidates[query.query_id]] == [
            (item.passage.passage_id, item.score, rank) for rank, item in enumerate(one, start=1)
        ]
