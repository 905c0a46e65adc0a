"""`crosstune index` into a real Redis, with the command and the server killed in the middle."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crosstune.retrieval.stores import embedded_redis, open_store

CROSSTUNE = [sys.executable, "-m", "crosstune"]
N_DOCUMENTS = 1500

pytestmark = [pytest.mark.slow, pytest.mark.ci]


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Different documents, enough for several batches."""
    path = tmp_path_factory.mktemp("docs") / "docs.jsonl"
    lines = [
        json.dumps({"id": f"d{n}", "text": f"Rule {n}: whoever asks for number {n * 7} gets it within {n % 90} days."})
        for n in range(N_DOCUMENTS)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def server(tmp_path: Path):
    """A server that keeps what it acknowledged on disk, so that a kill loses nothing."""
    with embedded_redis(data_dir=tmp_path / "redis") as running:
        yield running


def command(documents, server, *options):
    return [
        *CROSSTUNE,
        "index",
        str(documents),
        "--redis",
        server.url,
        "--name",
        "docs",
        "--json",
        "-q",
        *map(str, options),
    ]


def n_keys(server):
    import redis

    try:
        return redis.Redis.from_url(server.url, socket_connect_timeout=1).dbsize()
    except redis.RedisError:
        return 0


def start_and_wait(documents, server):
    """The command, after its first batch was written."""
    process = subprocess.Popen(command(documents, server), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while n_keys(server) < 100:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


def finish(documents, server, *options):
    """Run the command to its end; what it says, and the ids of all passages."""
    line = command(documents, server, *options)
    result = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    store = open_store(f"{server.url}/docs")
    found = [passage.origin.document_id for passage in store.passages()]
    store.close()
    return json.loads(result.stdout), found


def test_the_command_is_killed_and_continues(documents, server):
    process = start_and_wait(documents, server)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    done, found = finish(documents, server)
    assert 0 < done["n_embedded"] < N_DOCUMENTS  # what was written is not embedded again
    assert done["n_embedded"] + done["n_kept"] == N_DOCUMENTS
    assert sorted(found) == sorted(f"d{n}" for n in range(N_DOCUMENTS))  # nothing lost, nothing doubled


def test_the_server_is_killed_and_the_message_says_so(documents, server):
    process = start_and_wait(documents, server)
    server.kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in error
    assert f":{server.port}" in error
    server.start()
    done, found = finish(documents, server)
    assert done["n_embedded"] + done["n_kept"] == N_DOCUMENTS
    assert sorted(found) == sorted(f"d{n}" for n in range(N_DOCUMENTS))


def test_an_edited_schema_makes_a_new_version_with_the_old_vectors(documents, server, tmp_path):
    schema = tmp_path / "schema.yaml"
    first, _ = finish(documents, server, "--schema", schema)
    assert (first["n_embedded"], first["new_version"]) == (N_DOCUMENTS, True)
    same, _ = finish(documents, server, "--schema", schema)
    assert (same["n_embedded"], same["n_kept"], same["new_version"]) == (0, N_DOCUMENTS, False)
    text = schema.read_text(encoding="utf-8")
    assert "m: 16" in text
    schema.write_text(text.replace("m: 16", "m: 24"), encoding="utf-8")
    edited, found = finish(documents, server, "--schema", schema)
    assert (edited["n_embedded"], edited["n_updated"], edited["new_version"]) == (0, N_DOCUMENTS, True)
    assert sorted(found) == sorted(f"d{n}" for n in range(N_DOCUMENTS))
