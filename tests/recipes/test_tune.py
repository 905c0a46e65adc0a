"""The main job on a tiny model: every artefact, the order of decisions, failures, and continuation."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from crosstune.bi_encoder import CachedEmbedder, SentenceTransformerEmbedder
from crosstune.checkpoints import resolve
from crosstune.cli.main import main
from crosstune.errors import ConfigError, LeakageError
from crosstune.recipes import choose, measure, questions
from crosstune.recipes import tune as recipe
from crosstune.recipes.evaluate import evaluate_model
from crosstune.recipes.known import KNOWN_WEIGHT
from crosstune.recipes.use import predict_file, rank_file
from crosstune.scoring import Reranker
from crosstune.types import Part, Verdict

pytestmark = pytest.mark.usefixtures("steady")


@pytest.fixture(scope="module")
def hurried(tmp_path_factory, settings, done):
    """A run in which there is time to read 3 of the 10 candidates, and dev gives every part a weight."""
    weights, whole = {Part.CROSS_ENCODER: 1.0, Part.BI_ENCODER: 4.0, Part.LEXICAL: 0.5}, measure.Measured.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crosstune.recipes.choose.check_losses", lambda losses, chance: ())
        patch.setattr(measure.Measured, "plan", lambda self, budget_s: replace(whole(self, budget_s), reads=3))
        patch.setattr(choose, "fit_weights", lambda parts, _: {p: weights[p] for p in next(iter(parts.values()))})
        folder = tmp_path_factory.mktemp("hurried") / "run"
        return recipe.tune(done.file, folder, settings)


def test_the_cross_encoder_reads_what_there_is_time_for(hurried, done):
    weights = {"bi_encoder": 4.0, "lexical": 0.5, "known_question": KNOWN_WEIGHT}
    assert hurried.report["fusion"]["reading"] == {"n": 3, "weights": weights}
    assert any("time to read 3 of the 10 candidates" in note for note in hurried.report["notes"])
    assert "of the 3 best by the rest" in hurried.report["shipped"]
    runs = {path.stem: _read_run(path) for path in (hurried.model.parent / "runs").glob("*.trec")}
    untuned = next(run for run in (runs["bm25"], runs["dense"], runs["hybrid"]) if _same_sets(run, runs["base"]))
    for name in ("base", "tuned-reranker"):
        for query_id, ranked in runs[name].items():
            assert set(ranked[:3]) == set(untuned[query_id][:3])
            assert ranked[3:] == untuned[query_id][3:]
    assert any(runs["tuned-composite"][q] != untuned[q] for q in untuned)


def _same_sets(one, other):
    return all(set(one[q]) == set(other[q]) for q in one)


def _texts(path):
    """Texts by id: questions q1, q2, ... and answers p1, p2, ... in the order of the rows that have an answer."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in list(csv.reader(file))[1:] if row[1]]
    return {f"{kind}{n}": text for n, row in enumerate(rows, start=1) for kind, text in zip("qp", row, strict=True)}


def test_the_model_in_use_ranks_as_it_was_judged(hurried, done):
    """Whatever the order in which candidates are given."""
    reranker, texts = Reranker.load(hurried.model), _texts(done.file)
    for query_id, expected in _read_run(hurried.model.parent / "runs" / "shipped.trec").items():
        given = sorted(expected)
        ranked = reranker.rank(texts[query_id], [texts[pid] for pid in given])
        assert sum(found.logit is not None for found in ranked) == 3
        assert [given[found.index] for found in ranked] == expected


def _as_beir(result, file, folder):
    """The test questions of a run as a BEIR folder."""
    texts, shipped = _texts(file), _read_run(result.model.parent / "runs" / "shipped.trec")
    (folder / "qrels").mkdir(parents=True)
    for name, kind in (("corpus", "p"), ("queries", "q")):
        rows = [json.dumps({"_id": key, "title": "", "text": text}) for key, text in texts.items() if key[0] == kind]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    judged = "".join(f"{query_id}\tp{query_id[1:]}\t1\n" for query_id in shipped)
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


