"""Schemas in files: written, edited, refused."""

import pytest
from store_data import DIMENSIONS, client_of, put, spec, unit_rows

from crosstune.errors import StoreError
from crosstune.retrieval.stores import open_store, start_version
from crosstune.types import Condition, Passage


def test_a_schema_is_written_edited_and_used(redis_server, tmp_path):
    import yaml

    location, path = f"{redis_server.url}/schema", tmp_path / "schema.yaml"
    store = start_version(location, spec(), schema=path)
    put(store, 0, 3)
    store.publish()
    content = yaml.safe_load(path.read_text())
    vector = content["fields"][-1]
    assert (vector["name"], vector["attrs"]["dims"], vector["attrs"]["m"]) == ("vector", DIMENSIONS, 16)
    # With the usual schema in the file it is the same version, with an edited one it is another.
    assert start_version(location, spec(), schema=path).count() == 3
    vector["attrs"]["m"] = 32
    content["fields"].insert(0, {"name": "shelf", "type": "tag"})
    path.write_text(yaml.safe_dump(content))
    edited = start_version(location, spec(), schema=path)
    assert edited.count() == 0
    edited.put([Passage("p", "refund", metadata={"shelf": "b7", "product": "x"})], unit_rows(1), ["d"])
    edited.publish()
    client = client_of(redis_server.url)
    attributes = {one[1]: one for one in client.ft("schema").info()["attributes"]}
    assert attributes["vector"][attributes["vector"].index("M") + 1] == 32
    assert client.ft("schema").search("@shelf:{b7}").total == 1
    assert len(edited.search_vector(unit_rows(1)[0], 5, [Condition("product", "=", ("x",))])) == 1
    # Without the file the published schema stays.
    assert start_version(location, spec()).count() == 1


def test_a_flat_index(redis_server, tmp_path):
    import yaml

    path = tmp_path / "schema.yaml"
    start_version(f"{redis_server.url}/flat", spec(), schema=path).close()
    content = yaml.safe_load(path.read_text())
    content["fields"][-1]["attrs"] = {
        "algorithm": "flat", "dims": DIMENSIONS, "distance_metric": "cosine", "datatype": "float32",
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    store = start_version(f"{redis_server.url}/flat", spec(), schema=path)
    put(store, 0, 20)
    assert store.search_vector(unit_rows(20)[3], 1)[0].passage.passage_id == "p3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["fields"][-1]["attrs"].update(dims=9), "'dims': 8.* found .*'dims': 9"),
        (lambda c: c["fields"][-1]["attrs"].update(datatype="float64"), "found .*float64"),
        (lambda c: c["fields"][-1]["attrs"].update(distance_metric="l2"), "found .*l2"),
        (lambda c: c["fields"].pop(), "a field vector of type vector, found none"),
        (lambda c: c["fields"][0].update(type="tag"), "a field text of type text, found of type tag"),
        (lambda c: c["fields"][2].pop("attrs"), "no_stem: true"),
        (lambda c: c["index"].update(storage_type="json"), "storage_type hash, found json"),
        (lambda c: c["fields"].pop(7), "product of type tag, found none"),
        (lambda c: c["fields"][0].update(type="colour"), "no RedisVL schema"),
        (lambda c: c.clear(), "no RedisVL schema"),
    ],
)  # fmt: skip
def test_schemas_that_do_not_fit(redis_server, tmp_path, change, message):
    import yaml

    path = tmp_path / "schema.yaml"
    start_version(f"{redis_server.url}/unfit", spec(), schema=path).close()
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(StoreError, match=f"schema.yaml.*{message}"):
        start_version(f"{redis_server.url}/unfit", spec(), schema=path)


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "not YAML"), ("text", "no RedisVL schema"), ("", "no RedisVL schema")]
)
def test_files_that_are_no_schema(redis_server, tmp_path, content, message):
    path = tmp_path / "schema.yaml"
    path.write_text(content)
    with pytest.raises(StoreError, match=f"schema.yaml.*{message}"):
        start_version(f"{redis_server.url}/unfit", spec(), schema=path)


def test_metadata_that_redis_cannot_index_is_not_published(redis_server, tmp_path):
    import yaml

    path = tmp_path / "schema.yaml"
    start_version(f"{redis_server.url}/geo", spec(), schema=path).close()
    content = yaml.safe_load(path.read_text())
    content["fields"].insert(0, {"name": "place", "type": "geo"})
    path.write_text(yaml.safe_dump(content))
    store = start_version(f"{redis_server.url}/geo", spec(), schema=path)
    store.put([Passage("p", "refund", metadata={"place": "nowhere"})], unit_rows(1), ["d"])
    with pytest.raises(StoreError, match="could not index 1 passages"):
        store.publish()
    with pytest.raises(StoreError, match="no index"):
        open_store(f"{redis_server.url}/geo")
