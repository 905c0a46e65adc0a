"""The example of search over documents: its handbook holds every answer, and it runs as a newcomer runs it."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crosstune.checkpoints import load_tokenizer
from crosstune.data import load, map_answers
from crosstune.documents import ChunkSettings, FastTokenizer, chunk, read_documents
from crosstune.language import language_of
from crosstune.retrieval.stores import embedded_redis
from crosstune.retrieval.stores.embedded import free_port

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "rag" / "run.py"
HANDBOOK = ROOT / "examples" / "rag" / "handbook"
QUESTIONS = ROOT / "examples" / "helpdesk.csv"
HOW_FOUND = {"exact": 129, "contained": 41, "similar": 0, "spread": 0, "unmapped": 0}
N_PASSAGES = 158


def test_every_answer_stands_in_one_passage_of_the_handbook():
    tokenizer = FastTokenizer(load_tokenizer("embedded"))
    passages = {
        passage.passage_id: passage
        for document in read_documents(HANDBOOK)
        for passage in chunk(document, tokenizer, ChunkSettings())
    }
    answers = load(QUESTIONS).collection.passages
    mapped = map_answers(answers, passages, language_of("en"))
    assert len(passages) == N_PASSAGES
    assert len(answers) == 170 == sum(HOW_FOUND.values())
    assert mapped.counts() == HOW_FOUND
    assert {len(passage_ids) for passage_ids in mapped.passage_ids.values()} == {1}


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("rag_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_unseen_questions_are_those_of_the_test_split_in_file_order(script, tmp_path):
    splits = {"train": ["b"], "dev": [], "test": ["d", "a"], "questions": {"a": "A?", "b": "B?", "d": "D?"}}
    (tmp_path / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    (tmp_path / "qrels.trec").write_text("d 0 p1 1\na 0 p2 1\na 0 p3 2\na 0 p4 0\n", encoding="utf-8")
    assert script.unseen_questions(tmp_path) == [("A?", {"p2", "p3"}), ("D?", {"p1"})]


def test_the_rank_is_that_of_the_first_right_passage(script):
    assert script.right_rank(["p1", "p2", "p3"], {"p3", "p2"}) == 2
    assert script.right_rank(["p1", "p2"], {"p3"}) is None


def test_a_port_in_use_is_told_without_a_traceback(tmp_path):
    with embedded_redis() as other:
        result = finished(start(tmp_path, other.port, "60s"), timeout_s=120)
    assert result.returncode == 1
    assert "Error: the Redis server did not start" in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.slow
@pytest.mark.ci
def test_ctrl_c_ends_redis_too(tmp_path):
    port = free_port()
    process = start(tmp_path, port, "5m")
    wait_for(lambda: (tmp_path / "tuned" / "manifest.json").is_file(), process)
    assert listens(port)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the script, its command and Redis
    result = finished(process, timeout_s=180)
    assert result.returncode == 1
    assert "The same command continues" in result.stdout
    assert "Traceback" not in result.stdout
    assert not listens(port)


@pytest.mark.slow
def test_all_steps_run_and_a_second_run_reads_the_tuning(tmp_path):
    port = free_port()
    first = finished(start(tmp_path, port, "60s"), timeout_s=1500)
    assert first.returncode == 0, first.stdout
    assert not listens(port)
    report_file = tmp_path / "tuned" / "report.json"
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert "Answers found among the passages of the index: 129 exact, 41 contained." in report["notes"]
    assert not (tmp_path / "tuned" / "unmapped.csv").exists()
    tuned_first_stage = (tmp_path / "tuned" / "model" / "bi-encoder").is_dir()
    assert first.stdout.count(f"holds {N_PASSAGES} passages of 14 documents") == (2 if tuned_first_stage else 1)
    assert len(ranks(first.stdout)) == 3

    written = report_file.stat().st_mtime_ns
    second = finished(start(tmp_path, port, "60s"), timeout_s=600)
    assert second.returncode == 0, second.stdout
    assert "holds this run, complete" in second.stdout
    assert report_file.stat().st_mtime_ns == written
    assert ranks(second.stdout) == ranks(first.stdout)
    assert not listens(port)


def start(out, port, budget):
    """The script in a process group of its own, so that nothing it starts can outlive the test."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--out", str(out), "--port", str(port), "--budget", budget],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "CROSSTUNE_"))},
    )  # fmt: skip


def finished(process, timeout_s):
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"not done within {timeout_s} s; it said: {process.communicate()[0]}")
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def wait_for(happened, process, timeout_s=600):
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"nothing within {timeout_s} s; it said: {process.communicate()[0]}")
        time.sleep(0.05)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ranks(output):
    """Lines of the table of ranks: before, after, question."""
    lines = output.split("Rank of the right passage\n")[1].splitlines()
    return [line.split(maxsplit=2) for line in lines[1:4]]
