"""The article's recipe from a CSV to the verdict, on a tiny model: what it says and the files it leaves."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.data import SplitSettings
from crosstune.data.nli import NLIPair, build_nli_pairs
from crosstune.errors import ConfigError
from crosstune.recipes import blog, choose, prepare
from crosstune.recipes.blog import BLOG_BASE, example_pairs, train_qa_dict, tune_blog
from crosstune.recipes.finished import FinishedRun
from crosstune.recipes.settings import TuneSettings
from crosstune.training import Throughput
from crosstune.types import Collection, Passage, Query, Splits, Verdict

# Of the words that the tokenizer of the tiny models knows.
TEXT = (
    "reset your password with the link that we mail to you download invoice of every month in billing page a "
    "refund is paid card after thirty days export report as table menu on top plan basic team phone for "
    "guests how do lost where this an when my"
)
WORDS = TEXT.split()
N_ROWS = 60


def write_csv(path: Path) -> Path:
    """60 rows: an answer repeats three words of its question among others."""
    choose = random.Random(5)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Question", "Answer"])
        for _ in range(N_ROWS):
            question = choose.sample(WORDS, 5)
            rest = [word for word in WORDS if word not in question]
            writer.writerow([" ".join(question) + "?", " ".join(question[:3] + choose.sample(rest, 6)) + "."])
    return path


ARTICLES_RATE = blog._LEARNING_RATE


def _in_fp32(checkpoint, precision):
    """An embedder that measures nothing."""
    return SentenceTransformerEmbedder(checkpoint, precision="fp32")


@pytest.fixture(scope="module", autouse=True)
def steady() -> Iterator[None]:
    """Large steps, so that a tiny model moves at all; no timing, which makes one run differ from another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blog, "_LEARNING_RATE", 3e-3)
        embedder = _in_fp32
        patch.setattr(prepare, "SentenceTransformerEmbedder", embedder)
        patch.setattr(blog, "measure_scoring", lambda *args: ("fp32", 1e4))
        patch.setattr(blog, "measure_training", lambda *args: [Throughput("fp32", "sdpa", 1e4, 0.0)])
        yield


@pytest.fixture(scope="module")
def settings(bert: Path, bare_bert: Path) -> TuneSettings:
    split = SplitSettings(dev=0.2, test=0.2)
    return TuneSettings(base=str(bert), embedder=str(bare_bert), depth=10, split=split)


