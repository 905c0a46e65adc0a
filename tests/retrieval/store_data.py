"""What the tests of stores write into an index, and a writer that is killed; loaded as module `store_data`."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from crosstune.types import IndexSpec, Passage

DIMENSIONS = 8

_WRITER = """
import sys
sys.path[:0] = [sys.argv[1]]
from {module} import put, spec
from crosstune.retrieval.stores import start_version
store = start_version(sys.argv[2], spec())
for start in range(0, 100_000, 50):
    put(store, start, start + 50)
    print(start + 50, flush=True)
"""


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


def killed_writer(module, location):
    """Passages that a process had written, 50 a call, by a test module's `put` and `spec`, when it was killed."""
    command = [sys.executable, "-c", _WRITER.format(module=module), str(Path(__file__).parent), str(location)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(3):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
    return acknowledged
