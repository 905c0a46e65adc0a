"""`crosstune serve` as a process: start, signals, errors."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from typer.testing import CliRunner

from crosstune.bundle import ModelBundle, save_bundle
from crosstune.cli.main import app
from crosstune.errors import BundleError, ConfigError
from crosstune.types import Calibration, ScoreKind

BODY = {"query": "reset the password", "documents": ["reset your password", "a refund is paid"]}


@pytest.fixture(scope="module")
def run(load, bert, tmp_path_factory):
    """A run folder of the name "mine"."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    scale, loaded = Calibration(1.0, 0.0, 0.5, 0, 0, 1), load(bert)
    bundle = ModelBundle(folder / "model", 64, ScoreKind.LOGIT, "base", "r", "f", "fp32", scale, None)
    save_bundle(bundle, (loaded.model, loaded.tokenizer))
    return folder


@contextmanager
def process(run, *options, command=("-m", "crosstune"), **environment):
    """The command, listening at `url`."""
    found = subprocess.Popen(
        [sys.executable, *command, "serve", str(run), "--port", "0", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    try:
        found.url = json.loads(found.stdout.readline())["url"]
        yield found
    finally:
        found.kill()
        found.wait()


def ready(url):
    until(lambda: httpx.get(f"{url}/ready").status_code == 200)


def until(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in 60 s")


def test_it_serves_and_ends_by_ctrl_c(run, tmp_path):
    cache = tmp_path / "scores.db"
    with process(run, "--cache", str(cache), CROSSTUNE_API_KEY="secret") as found:
        ready(found.url)
        assert httpx.post(f"{found.url}/v1/rerank", json=BODY).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        answer = httpx.post(f"{found.url}/v1/rerank", json=BODY, headers=headers).json()
        assert (answer["model"], len(answer["results"])) == ("mine", 2)
        found.send_signal(signal.SIGINT)
        _, errors = found.communicate(timeout=20)
    assert found.returncode == 0
    assert f"Listening on {found.url}; ready when {found.url}/ready answers 200" in errors
    assert f'curl {found.url}/v1/rerank -H "Authorization: Bearer $CROSSTUNE_API_KEY" -d ' in errors
    assert "/v1/rerank 200" in errors
    assert cache.is_file()
    assert "secret" not in errors
    assert "password" not in errors.replace("curl", "")


# The command, with rankings of "hold" that say when they have begun and wait until they may go on.
HOLDING = """
import pathlib, sys, time
from crosstune.cli.main import main
from crosstune.scoring import Reranker
folder, rank = pathlib.Path(sys.argv.pop()), Reranker.rank
def held(self, query, *others):
    if query == "hold":
        (folder / "begun").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
    return rank(self, query, *others)
Reranker.rank = held
main()
"""


def test_sigterm_finishes_what_was_taken_and_refuses_what_is_new(run, tmp_path):
    with process(run, str(tmp_path), command=("-c", HOLDING)) as found, ThreadPoolExecutor(2) as threads:
        ready(found.url)
        running = threads.submit(httpx.post, f"{found.url}/v1/rerank", json=BODY | {"query": "hold"}, timeout=60)
        until((tmp_path / "begun").exists)
        waiting = threads.submit(httpx.post, f"{found.url}/v2/rerank", json=BODY, timeout=60)
        until(lambda: "crosstune_queue_depth 1" in httpx.get(f"{found.url}/metrics").text)
        found.send_signal(signal.SIGTERM)
        until(lambda: _is_refused(found.url))
        assert not running.done()
        assert not waiting.done()
        (tmp_path / "go").touch()
        for answer in (running.result(30), waiting.result(30)):
            assert (answer.status_code, len(answer.json()["results"])) == (200, 2)
        assert found.wait(20) == 0


def _is_refused(url):
    try:
        httpx.get(f"{url}/health", timeout=5)
    except httpx.ConnectError:
        return True
    return False


def test_a_model_that_cannot_be_loaded_ends_it(run, tmp_path):
    with process(run, "--runtime", "onnx") as found:
        _, errors = found.communicate(timeout=30)
    assert found.returncode == 2
    assert "Error:" in errors
    assert "onnx" in errors
    assert "Traceback" not in errors


def invoke(*arguments):
    return CliRunner().invoke(app, ["serve", *map(str, arguments)])


def test_a_port_in_use(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "crosstune", "serve", str(run), "--port", str(port)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert f"port {port} of 127.0.0.1 is in use; stop what uses it, or give another --port" in found.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "192.0.2.1"], "cannot listen on port 8000 of 192.0.2.1"),
        (["--host", "no such host"], "cannot listen"),
        (["--port", "70000"], "correct --host or --port"),
        (["--max-documents", "0"], "max_documents must be above 0"),
        (["--deadline-ms", "0"], "deadline_ms must be above 0"),
        (["--api-key", ""], "the API key is empty"),
        (["--precision", "fp8"], "--precision must be"),
    ],
)
def test_options_that_cannot_be(run, options, says):
    result = invoke(run, *options)
    assert isinstance(result.exception, ConfigError)
    assert says in str(result.exception)


def test_no_model_there(tmp_path):
    result = invoke(tmp_path)
    assert isinstance(result.exception, BundleError)
    assert "not a crosstune model folder" in str(result.exception)