@contextmanager
def shipped_whatever_it_learnt() -> Iterator[None]:
    """Two random layers learn nothing in 40 steps and are rightly refused; this shows what would be saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "check_losses", lambda losses, chance: ())
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, settings: TuneSettings) -> SimpleNamespace:
    """An uninterrupted run: report, folder, and what was said."""
    folder = tmp_path_factory.mktemp("blog")
    said: list[str] = []
    with shipped_whatever_it_learnt():
        report = tune_blog(write_csv(folder / "qa.csv"), folder / "run", settings, say=said.append)
    return SimpleNamespace(report=report, folder=folder / "run", file=folder / "qa.csv", said=said)


def errors_said(said: list[str]) -> list[tuple[int, float]]:
    pattern = re.compile(r"Epoch (\d) of 8: MSE on the training pairs (\d\.\d{4})$")
    return [(int(match[1]), float(match[2])) for line in said if (match := pattern.match(line))]


def saved_pairs(done: SimpleNamespace) -> list[NLIPair]:
    """The training pairs, rebuilt from the CSV and the split that the run has written."""
    splits = json.loads((done.folder / "splits.json").read_text())
    with done.file.open(newline="") as file:
        answers = {row["Question"]: row["Answer"] for row in csv.DictReader(file)}
    questions = [splits["questions"][query_id] for query_id in splits["train"]]
    return build_nli_pairs({str(i): {"q": q, "a": answers[q]} for i, q in enumerate(questions)}, seed=0)


def test_the_error_is_said_after_each_epoch(done: SimpleNamespace) -> None:
    errors = errors_said(done.said)
    assert [epoch for epoch, _ in errors] == list(range(1, 9))
    assert errors[-1][1] < errors[0][1]


def test_the_last_error_is_what_sentence_transformers_finds(done: SimpleNamespace) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra train")
    from crosstune.training.mse import MSEEvaluator

    model = sentence_transformers.CrossEncoder(str(done.folder / "model"), device="cpu")
    error = MSEEvaluator(saved_pairs(done))(model)
    assert errors_said(done.said)[-1][1] == pytest.approx(error, abs=1e-4)


def test_the_three_predictions_are_what_sentence_transformers_finds(done: SimpleNamespace) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra train")
    import torch

    said = [line for line in done.said if line.startswith("Predicted ")]
    assert [line.split()[3] for line in said] == ["entailment:", "contradiction:", "contradiction:"]
    pairs = saved_pairs(done)
    first, other = pairs[0], pairs[1]
    assert f"for entailment: {first.query} / {first.passage}" in said[0]
    assert f"for contradiction: {first.query} / {other.passage}" in said[1]
    model = sentence_transformers.CrossEncoder(str(done.folder / "model"), device="cpu")
    texts = [(first.query, line.rsplit(" / ", 1)[1]) for line in said]
    expected = model.predict(texts, activation_fn=torch.nn.Sigmoid())
    assert [float(line.split()[1]) for line in said] == pytest.approx(expected.tolist(), abs=2e-5)


def test_hyper_parameters(done: SimpleNamespace) -> None:
    manifest = json.loads((done.folder / "manifest.json").read_text())
    # 60 rows, of which 12 are dev and 12 test: 36 rows make 72 pairs, 5 batches of up to 16, 40 steps.
    assert done.report.report["split"] == {"train": 36, "dev": 12, "test": 12, "seed": 0}
    training = done.report.report["settings"]["training"]
    assert (training["n_steps"], training["batch_groups"], training["n_evaluations"]) == (40, 16, 8)
    assert (training["warmup_share"], training["deadline_s"]) == (0.1, None)
    assert (training["loss"], training["weight_decay"], training["keep"]) == ("bce", 0.01, "last")
    assert manifest["recipe"] == "blog"
    assert manifest["settings"]["loss"] == "bce"


def test_the_articles_learning_rate_and_base() -> None:
    assert (ARTICLES_RATE, BLOG_BASE) == (2e-5, "BAAI/bge-reranker-base")


def test_files_and_verdict(done: SimpleNamespace) -> None:
    for name in (
        "manifest.json",
        "report.json",
        "report.html",
        "splits.json",
        "qrels.trec",
        "model/config.json",
    ):
        assert (done.folder / name).is_file(), name
    assert {path.name for path in (done.folder / "runs").iterdir()} >= {
        "base.trec",
        "tuned-reranker.trec",
        "shipped.trec",
    }
    assert not (done.folder / "training").exists()
    report: FinishedRun = done.report
    assert report.verdict in Verdict
    written = json.loads((done.folder / "manifest.json").read_text())
    assert (written["status"], written["verdict"]) == ("complete", report.verdict.value)
    rows = {row.name: row.measures["nDCG@10"] for row in report.evaluation.table}
    assert {"bm25", "base", "tuned reranker", "shipped", "ceiling"} <= set(rows)
    assert all(estimate.n == 12 for estimate in rows.values())


def test_faults_and_differences_are_noted(done: SimpleNamespace) -> None:
    notes = "\n".join(done.report.report["notes"])
    said = ", ".join(f"{error:.4f}" for _, error in errors_said(done.said))
    assert f"MSE on the training pairs after each epoch: {said}." in notes
    for word in ("only the train questions", "equal to its own", "dropout is 0", "similar length", "seeded"):
        assert word in notes
    assert "not trained on" not in notes
    assert "judged wrong" not in notes
    assert "also answer dev or test" not in notes


@pytest.mark.parametrize(
    ("killed_at", "epochs_before", "epochs_after"),
    [
        # The checkpoint of epoch 4 is written after its error is said: epoch 4 is trained again.
        ("Epoch 4", [1, 2, 3, 4], [4, 5, 6, 7, 8]),
        ("On dev", [1, 2, 3, 4, 5, 6, 7, 8], []),
    ],
)
def test_a_killed_run_ends_like_one_that_was_not(
    done: SimpleNamespace,
    settings: TuneSettings,
    tmp_path: Path,
    killed_at: str,
    epochs_before: list[int],
    epochs_after: list[int],
) -> None:
    class Killed(BaseException):
        pass

    def die(sentence: str) -> None:
        said.append(sentence)
        if sentence.startswith(killed_at):
            raise Killed

    said: list[str] = []
    again: list[str] = []
    with shipped_whatever_it_learnt():
        with pytest.raises(Killed):
            tune_blog(done.file, tmp_path / "run", settings, say=die)
        report = tune_blog(done.file, tmp_path / "run", settings, say=again.append)
    assert [epoch for epoch, _ in errors_said(said)] == epochs_before
    assert [epoch for epoch, _ in errors_said(again)] == epochs_after
    assert dict(errors_said(said + again)) == dict(errors_said(done.said))
    assert report.evaluation == done.report.evaluation
    assert report.report["notes"] == done.report.report["notes"]


def test_a_complete_run_is_read_and_not_run_again(done: SimpleNamespace, settings: TuneSettings) -> None:
    said: list[str] = []
    assert tune_blog(done.file, done.folder, settings, say=said.append) == done.report
    assert errors_said(said) == []
    assert "--overwrite" in said[-1]


def test_another_recipes_folder_is_refused(done: SimpleNamespace, settings: TuneSettings, tmp_path: Path) -> None:
    tmp_path.joinpath("manifest.json").write_text(
        json.dumps(json.loads((done.folder / "manifest.json").read_text()) | {"recipe": "default"})
    )
    with pytest.raises(ConfigError, match="different recipe"):
        tune_blog(done.file, tmp_path, settings)


@pytest.mark.parametrize("fixed", [{"budget_s": 60.0}, {"pos_weight": 2.0}])
def test_what_the_recipe_fixes_cannot_be_set(tmp_path: Path, fixed: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="recipe is fixed"):
        tune_blog(tmp_path / "absent.csv", tmp_path / "run", TuneSettings(**fixed))
    assert not (tmp_path / "run").exists()


def stand_in(qrels: dict[str, dict[str, int]], train: list[str], test: list[str]) -> SimpleNamespace:
    passages = {pid: Passage(pid, f"text {pid}") for judged in qrels.values() for pid in judged}
    queries = {query_id: Query(query_id, f"query {query_id}") for query_id in qrels}
    splits = Splits(tuple(train), (), tuple(test), {query_id: query_id for query_id in qrels}, seed=None)
    return SimpleNamespace(collection=Collection(passages, queries, qrels, "fingerprint"), splits=splits)


def test_the_qa_dict_has_every_right_answer_of_the_train_questions() -> None:
    data = stand_in({"q1": {"p3": 1, "p1": 2, "p9": 0}, "q2": {"p2": 1}, "q3": {"p1": 1}}, ["q1", "q3"], ["q2"])
    assert train_qa_dict(data) == {
        "0": {"q": "query q1", "a": "text p3"},
        "1": {"q": "query q1", "a": "text p1"},
        "2": {"q": "query q3", "a": "text p1"},
    }


def test_what_is_left_out_is_noted() -> None:
    data = stand_in({"q1": {"p1": 1, "p2": 0}, "q2": {"p3": 0}, "q3": {"p1": 1}}, ["q1", "q2"], ["q3"])
    notes = blog._left_out(data)
    assert [note.split(" ")[0] for note in notes] == ["1", "2", "1"]
    assert "have no relevant answer" in notes[0]
    assert "judged wrong" in notes[1]
    assert "also answer dev or test" in notes[2]


def test_example_pairs_leave_out_the_questions_other_answers() -> None:
    pairs = [
        NLIPair("q", "right", 1, "0"),
        NLIPair("q", "also right", 0, "0"),  # the article's draw does not know it
        NLIPair("q", "also right", 1, "1"),
        NLIPair("q", "wrong", 0, "1"),
        NLIPair("other", "o", 1, "2"),
        NLIPair("other", "wrong", 0, "2"),
        NLIPair("last", "l", 1, "3"),
        NLIPair("last", "o", 0, "3"),
    ]
    shown = [(pair.query, pair.passage, pair.label) for pair in example_pairs(pairs)]
    assert shown == [("q", "right", 1), ("q", "wrong", 0), ("q", "o", 0)]


def test_a_fresh_head_that_learnt_nothing_is_said_and_not_shipped(
    bare_bert: Path, settings: TuneSettings, done: SimpleNamespace, tmp_path: Path
) -> None:
    said: list[str] = []
    report = tune_blog(done.file, tmp_path / "run", replace(settings, base=str(bare_bert)), say=said.append)
    assert any("is a bare encoder: a new ranking head is added" in line for line in said)
    findings = {finding["code"]: finding for finding in report.report["health"]}
    # Balanced pairs: guessing costs ln 2.
    assert "0.693, the value of guessing" in findings["loss-at-chance"]["message"]
    assert "fresh-head" in findings
    assert "cross_encoder" not in report.report["fusion"]["weights"]
    assert report.model is None
    assert not (tmp_path / "run/model").exists()
    assert "base" not in {row.name for row in report.evaluation.table}