def test_a_saved_model_is_evaluated_as_it_was_judged(hurried, done, tmp_path, bare_bert):
    data = _as_beir(hurried, done.file, tmp_path / "data")
    evaluate_model(hurried.model, data, depth=10, embedder=str(bare_bert), out=tmp_path / "out")
    for name in ("shipped", "tuned-reranker"):
        stage = hurried.report["fusion"]["first_stage"]
        theirs = name if name == "shipped" or "tuned" not in stage else f"{name}-on-{stage.replace(' ', '-')}"
        expected = _read_run(hurried.model.parent / "runs" / f"{theirs}.trec")
        assert _read_run(tmp_path / "out" / f"{name}.trec") == expected


def test_the_report_has_what_is_promised(done):
    report = json.loads((done.folder / "report.json").read_text(encoding="utf-8"))
    assert report == done.result.report
    # 80 rows, 8 of them empty: 72 questions; a fifth each for dev and test.
    assert {k: report["split"][k] for k in ("train", "dev", "test")} == {"train": 44, "dev": 14, "test": 14}
    # Whether a question of so tiny a model's is taken for a known one depends on the machine's rounding.
    names = [row["name"] for row in report["table"] if "without known questions" not in row["name"]]
    assert names[:6] == ["bm25", "dense", "hybrid", "base", "tuned dense", "tuned hybrid"]
    chosen = next(name for name in names if name.startswith("ceiling on ")).removeprefix("ceiling on ")
    reranked = ("tuned reranker", "tuned composite")
    assert names[6:] == [
        *reranked, *(f"{name} on {chosen}" for name in reranked), "shipped", "ceiling", f"ceiling on {chosen}"
    ]  # fmt: skip
    assert all(row["measures"]["nDCG@10"]["n"] == 14 for row in report["table"])
    assert report["verdict"] in {verdict.value for verdict in Verdict}
    assert {"total", "train", "first stage"} <= set(report["timings_s"])
    assert report["data"]["rows dropped"] == 8


def test_every_reranker_reorders_the_same_candidates(done):
    runs = {path.stem: _read_run(path) for path in (done.folder / "runs").glob("*.trec")}
    candidates = {name: {q: set(docs) for q, docs in run.items()} for name, run in runs.items()}
    untuned = next(name for name in ("bm25", "dense", "hybrid") if candidates[name] == candidates["tuned-reranker"])
    for name in ("base", "tuned-composite", "ceiling"):
        assert candidates[name] == candidates[untuned], name
    tuned = next(name for name in runs if name.startswith("ceiling-on-")).removeprefix("ceiling-on-")
    for name in ("tuned-reranker", "tuned-composite", "ceiling"):
        assert candidates[f"{name}-on-{tuned}"] == candidates[tuned], name
    shipped = done.result.report["fusion"]["first_stage"].replace(" ", "-")
    assert candidates["shipped"] == candidates[shipped]


def _read_run(path):
    ranked = {}
    for line in path.read_text().splitlines():
        query_id, _, passage_id, *_ = line.split()
        ranked.setdefault(query_id, []).append(passage_id)
    return ranked


def test_no_test_or_dev_answer_is_a_training_negative(done):
    splits = json.loads((done.folder / "splits.json").read_text())
    lines = (done.folder / "mining" / "mining.jsonl").read_text().splitlines()
    groups = [json.loads(line) for line in lines]
    assert {group["query_id"] for group in groups} == set(splits["train"])
    negatives = {pid for group in groups for taken in group["taken"].values() for pid in taken}
    # One answer for each question, numbered alike: question q7 is answered by passage p7.
    protected = {query_id.replace("q", "p") for query_id in splits["dev"] + splits["test"]}
    assert negatives
    assert not negatives & protected


def test_a_complete_run_is_read_and_not_repeated(done, settings):
    said = []
    again = recipe.tune(done.file, done.folder, settings, say=said.append)
    assert any("complete; pass --overwrite" in line for line in said)
    assert again.verdict is done.result.verdict
    assert again.report == done.result.report


