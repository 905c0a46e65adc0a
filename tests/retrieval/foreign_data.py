"""Indexes as other programs make them with RedisVL; loaded as module `foreign_data`."""

import hashlib
import time

import numpy as np

from crosstune.retrieval.stores import ForeignSpec

DIMENSIONS, N = 8, 60
FOREIGN = ForeignSpec("identity", "their/model", DIMENSIONS)
KINDS = ("Router", "Modem,Wifi", "phone")
TOPICS = ("refunds are paid", "the invoice is sent", "reset your password")
GERMAN = "Das alte Haus steht seit vielen Jahren leer, und niemand will es kaufen oder darin wohnen."


def rows_of(n=N, *, unit=True, seed=0):
    """(n, DIMENSIONS) of length 1, or of lengths from 0.5 to 2."""
    source = np.random.default_rng(seed)
    rows = source.normal(size=(n, DIMENSIONS))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows if unit else rows * source.uniform(0.5, 2, size=(n, 1))


def vector_field(name="embedding", **attributes):
    usual = {"algorithm": "hnsw", "dims": DIMENSIONS, "distance_metric": "cosine", "datatype": "float32"}
    return {"name": name, "type": "vector", "attrs": usual | attributes}


FIELDS = ({"name": "content", "type": "text"}, {"name": "kind", "type": "tag"}, {"name": "year", "type": "numeric"})


def documents(rows, datatype="float32"):
    return [
        {
            "content": f"{TOPICS[i % 3]} number{i}",
            "kind": KINDS[i % 3],
            "year": 2000 + i,
            "embedding": row.astype(datatype).tobytes(),
            "extra": "not in the index",
        }
        for i, row in enumerate(rows)
    ]


def load(server, name, fields, data, *, prefix=None, storage="hash", keys=None):
    """Makes an index as a user of RedisVL does; returns its location."""
    from redisvl.index import SearchIndex

    index = {"name": name, "prefix": prefix or name.replace(":", "_"), "storage_type": storage}
    made = SearchIndex.from_dict({"index": index, "fields": list(fields)}, redis_url=server.url)
    made.create(overwrite=True, drop=True)
    while int(made.info()["indexing"]):  # what is written while Redis looks through its keys is indexed twice
        time.sleep(0.01)
    first = index["prefix"] if isinstance(index["prefix"], str) else index["prefix"][0]
    made.load(data, keys=keys or [f"{first}:{i}" for i in range(len(data))])
    return f"{server.url}/{name}"


def client_of(server, **options):
    import redis

    return redis.Redis.from_url(server.url, protocol=2, **options)


def content_of(server):
    """A digest of every key and all it holds."""
    client = client_of(server)
    keys = sorted(client.keys("*"))
    return len(keys), hashlib.sha256(b"".join(key + (client.dump(key) or b"") for key in keys)).hexdigest()


def ids(found):
    return [one.passage.passage_id for one in found]


def ids_of(passages):
    return [passage.passage_id for passage in passages]
