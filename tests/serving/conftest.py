"""A tiny model behind a real server on this machine, and models that can be held or made to fail."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from crosstune.bundle import ModelBundle, load_bundle, save_bundle
from crosstune.scoring import Reranker
from crosstune.serving import Metrics, ServingSettings, Worker, create_app, listen, url_of
from crosstune.serving.server import server_of
from crosstune.types import Calibration, Fusion, Part, ScoreKind

OF_LOGIT = Calibration(2.0, -1.0, 0.25, 0, 0, 1)
OF_SCORE = Calibration(4.0, 0.5, 0.7, 0, 0, 1)
FUSION = Fusion("bm25", {Part.CROSS_ENCODER: 0.7, Part.FIRST_STAGE: 2.0}, "und", OF_SCORE)


class Held(Reranker):
    """A model whose rankings can be made to wait, to fail, or to come out as given."""

    def __init__(self, folder):
        super().__init__(load_bundle(folder))
        self.entered, self.release = threading.Event(), threading.Event()
        self.broken = False
        self.seen = []

    def rank(self, query, passages, first_stage_scores=None, deadline_ms=None):
        self.seen.append(query)
        if query == "wait":
            self.entered.set()
            assert self.release.wait(20)
        if self.broken or query == "fail":
            raise RuntimeError(f"cannot rank {query}")
        return super().rank(query, passages, first_stage_scores, deadline_ms)

    def give(self, monkeypatch, *logits):
        """Make the model give these logits."""
        monkeypatch.setattr(self.scorer, "score_pairs", lambda pairs, progress=None: np.array(logits[: len(pairs)]))


@pytest.fixture(scope="session")
def model(load, bert, tmp_path_factory):
    """Folder of a model that was judged with its first stage's scores."""
    path = tmp_path_factory.mktemp("served") / "model"
    loaded = load(bert)
    bundle = ModelBundle(path, 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", OF_LOGIT, FUSION)
    save_bundle(bundle, (loaded.model, loaded.tokenizer))
    return path


@contextmanager
def serving(load, settings=None, wait=True):
    """A server in a thread: its worker, its metrics, and a client of it. It ends with the block."""
    settings, metrics = settings or ServingSettings(), Metrics()
    worker = Worker(load, metrics, settings.max_waiting)
    app = create_app(worker, metrics, settings, "tiny")
    server, listener = server_of(app), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    with httpx.Client(base_url=url_of(listener), timeout=30) as client:
        found = SimpleNamespace(url=url_of(listener), worker=worker, client=client, app=app)
        try:
            client.get("/health")
            if wait:
                until(lambda: client.get("/ready").status_code == 200)
            yield found
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def until(condition, timeout_s=20):
    """Wait for something that happens in another thread."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen in time")


@pytest.fixture(scope="session")
def start():
    """`serving`, for tests: this file is no module that they could import."""
    return serving


@pytest.fixture(scope="session")
def wait_until():
    """`until`, for tests."""
    return until


@pytest.fixture
def held(model):
    """A model under control."""
    return Held(model)


@pytest.fixture
def held_server(held):
    """Its server: two requests may wait, 20 documents and 20,000 bytes are taken."""
    with serving(lambda: held, ServingSettings(max_documents=20, max_body_bytes=20_000, max_waiting=2)) as found:
        yield found
        held.release.set()


@pytest.fixture(scope="module")
def server(model):
    """A server of the model as it is."""
    with serving(lambda: Reranker.load(model)) as found:
        yield found
