"""Indexes in Redis that RedisVL made: found, filtered, listed as they are, and never written to."""

import math

import numpy as np
import pytest
from foreign_data import (
    FIELDS,
    FOREIGN,
    TOPICS,
    N,
    client_of,
    content_of,
    documents,
    ids,
    ids_of,
    load,
    rows_of,
    vector_field,
)

from crosstune.errors import ConfigError, StoreError
from crosstune.retrieval.stores import ForeignSpec, is_foreign, open_store, parse_location, start_version
from crosstune.retrieval.stores.foreign_rows import PassageIds
from crosstune.types import Condition, IndexSpec, Passage


@pytest.fixture(scope="module")
def location(redis_server):
    return load(redis_server, "theirs", [*FIELDS, vector_field()], documents(rows_of()))


@pytest.fixture
def store(location):
    opened = open_store(location, FOREIGN)
    yield opened
    opened.close()


# Vector search against numpy


@pytest.mark.parametrize("datatype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("algorithm", ["flat", "hnsw"])
def test_the_nearest_are_those_of_numpy(redis_server, algorithm, metric, datatype):
    rows = rows_of(unit=False)
    field = vector_field(algorithm=algorithm, distance_metric=metric, datatype=datatype)
    name = f"near-{algorithm}-{metric}-{datatype}"
    store = open_store(load(redis_server, name, [*FIELDS, field], documents(rows, datatype)), FOREIGN)
    query = rows_of(1, seed=5)[0]
    scores = {
        "cosine": rows @ query / np.linalg.norm(rows, axis=1),
        "ip": rows @ query,
        "l2": 1 - ((rows - query) ** 2).sum(axis=1) / 2,
    }[metric]
    found = store.search_vector(query.astype(np.float32), 10)
    best = np.argsort(-scores)[:10]
    tolerance = 4e-3 if datatype == "float16" else 2e-6
    np.testing.assert_allclose([one.score for one in found], scores[best], atol=tolerance)
    if datatype != "float16":
        assert ids(found) == [str(place) for place in best]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    places = [7, 0, 41]
    unit = rows[places] / np.linalg.norm(rows[places], axis=1, keepdims=True)
    np.testing.assert_allclose(store.vectors(["7", "0", "41"]), unit, atol=tolerance)
    store.close()


def test_of_unit_vectors_every_score_is_the_cosine(redis_server):
    query = rows_of(1, seed=5)[0].astype(np.float32)
    scores = []
    for metric in ("cosine", "ip", "l2"):
        fields = [*FIELDS, vector_field(distance_metric=metric)]
        store = open_store(load(redis_server, f"unit-{metric}", fields, documents(rows_of())), FOREIGN)
        scores.append([one.score for one in store.search_vector(query, 5)])
        store.close()
    np.testing.assert_allclose(scores[1:], [scores[0], scores[0]], atol=2e-6)


def test_vectors_of_another_datatype_are_refused(redis_server):
    fields = [*FIELDS, vector_field(datatype="bfloat16")]
    location = load(redis_server, "bf16", fields, [])
    with pytest.raises(StoreError, match="are bfloat16, compared by cosine; expected float16, float32, float64"):
        open_store(location, FOREIGN)


# Passages and metadata


def test_a_passage_is_a_document(store):
    (found,) = store.search_vector(rows_of()[4].astype(np.float32), 1)
    assert found.score == pytest.approx(1, abs=2e-6)
    assert found.passage == Passage(
        "4", "the invoice is sent number4", metadata={"kind": "Modem,Wifi", "year": "2004"}
    )  # fmt: skip


def test_all_passages_and_what_the_index_is(store, location):
    everything = list(store.passages())
    assert ids_of(everything) == sorted(map(str, range(N)))
    assert (store.count(), len(store.sample(20)), store.location) == (N, 20, location)
    assert store.spec == IndexSpec("identity", "their/model", 8, "en", 0, 0, {"kind": "tag", "year": "numeric"})


def test_more_passages_than_a_cursor_reads_at_once(redis_server):
    n = 2345
    location = load(redis_server, "many", [*FIELDS, vector_field(algorithm="flat")], documents(rows_of(n)))
    store = open_store(location, FOREIGN)
    assert sorted(map(int, ids_of(store.passages()))) == list(range(n))
    assert len(ids_of(store.passages([Condition("kind", "=", ("phone",))]))) == n // 3
    store.close()


def test_documents_without_text_or_vector_are_no_passages(redis_server):
    location = load(redis_server, "holes", [*FIELDS, vector_field()], documents(rows_of(6)))
    client = client_of(redis_server)
    client.hdel("holes:0", "content")
    client.hdel("holes:1", "embedding")
    client.hset("holes:2", "content", b"refunds \xff\xfe")
    store = open_store(location, FOREIGN)
    assert store.count() == 6
    assert ids_of(store.passages()) == ["2", "3", "4", "5"]
    assert set(ids(store.search_vector(rows_of(6)[0].astype(np.float32), 6))) == {"2", "3", "4", "5"}
    assert ids(store.search_text("invoice", 6)) == ["4"]  # 1 has no vector
    assert next(store.passages()).text == "refunds \ufffd\ufffd"
    with pytest.raises(StoreError, match="passage '1' is not in the index"):
        store.vectors(["3", "1"])
    with pytest.raises(StoreError, match="passage 'nobody'"):
        store.vectors(["nobody"])
    store.close()


def test_keys_of_the_prefix_that_are_not_in_the_index_are_no_passages(redis_server):
    location = load(redis_server, "strict", [*FIELDS, vector_field()], documents(rows_of(3)))
    client = client_of(redis_server)
    client.hset("strict:9", mapping={"content": "text", "embedding": b"too short"})
    client.set("strict:10", "no hash")
    store = open_store(location, FOREIGN)
    assert ids_of(store.passages()) == ["0", "1", "2"]
    store.close()


@pytest.mark.parametrize(
    ("prefixes", "pairs"),
    [
        (["docs"], {"docs:1": "1", "docs1": "docs1", "docs:docs:1": "docs:docs:1", "docs:": "docs:"}),
        (["docs:"], {"docs:1": "1", "docs:a:b": "a:b", "docs:docs:1": "docs:docs:1"}),
        (["a:", "b:"], {"a:1": "a:1", "b:1": "b:1"}),
        ([""], {"a:1": "a:1"}),
    ],
)  # fmt: skip
def test_ids_are_keys_without_the_prefix_and_lead_back(prefixes, pairs):
    found = PassageIds(prefixes)
    assert {key: found.passage_id(key) for key in pairs} == pairs
    assert [found.key(passage_id) for passage_id in pairs.values()] == list(pairs)


def test_several_prefixes_and_names_with_colons(redis_server):
    keys = ["one:a", "two:a", "two:b"]
    data = documents(rows_of(3))
    location = load(redis_server, "idx:two", [*FIELDS, vector_field()], data, prefix=["one", "two"], keys=keys)
    store = open_store(location, FOREIGN)
    assert ids_of(store.passages()) == keys
    np.testing.assert_allclose(store.vectors(["two:b"]), rows_of(3)[2:], atol=1e-6)
    store.close()


# Conditions


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition("kind", "=", ("phone",)), {i for i in range(N) if i % 3 == 2}),
        (Condition("kind", "=", ("router", "PHONE")), {i for i in range(N) if i % 3 != 1}),
        (Condition("kind", "=", ("wifi",)), {i for i in range(N) if i % 3 == 1}),  # one of two tags
        (Condition("kind", "!=", ("Wifi",)), {i for i in range(N) if i % 3 != 1}),
        (Condition("year", ">=", ("2050",)), set(range(50, N))),
        (Condition("year", "=", ("2003", "2007")), {3, 7}),
    ],
)
def test_conditions_mean_what_they_mean_in_redis(store, condition, expected):
    query = rows_of(1, seed=1)[0].astype(np.float32)
    texts = " ".join(TOPICS)
    assert set(map(int, ids(store.search_vector(query, N, [condition])))) == expected
    assert set(map(int, ids(store.search_text(texts, N, [condition])))) == expected
    assert set(map(int, ids_of(store.passages([condition])))) == expected


