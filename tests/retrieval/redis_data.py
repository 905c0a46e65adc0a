"""What the tests of Redis write into an index; loaded as module `redis_data`."""

import numpy as np

from crosstune.types import IndexSpec, Passage

DIMENSIONS = 8


def spec(**changes):
    values = {
        "embedder": "tiny", "embedder_source": "embedded", "dimensions": DIMENSIONS, "language": "en",
        "chunk_tokens": 64, "overlap_tokens": 8, "fields": {"product": "tag"},
    }  # fmt: skip
    return IndexSpec(**(values | changes))


def unit_rows(n, seed=0, dimensions=DIMENSIONS):
    rows = np.random.default_rng(seed).normal(size=(n, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def put(store, start, stop):
    passages = [Passage(f"p{i}", f"refund number{i}", metadata={"product": f"x{i % 3}"}) for i in range(start, stop)]
    store.put(passages, unit_rows(stop)[start:], [f"d{i}" for i in range(start, stop)])


def client_of(url, **options):
    import redis

    return redis.Redis.from_url(url, decode_responses=True, protocol=2, **options)
