"""Which stages of the main job are tuned, and what becomes of one that is not, or that learnt nothing."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from crosstune.data import load, read_run
from crosstune.errors import BundleError, ConfigError
from crosstune.recipes import choose, judge, measure, prepare, retriever
from crosstune.recipes import tune as recipe
from crosstune.recipes.use import predict_file, rank_file
from crosstune.training import Throughput
from crosstune.types import Part, ScoreKind

pytestmark = pytest.mark.usefixtures("steady")


def _holds_the_base(model, bert):
    """Whether a saved model's cross-encoder has the weights of the base, and says so."""
    from safetensors.numpy import load_file

    saved, base = (load_file(folder / "model.safetensors") for folder in (model, bert))
    manifest = json.loads((model / "crosstune.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["cross_encoder"] == "the base, not tuned"
    assert manifest["base_model"] == str(bert)
    return saved.keys() == base.keys() and all(np.array_equal(saved[name], base[name]) for name in base)


def test_a_model_that_learnt_nothing_is_named_judged_and_not_saved(done, settings, tmp_path, bert):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "learning_rate", lambda model, base: 1e-12)
        result = recipe.tune(done.file, tmp_path / "run", replace(settings, stages="reranker"))
    assert "loss-at-chance" in {finding["code"] for finding in result.report["health"]}
    assert _holds_the_base(result.model, bert)
    assert any("as it came" in note for note in result.report["notes"])
    assert "cross_encoder" not in result.report["fusion"]["weights"]
    assert any("not fit to ship" in note for note in result.report["notes"])


def test_a_first_stage_is_shipped_without_a_cross_encoder_that_is_unfit(done, settings, tmp_path, bert):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "learning_rate", lambda model, base: 1e-12)
        result = recipe.tune(done.file, tmp_path / "run", settings)
    assert "loss-at-chance" in {finding["code"] for finding in result.report["health"]}
    assert "cross_encoder" not in result.report["fusion"]["weights"]
    assert _holds_the_base(result.model, bert)
    assert (result.model / "bi-encoder" / "modules.json").is_file()


def test_the_first_stage_alone(done, settings, tmp_path):
    result = recipe.tune(done.file, tmp_path / "run", replace(settings, stages="retriever"))
    names = [row["name"] for row in result.report["table"]]
    assert not [name for name in names if "reranker" in name or name == "base"]
    assert "tuned composite" in names
    assert (result.model / "bi-encoder" / "modules.json").is_file()
    assert not (result.model / "model.safetensors").exists()
    documents = tmp_path / "docs.txt"
    documents.write_text("a refund is paid\nthe menu on top\n")
    ranked = rank_file(tmp_path / "run", "refund?", documents)
    assert all(item.logit is None for item in ranked.items)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("Question,Answer\nrefund?,a refund is paid\n")
    with pytest.raises(BundleError, match="no cross-encoder"):
        predict_file(tmp_path / "run", pairs)


def test_a_question_that_is_asked_again_gets_its_answers(done, settings, tmp_path, monkeypatch):
    def asked_again(known, collection, queries, embedder, progress):
        return lambda query_id, pids: np.array([1.5 * (pid in collection.relevant(query_id)) for pid in pids])

    monkeypatch.setattr(retriever, "known_scores", asked_again)
    report = recipe.tune(done.file, tmp_path / "run", replace(settings, stages="retriever")).report
    means = {row["name"]: row["measures"]["nDCG@10"]["mean"] for row in report["table"]}
    for name in ("", next(f" on {name}" for name in ("tuned dense", "tuned hybrid") if f"ceiling on {name}" in means)):
        assert means[f"tuned without known questions{name}"] < means[f"tuned composite{name}"]
        assert means[f"tuned composite{name}"] == means[f"ceiling{name}"]  # small weights leave the evidence on top
    assert "+ known questions over" in report["shipped"]
    told = next(note for note in report["notes"] if "counts as that one asked again" in note)
    found = round(14 * next(row for row in report["table"] if row["name"] == "shipped")["measures"]["R@10"]["mean"])
    assert f"and {found} of 14 test questions" in told
    assert (tmp_path / "run" / "model" / "known-questions" / "vectors.safetensors").is_file()


def test_the_reranker_alone(done, settings, tmp_path):
    result = recipe.tune(done.file, tmp_path / "run", replace(settings, stages="reranker"))
    names = [row["name"] for row in result.report["table"]]
    assert not [name for name in names if name in ("tuned dense", "tuned hybrid") or " on " in name]
    assert "tuned reranker" in names


