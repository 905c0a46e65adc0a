"""Which fields of an index that RedisVL made are text, title, vector and metadata."""

import numpy as np
import pytest
from foreign_data import (
    DIMENSIONS,
    FIELDS,
    FOREIGN,
    GERMAN,
    TOPICS,
    client_of,
    content_of,
    ids,
    ids_of,
    load,
    rows_of,
    vector_field,
)

from crosstune.errors import StoreError
from crosstune.retrieval.stores import open_store, parse_location
from crosstune.retrieval.stores.foreign_schema import read_foreign_schema
from crosstune.types import Condition, Passage


def open_fields(server, name, fields, options="", data=()):
    opened = open_store(load(server, name, fields, list(data)) + options, FOREIGN)
    schema = opened._schema
    opened.close()
    return schema.text.name, schema.title and schema.title.name, schema.vector.name, [f.name for f in schema.metadata]


def text(*names):
    return [{"name": name, "type": "text"} for name in names]


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ([*text("blurb"), vector_field("v")], "", ("blurb", None, "v", [])),
        ([*text("note", "body"), vector_field("v")], "", ("body", None, "v", [])),
        ([*text("title", "answer"), vector_field("v")], "", ("answer", "title", "v", [])),
        ([*text("content", "text"), vector_field("v"), vector_field("embedding")], "",
         ("text", None, "embedding", [])),
        ([*text("text", "other"), vector_field("v"), vector_field("w")], "?text=other&vector=w&title=text",
         ("other", "text", "w", [])),
        ([*text("a", "b"), *FIELDS[1:], vector_field("v")], "?text=kind", ("kind", None, "v", ["year"])),
        ([*text("text"), {"name": "doc-id", "type": "tag"}, vector_field("my-vector")], "",
         ("text", None, "my-vector", ["doc-id"])),
    ],
)  # fmt: skip
def test_fields_are_found_by_name_or_chosen(redis_server, fields, options, expected):
    assert open_fields(redis_server, "fields", fields, options) == expected


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ([*text("a", "b"), vector_field()], "", r"has 2 text fields \(a, b\); name the one .*fields\?text=NAME"),
        ([*FIELDS[1:], vector_field()], "", r"has no text field; name the one .*\?text=NAME"),
        ([*text("a"), vector_field("v"), vector_field("w")], "", r"has 2 vector fields \(v, w\); .*\?vector=NAME"),
        ([*text("a"), vector_field("v")], "?vector=w", r"has no vector field 'w'; it has v"),
        ([*text("a"), vector_field("v")], "?vector=a", r"has no vector field 'a'; it has v"),
        ([*text("a"), vector_field("v")], "?text=v", r"field 'v' .* holds vectors, and no text"),
        (text("a"), "", "has no vector field; it cannot be searched"),
    ],
)
def test_fields_that_cannot_be_told(redis_server, fields, options, message):
    location = load(redis_server, "fields", fields, [])
    with pytest.raises(StoreError, match=message):
        open_store(location + options, FOREIGN)


def test_names_that_queries_must_escape_and_titles(redis_server):
    fields = [*text("my-text", "title"), {"name": "doc-id", "type": "tag"}, vector_field("my-vector")]
    data = [
        {"my-text": f"refund {i}", "title": f"Title {i}", "doc-id": f"d{i}", "my-vector": row.astype("f4").tobytes()}
        for i, row in enumerate(rows_of(5))
    ]
    store = open_store(load(redis_server, "hyphens", fields, data) + "?text=my-text", FOREIGN)
    (found,) = store.search_vector(rows_of(5)[3].astype(np.float32), 1)
    assert found.passage == Passage("3", "refund 3", "Title 3", {"doc-id": "d3"})
    assert len(store.search_text("refund", 9)) == 5
    assert store.spec.fields == {}  # no condition can name it
    store.close()