def test_conditions_that_cannot_be(store):
    for call in (lambda where: list(store.passages(where)), lambda where: store.search_text("refund", 3, where)):
        with pytest.raises(ConfigError, match="'colour'; its fields are kind, year"):
            call([Condition("colour", "=", ("red",))])


# Text search


def test_words_are_those_of_redis(store):
    assert set(map(int, ids(store.search_text("Refunding?", N)))) == set(range(0, N, 3))  # stemmed by RediSearch
    found = store.search_text("the (number7) of an INVOICE", 5)
    assert ids(found)[0] == "7"
    assert found[0].score > found[1].score > 0
    assert found[1].score == found[2].score
    assert ids(found)[1:] == sorted(ids(found)[1:])
    assert store.search_text("?! -", 5) == ()
    assert store.search_text("*", 5) == ()
    assert store.search_text("nothing", 5) == ()


def test_bm25_ranks_rare_words_first(redis_server):
    texts = ("common rare", "common common", "other words")
    data = [
        {"content": content, "embedding": row.astype(np.float32).tobytes()}
        for content, row in zip(texts, rows_of(3), strict=True)
    ]
    store = open_store(load(redis_server, "bm25", [FIELDS[0], vector_field()], data), FOREIGN)
    found = store.search_text("rare common", 5)
    assert ids(found) == ["0", "1"]
    # All texts have two words, so that a term adds idf * 2.2 f / (f + 1.2) when found f times; in n of 3 texts it has
    # idf = ln(1 + (3 - n + .5) / (n + .5)).
    rare, common = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
    assert [one.score for one in found] == pytest.approx([rare + common, common * 4.4 / 3.2])
    store.close()