def test_the_same_seed_gives_the_same_figures(done, settings, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crosstune.recipes.choose.check_losses", lambda losses, chance: ())
        again = recipe.tune(done.file, tmp_path / "run", settings)
    assert again.report["table"] == done.result.report["table"]
    assert again.report["comparisons"] == done.result.report["comparisons"]


def test_a_stopped_run_continues_and_ends_like_one_that_was_not_stopped(done, settings, tmp_path):
    def stop(sentence):
        if sentence.startswith("Step") and not sentence.startswith(first):
            raise KeyboardInterrupt

    first = next(line for line in done.said if line.startswith("Step")).split(":")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crosstune.recipes.choose.check_losses", lambda losses, chance: ())
        with pytest.raises(KeyboardInterrupt):
            recipe.tune(done.file, tmp_path / "run", settings, say=stop)
        said = []
        again = recipe.tune(done.file, tmp_path / "run", settings, say=said.append)
    assert any("continued from step" in line for line in said)
    figures = [
        [row["measures"]["nDCG@10"]["mean"] for row in report["table"]] for report in (again.report, done.result.report)
    ]
    np.testing.assert_allclose(figures[0], figures[1], atol=1e-6)


def test_with_keep_index_questions_alone_are_tuned(done, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "best_share", lambda *args: (1.0, 1.0))  # dev may like nothing of so tiny a model
    result = recipe.tune(done.file, tmp_path / "run", replace(settings, keep_index=True))
    names = [row["name"] for row in result.report["table"]]
    assert "tuned dense" in names
    assert set(result.report["settings"]["first_stage"]) == {"questions"}
    assert result.report["settings"]["first_stage"]["questions"]["plan"]["n_epochs"] == 4.0  # there is time for all
    tuned, untuned = (
        SentenceTransformerEmbedder(resolve(str(path)), precision="fp32")
        for path in (result.model / "bi-encoder", settings.embedder)
    )
    texts = ["reset my password", "the monthly invoice"]
    assert tuned.identity == untuned.identity
    assert np.abs(tuned.embed_passages(texts) - untuned.embed_passages(texts)).max() < 1e-6
    assert np.abs(tuned.embed_queries(texts) - untuned.embed_queries(texts)).max() > 1e-4
    embedded = []
    of_library = CachedEmbedder.embed_passages
    monkeypatch.setattr(CachedEmbedder, "embed_passages", lambda *args: embedded.append(1) or of_library(*args))
    data = _as_beir(result, done.file, tmp_path / "data")
    evaluate_model(
        result.model, data, depth=10, embedder=settings.embedder, first_stage="tuned dense", out=tmp_path / "out"
    )
    assert embedded == [1]  # one index for both
    expected = _read_run(result.model.parent / "runs" / "tuned-dense.trec")
    assert _read_run(tmp_path / "out" / "tuned-dense.trec") == expected


@pytest.fixture
def write_split_csv(write_csv):
    def write(path, leak=False):
        """60 rows that name their split; a leak repeats a test question, differently punctuated, in train."""
        plain = write_csv(path.with_name("plain.csv"), n_rows=60).read_text(encoding="utf-8").splitlines()
        rows = [line for line in plain[1:] if not line.endswith(",")]
        lines = [
            f"{line},{'test' if number % 4 == 0 else 'dev' if number % 4 == 1 else 'train'}"
            for number, line in enumerate(rows)
        ]
        if leak:
            question = rows[0].split(",")[0]
            lines.append(f"{question.replace('?', ' now?')},another answer of other words entirely,train")
        path.write_text("\n".join(["Question,Answer,Split", *lines]) + "\n", encoding="utf-8")
        return path

    return write


def test_splits_of_the_user_are_taken_as_they_are(settings, tmp_path, write_split_csv):
    result = recipe.tune(write_split_csv(tmp_path / "qa.csv"), tmp_path / "run", settings)
    # 54 usable rows: numbers 0, 4, ... 52 are test (14), 1, 5, ... 53 dev (14), the other 26 train.
    assert result.report["split"] == {"train": 26, "dev": 14, "test": 14, "seed": None}


def test_a_leak_between_the_users_splits_stops_the_run(settings, tmp_path, write_split_csv):
    with pytest.raises(LeakageError, match="--drop-leaks"):
        recipe.tune(write_split_csv(tmp_path / "qa.csv", leak=True), tmp_path / "run", settings)


def test_dropping_leaks_says_so_and_goes_on(settings, tmp_path, write_split_csv):
    said = []
    forgiving = replace(settings, drop_leaks=True)
    result = recipe.tune(write_split_csv(tmp_path / "qa.csv", leak=True), tmp_path / "run", forgiving, say=said.append)
    assert result.report["split"]["train"] == 26
    assert any("Left out 1 train and dev questions" in line for line in said)


def test_predict_and_rank_use_the_stored_scale(done, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("Question,Answer\nreset my password?,a refund is paid\nrefund?,a refund is paid\n")
    predicted = predict_file(done.folder, pairs)
    calibration = json.loads((done.folder / "model" / "crosstune.json").read_text())["calibration"]
    for prediction in predicted.predictions:
        expected = 1 / (1 + np.exp(-(prediction.logit / calibration["temperature"] + calibration["bias"])))
        assert prediction.probability == pytest.approx(expected)
    assert predicted.accuracy is None
    documents = tmp_path / "docs.jsonl"
    documents.write_text('{"text": "a refund is paid"}\n{"text": "the menu on top"}\n')
    ranked = rank_file(done.folder, "refund?", documents)
    assert ranked.items[0].score >= ranked.items[1].score
    assert {part.value: 1 for part in ranked.ranked_by}.keys() == done.result.report["fusion"]["weights"].keys()
    if "cross_encoder" in done.result.report["fusion"]["weights"]:
        logit = next(item.logit for item in ranked.items if item.index == 0)
        assert logit == pytest.approx(predicted.predictions[1].logit, abs=1e-5)


def test_evaluate_on_a_beir_folder(done, bare_bert, tmp_path, words):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    texts = [f"{word} {other}" for word, other in zip(words[:12], words[12:24], strict=True)]
    corpus = [json.dumps({"_id": f"d{i}", "title": "", "text": text}) for i, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(corpus))
    queries = [json.dumps({"_id": f"x{i}", "text": text.split()[0]}) for i, text in enumerate(texts)]
    (folder / "queries.jsonl").write_text("\n".join(queries))
    qrels = "query-id\tcorpus-id\tscore\n" + "".join(f"x{i}\td{i}\t1\n" for i in range(12))
    (folder / "qrels" / "test.tsv").write_text(qrels)
    options = {"depth": 5, "embedder": str(bare_bert)}
    report = evaluate_model(done.folder, folder, **options, first_stage="bm25", out=tmp_path / "o")
    rows = {row.name: row.measures for row in report.table}
    # The question is a word that stands in its passage alone: BM25 finds it first, always.
    assert rows["bm25"]["nDCG@10"].mean == 1.0
    assert rows["ceiling"]["nDCG@10"].mean == 1.0
    assert (tmp_path / "o" / "tuned-reranker.trec").is_file()
    assert "base" not in rows
    model = shutil.copytree(done.folder / "model", tmp_path / "model")
    manifest = json.loads((model / "crosstune.json").read_text())
    manifest["settings"]["cross_encoder"] = "the base, not tuned"
    (model / "crosstune.json").write_text(json.dumps(manifest))
    found = evaluate_model(model, folder, **options, first_stage="bm25")
    figures = {row.name: row.measures for row in found.table}
    assert figures["base"] == rows["tuned reranker"]
    assert "tuned reranker" not in figures
    assert ("bm25", "base") in {(c.baseline, c.candidate) for c in found.comparisons}
    with pytest.raises(ConfigError, match="no first stage is named 'elastic'"):
        evaluate_model(done.folder, folder, **options, first_stage="elastic")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "nowhere.csv", "--out", "x"], "no such file"),
        (["tune", "{file}", "--out", "{done}", "--seed", "5"], "holds a run with different"),
        (["tune", "{file}", "--out", "x", "--base", "./no-model"], "no such folder"),
        (["tune", "{file}", "--out", "x", "--budget", "soon"], "not a duration"),
        (["tune", "{file}", "--out", "x", "--pos-weight", "2"], "--loss bce"),
        (["rank", "--model", "x", "--query", "q", "--documents", "{file}"], "not a crosstune model folder"),
        (["predict", "{file}", "--model", "x"], "not a crosstune model folder"),
    ],
)
def test_bad_usage_ends_with_a_message_and_exit_code_2(done, monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(file=done.file, done=done.folder) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["crosstune", *filled])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert message in errors
    assert "Traceback" not in errors


def test_the_command_prints_the_table_and_ends_with_the_verdicts_code(done, settings, monkeypatch, capsys):
    monkeypatch.setattr("crosstune.recipes.tune.tune", lambda *args, **kwargs: done.result)
    monkeypatch.setattr("sys.argv", ["crosstune", "tune", str(done.file), "--out", str(done.folder), "--quiet"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == done.result.verdict.exit_code
    printed = capsys.readouterr().out
    assert "nDCG@10" in printed
    assert str(done.folder / "report.html") in printed