def test_the_first_stage_is_left_alone_where_the_embedder_cannot_read(done, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_reads", lambda audit, embedder: False)
    said = []
    result = recipe.tune(done.file, tmp_path / "run", replace(settings, stages="auto"), say=said.append)
    assert any("so the first stage was not tuned" in line for line in said)
    assert "tuned dense" not in [row["name"] for row in result.report["table"]]


def write_shared_answers(folder, words, n=36):
    """A BEIR folder: every answer has a train question and a test question, as in an FAQ with paraphrases."""
    draw = random.Random(5)
    (folder / "qrels").mkdir(parents=True)
    corpus, queries, judged = [], [], {"train": [], "test": []}
    for number in range(n):
        chosen = draw.sample(words, 8)
        corpus.append({"_id": f"a{number}", "title": "", "text": " ".join(chosen) + "."})
        for split, asked in (("train", chosen[:4]), ("test", chosen[4:])):
            queries.append({"_id": f"{split}{number}", "text": " ".join(asked) + "?"})
            judged[split].append(f"{split}{number}\ta{number}\t1")
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, lines in judged.items():
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return folder


def test_where_no_answer_may_be_a_negative_questions_are_contrasted(settings, tmp_path, words, monkeypatch):
    data = write_shared_answers(tmp_path / "data", words)
    monkeypatch.setattr(prepare, "_reads", lambda audit, embedder: True)
    result = recipe.tune(data, tmp_path / "run", replace(settings, stages="auto"))
    assert any("tell an answer from the other questions" in note for note in result.report["notes"])
    assert any("cross-encoder was not tuned: all passages answer" in note for note in result.report["notes"])
    names = [row["name"] for row in result.report["table"]]
    assert "tuned dense" in names
    assert "tuned reranker" not in names
    with pytest.raises(ConfigError, match="no question has both an answer and a negative"):
        recipe.tune(data, tmp_path / "both", settings)


def test_the_cross_encoder_is_left_out_when_there_is_no_time_to_judge_it(done, settings, tmp_path, bert, monkeypatch):
    # 28 questions with 10 to 14 candidates of about 12 tokens at 1 token a second: over an hour.
    monkeypatch.setattr(measure, "measure_scoring", lambda *args: ("fp32", 1.0))
    monkeypatch.setattr(prepare, "_reads", lambda audit, embedder: True)
    budgets, tune_first_stage = [], recipe.FirstStageTuner.tune

    def heard(self, budget_s, *rest):
        budgets.append(budget_s)
        return tune_first_stage(self, budget_s, *rest)

    monkeypatch.setattr(recipe.FirstStageTuner, "tune", heard)
    result = recipe.tune(done.file, tmp_path / "run", replace(settings, stages="auto"))
    assert any("The cross-encoder was left out" in note for note in result.report["notes"])
    # The first stage has the time of both: 0.85 of the 40 s that are left of 60, less what reading the file took.
    assert 24 < budgets[0] < 34
    assert "tuned reranker" not in [row["name"] for row in result.report["table"]]
    assert _holds_the_base(result.model, bert)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("Question,Answer\nrefund?,a refund is paid\n")
    assert len(predict_file(tmp_path / "run", pairs).predictions) == 1


def test_a_cross_encoder_that_there_is_no_time_to_tune_reads_as_it_came(done, settings, tmp_path, bert, monkeypatch):
    # A token a second in training: minutes for each step.
    slow = Throughput("fp32", "eager", tokens_per_s=1.0, step_s=0.0)
    monkeypatch.setattr(measure, "measure_training", lambda *args: [slow])
    monkeypatch.setattr(measure, "measure_scoring", lambda *args: ("fp32", 1e6))
    monkeypatch.setattr(prepare, "_reads", lambda audit, embedder: True)
    joined, join = [], judge.join
    monkeypatch.setattr(judge, "join", lambda run, parts, of: joined.append(set(of)) or join(run, parts, of))
    monkeypatch.setattr(choose, "fit_weights", lambda parts, _: dict.fromkeys(next(iter(parts.values())), 1.0))
    result = recipe.tune(done.file, tmp_path / "run", replace(settings, stages="auto"))
    assert all(weights >= {Part.CROSS_ENCODER, Part.BI_ENCODER} for weights in joined)
    assert len(joined) == 4  # over both first stages, with and without known questions
    assert any("The cross-encoder was not tuned" in note for note in result.report["notes"])
    assert not any("has no part in what is shipped" in note for note in result.report["notes"])
    names = [row["name"] for row in result.report["table"]]
    assert not [name for name in names if name.startswith("tuned reranker")]
    assert "base" in names
    assert ["base", "shipped"] in [[c["baseline"], c["candidate"]] for c in result.report["comparisons"]]
    assert _holds_the_base(result.model, bert)
    # The base row is the order of sentence-transformers' logits.
    theirs = CrossEncoder(str(result.model), device="cpu")
    texts = json.loads((tmp_path / "run" / "splits.json").read_text())["questions"]
    passages = load(done.file).collection.passages
    for query_id, ranked in read_run(tmp_path / "run" / "runs" / "base.trec", ScoreKind.FUSED).candidates.items():
        logits = theirs.predict([(texts[query_id], passages[candidate.passage_id].full_text) for candidate in ranked])
        assert np.all(np.diff(logits) < 1e-5)


def test_weights_that_turn_nan_end_in_a_verdict(done, settings, tmp_path, bert):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "learning_rate", lambda model, base: 1e30)
        result = recipe.tune(done.file, tmp_path / "run", replace(settings, stages="reranker"))
    assert {"nan-loss", "nan-scores"} & {finding["code"] for finding in result.report["health"]}
    assert _holds_the_base(result.model, bert)
    assert "cross_encoder" not in result.report["fusion"]["weights"]