def test_a_text_that_is_not_indexed_is_only_returned(redis_server):
    fields = [*FIELDS, vector_field()]
    location = load(redis_server, "unindexed", fields, documents(rows_of(3)))
    store = open_store(f"{location}?text=extra", FOREIGN)
    (found,) = store.search_vector(rows_of(3)[1].astype(np.float32), 1)
    assert (found.passage.passage_id, found.passage.text) == ("1", "not in the index")
    with pytest.raises(StoreError, match=r"'extra' .* not indexed as TEXT: only vector search is possible"):
        store.search_text("refund", 3)
    store.close()


# Refusals


def test_without_an_embedder_the_remedy_is_named(location):
    with pytest.raises(StoreError, match=r"'theirs' that crosstune did not make.*say with --embedder which model"):
        open_store(location)


def test_other_dimensions(location):
    with pytest.raises(StoreError, match="have 8 dimensions, those of 'their/model' 384"):
        open_store(location, ForeignSpec("identity", "their/model", 384))


def test_nothing_there(redis_server):
    with pytest.raises(StoreError, match="there is no index at"):
        open_store(f"{redis_server.url}/nothing", FOREIGN)


def test_it_is_only_read(redis_server, store, location):
    before = content_of(redis_server)
    passage, row = Passage("new", "new"), rows_of(1).astype(np.float32)
    for write in (
        lambda: store.put([passage], row, ["d"]),
        lambda: store.update([passage], ["d"]),
        lambda: store.remove(["1"]),
        store.publish,
        store.digests,
    ):
        with pytest.raises(StoreError, match="was made by another program and is only read"):
            write()
    store.search_vector(row[0], 5)
    store.search_text("refund", 5)
    list(store.passages())
    store.vectors(["1"])
    with pytest.raises(StoreError, match="'theirs' that crosstune did not make"):
        start_version(location, IndexSpec("e", "embedded", 8, "en", 1, 0, {}))
    assert content_of(redis_server) == before
    with pytest.raises(ConfigError, match="depth"):
        store.search_vector(row[0], 0)
    with pytest.raises(StoreError, match="expected 1 vectors of 8 dimensions"):
        store.search_vector(np.ones(3, np.float32), 5)


def test_an_index_that_was_dropped(redis_server):
    store = open_store(load(redis_server, "gone", [*FIELDS, vector_field()], documents(rows_of(2))), FOREIGN)
    client_of(redis_server).ft("gone").dropindex()
    for call in (store.count, lambda: store.search_text("refund", 3), lambda: list(store.passages())):
        with pytest.raises(StoreError, match="was dropped"):
            call()
    store.close()


def test_own_indexes_know_their_fields(redis_server, location):
    own = f"{redis_server.url}/own"
    start_version(own, IndexSpec("e", "embedded", 8, "en", 1, 0, {})).publish()
    assert (is_foreign(own), is_foreign(location), is_foreign(f"{redis_server.url}/nothing")) == (False, True, False)
    assert open_store(own, FOREIGN).spec.embedder == "e"
    for opened in (open_store, lambda where: start_version(where, IndexSpec("e", "embedded", 8, "en", 1, 0, {}))):
        with pytest.raises(StoreError, match="whose fields are known; leave the options text=content out"):
            opened(f"{own}?text=content")
    with pytest.raises(StoreError, match="'idx:own' cannot be the name"):
        start_version(f"{redis_server.url}/idx:own", IndexSpec("e", "embedded", 8, "en", 1, 0, {}))


def test_locations_name_fields():
    place = parse_location("rediss://ann:p@h/idx:docs?ssl_cert_reqs=none&vector=my-v&text=page_content")
    assert place.location == "rediss://ann@h:6379/idx:docs?ssl_cert_reqs=none&text=page_content&vector=my-v"
    assert place.url == "rediss://h:6379/0?ssl_cert_reqs=none"
    assert (place.fields.text, place.fields.title, place.fields.vector) == ("page_content", "", "my-v")
    assert parse_location(place.location).location == place.location