def test_names_in_queries_that_differ_from_those_in_the_hash(redis_server):
    client = client_of(redis_server)
    client.execute_command(
        "FT.CREATE", "aliased", "PREFIX", 1, "aliased:", "SCHEMA", "t", "AS", "text", "TEXT", "k", "AS", "kind", "TAG",
        "v", "AS", "embedding", "VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", DIMENSIONS, "DISTANCE_METRIC", "COSINE",
    )  # fmt: skip
    row = rows_of(1)[0].astype(np.float32)
    client.hset("aliased:a", mapping={"t": "a refund", "k": "Router", "v": row.tobytes()})
    store = open_store(f"{redis_server.url}/aliased", FOREIGN)
    where = [Condition("kind", "=", ("router",))]
    for found in (store.search_vector(row, 3, where), store.search_text("refund", 3, where)):
        assert [one.passage for one in found] == [Passage("a", "a refund", metadata={"kind": "Router"})]
    np.testing.assert_array_equal(store.vectors(["a"]), row[None])
    store.close()


def test_an_index_with_a_filter_and_a_language(redis_server):
    client = client_of(redis_server)
    client.execute_command(
        "FT.CREATE", "partly", "PREFIX", 1, "partly:", "FILTER", "@year > 3", "LANGUAGE", "german", "SCHEMA",
        "text", "TEXT", "SORTABLE", "year", "NUMERIC", "place", "GEO", "shown", "NUMERIC", "SORTABLE", "NOINDEX",
        "v", "VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", DIMENSIONS, "DISTANCE_METRIC", "COSINE",
    )  # fmt: skip
    row = rows_of(1)[0].astype(np.float32)
    for name, year in (("in", 5), ("out", 1)):
        client.hset(f"partly:{name}", mapping={"text": GERMAN, "year": year, "shown": 1, "v": row.tobytes()})
    store = open_store(f"{redis_server.url}/partly", FOREIGN)
    assert ids_of(store.passages()) == ids(store.search_text("in Häusern", 5)) == ["in"]
    assert (store.spec.language, store.spec.fields) == ("de", {"year": "numeric"})
    store.close()


def test_a_schema_that_redisvl_does_not_know(redis_server):
    place = parse_location(f"{redis_server.url}/strange")
    info = {"index_name": "strange", "index_definition": ["key_type", "HASH", "prefixes", [""]]}
    with pytest.raises(StoreError, match=r"RedisVL cannot read the schema of the index at .*strange: 'attributes'"):
        read_foreign_schema(info, place)
    untold = ["identifier", "v", "attribute", "v", "type", "VECTOR"]
    with pytest.raises(StoreError, match="does not tell what its vectors are"):
        read_foreign_schema({**info, "attributes": [untold]}, place)


def test_documents_in_json(json_server):
    rows = rows_of(6)
    data = [
        {"content": f"{TOPICS[i % 3]} «{i}»", "kind": ["Router", "Wifi"], "year": 2000 + i, "embedding": row.tolist(),
         "more": {"note": f"note {i}"}}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    fields = [FIELDS[0], {"name": "kind", "type": "tag", "path": "$.kind[*]"}, FIELDS[2], vector_field()]
    location = load(json_server, "in-json", fields, data, storage="json")
    client_of(json_server).execute_command("JSON.DEL", "in-json:5", "$.embedding")
    before = content_of(json_server)
    store = open_store(location, FOREIGN)
    (found,) = store.search_vector(rows[4].astype(np.float32), 1, [Condition("kind", "=", ("wifi",))])
    assert found.passage == Passage("4", f"{TOPICS[1]} «4»", metadata={"kind": "Router,Wifi", "year": "2004"})
    assert ids(store.search_text("invoice", 5)) == ["1", "4"]
    assert ids_of(store.passages()) == ["0", "1", "2", "3", "4"]
    np.testing.assert_allclose(store.vectors(["2", "0"]), rows[[2, 0]], atol=1e-6)
    with pytest.raises(StoreError, match="passage '5'"):
        store.vectors(["5"])
    store.close()
    nested = open_store(f"{location}?text=more.note&title=content", FOREIGN)
    first = next(nested.passages())
    assert (first.title, first.text) == ("refunds are paid «0»", "note 0")
    nested.close()
    only_text = load(json_server, "only-text", [FIELDS[0], vector_field()], data, storage="json")
    bare = open_store(only_text, FOREIGN)
    assert next(bare.passages()) == Passage("0", "refunds are paid «0»")
    bare.close()
    client_of(json_server).ft("only-text").dropindex(delete_documents=True)
    assert content_of(json_server) == before
