"""Tuning from a live index: whose passages are judged, what is left out, and what is refused."""

import csv
import json
import random
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.data import SplitSettings, load, read_run
from crosstune.documents import ChunkSettings
from crosstune.errors import ConfigError, DataError, StoreError
from crosstune.progress import silent
from crosstune.recipes import choose, prepare
from crosstune.recipes import tune as recipe
from crosstune.recipes.index import IndexSettings, index
from crosstune.recipes.live import onto_index, open_live
from crosstune.recipes.search import open_pipeline, warnings
from crosstune.recipes.settings import TuneSettings
from crosstune.retrieval.live import LiveIndex
from crosstune.types import Condition, Part, Query, ScoreKind

WORDS = re.findall(
    r"\w+",
    "reset password link mail invoice month billing page refund card thirty days export report table menu plan basic "
    "team phone guests download paid lost where free order change",
)
N_ROWS, N_LOST = 60, 6


@pytest.fixture(scope="module")
def place(tmp_path_factory, bert, bare_bert):
    """A file of 60 answers, of which the index holds all but 6, with the topic of every other one as metadata."""
    folder, choose = tmp_path_factory.mktemp("live"), random.Random(3)
    rows = []
    for _ in range(N_ROWS):
        question = choose.sample(WORDS, 5)
        rest = [word for word in WORDS if word not in question]
        rows.append((" ".join(question) + "?", " ".join(question[:3] + choose.sample(rest, 7)) + "."))
    with (folder / "qa.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Question", "Answer"), *rows])
    with (folder / "docs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "kind"))
        writer.writerows((answer, "odd" if n % 2 else "even") for n, (_, answer) in enumerate(rows[N_LOST:]))
        writer.writerow(("something that nobody asks about at all, and it stands in no answer", "even"))
    location = str(folder / "index")
    index(folder / "docs.csv", location, IndexSettings(str(bare_bert), ChunkSettings(60, 0)))
    settings = TuneSettings(
        base=str(bert), embedder="embedded", stages="retriever", depth=10, budget_s=60, retriever=location,
        split=SplitSettings(dev=0.2, test=0.2),
    )  # fmt: skip
    return SimpleNamespace(folder=folder, file=folder / "qa.csv", rows=rows, location=location, settings=settings)


@pytest.fixture
def live(place):
    opened = open_live(place.settings)
    yield opened
    opened.store.close()


def test_questions_are_judged_by_the_passages_of_the_index(place, live):
    loaded = load(place.file)
    mapped = onto_index(loaded, live, silent)
    new = mapped.loaded.collection
    assert len(new.passages) == N_ROWS - N_LOST + 1  # also the one that answers nothing
    assert len(new.queries) == N_ROWS - N_LOST
    texts = {new.queries[q].text: new.passages[next(iter(new.relevant(q)))].text for q in new.queries}
    assert texts == dict(place.rows[N_LOST:])
    assert mapped.missing == tuple(place.rows[:N_LOST])
    assert "54 exact, 6 unmapped" in mapped.sentence
    assert "6 questions have no answer in the index" in mapped.sentence
    assert new.fingerprint != loaded.collection.fingerprint


def test_the_whole_run(place, tmp_path, monkeypatch):
    monkeypatch.setattr(
        prepare, "SentenceTransformerEmbedder", lambda c, precision: SentenceTransformerEmbedder(c, precision="fp32")
    )
    said = []
    result = recipe.tune(place.file, tmp_path / "run", place.settings, say=said.append)
    report = result.report
    assert {k: report["split"][k] for k in ("train", "dev", "test")} == {"train": 32, "dev": 11, "test": 11}
    names = [row["name"] for row in report["table"]]
    assert names[:5] == ["bm25", "dense", "hybrid", "tuned dense", "tuned hybrid"]
    assert any(line.startswith(f"First stages are the live index {place.location}: 55 passages") for line in said)
    assert any("54 exact, 6 unmapped" in note for note in report["notes"])
    with (tmp_path / "run" / "unmapped.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["question", "answer"], *map(list, place.rows[:N_LOST])]
    # The row of a first stage is the live index's own answer to the test questions.
    questions = json.loads((tmp_path / "run" / "splits.json").read_text())["questions"]
    live = open_live(place.settings)
    run = read_run(tmp_path / "run" / "runs" / "hybrid.trec", ScoreKind.FUSED)
    for query_id, ranked in run.candidates.items():
        own = LiveIndex(live.store, live.embedder, "hybrid").find(questions[query_id], 10).found
        assert [c.passage_id for c in ranked] == [item.passage.passage_id for item in own]
    live.store.close()
    settings = json.loads((tmp_path / "run" / "manifest.json").read_text())["settings"]
    assert settings["retriever"] == place.location


def test_conditions_narrow_index_and_answers(place):
    where = (Condition("kind", "=", ("odd",)),)
    live = open_live(replace(place.settings, where=where))
    assert len(live.passages) == 27
    assert "55 passages, of which 27 meet the conditions" in live.sentence()
    mapped = onto_index(load(place.file), live, silent)
    assert len(mapped.loaded.collection.queries) == 27
    query = Query("q", place.rows[N_LOST][0])
    for first_stage in live.first_stages(live.embedder):
        found = first_stage.retrieve([query], 50).candidates["q"]
        assert {candidate.passage_id for candidate in found} <= set(live.passages)
    live.store.close()


def test_cosines_are_those_of_the_vectors_in_the_index(live):
    ids = list(live.passages)
    similarity = live.dense(live.embedder).similarity([Query("q", "lost invoice")])
    vectors = live.embedder.embed_passages([live.passages[passage_id].full_text for passage_id in ids])
    expected = vectors @ live.embedder.embed_queries(["lost invoice"])[0]
    np.testing.assert_allclose(similarity("q", ids), expected, atol=1e-4)


def test_an_index_of_something_else_is_refused(live, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("question,answer\n" + "".join(f"what is {n},nothing like it {n}\n" for n in range(20)))
    with pytest.raises(DataError, match="only 0 of 20 answers are in the index"):
        onto_index(load(other), live, silent)


def test_refusals(place, tmp_path):
    with pytest.raises(ConfigError, match="leave --embedder out"):
        open_live(replace(place.settings, embedder="BAAI/bge-small-en-v1.5"))
    with pytest.raises(DataError, match="meets the conditions"):
        open_live(replace(place.settings, where=(Condition("kind", "=", ("none",)),)))
    with pytest.raises(ConfigError, match="'colour'"):
        open_live(replace(place.settings, where=(Condition("colour", "=", ("red",)),)))
    with pytest.raises(StoreError):
        open_live(replace(place.settings, retriever=str(tmp_path / "nothing")))
    with pytest.raises(ConfigError, match="name it as the retriever"):
        TuneSettings(where=(Condition("kind", "=", ("odd",)),))


def test_no_password_in_what_is_kept(place):
    settings = TuneSettings(retriever="redis://me:secret@localhost:6379/docs")
    assert settings.to_json()["retriever"] == "redis://me@localhost:6379/docs"
    assert "secret" not in json.dumps(settings.to_json())


def test_the_index_stays_where_embedding_anew_takes_too_long(place, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_embedding_s", lambda embedder, collection: 3600.0)
    monkeypatch.setattr(prepare, "_reads", lambda audit, embedder: True)
    # Eleven dev questions may find an untrained encoder of no use; this is about where its vectors come from.
    monkeypatch.setattr(choose, "fit_weights", lambda *args: {Part.BI_ENCODER: 10.0})
    monkeypatch.setattr(choose, "_best", lambda scores, keeps_index: scores[-1])
    result = recipe.tune(place.file, tmp_path / "run", replace(place.settings, stages="auto"))
    # The corpus once, and as the dev candidates twice more.
    said = r"embedding 55 passages anew would take about 108\d\d of the"
    assert any(re.search(said, note) for note in result.report["notes"])
    assert "tuned dense" in [row["name"] for row in result.report["table"]]
    assert not any("re-embedded with" in note for note in result.report["notes"])
    # The very index is searched with questions embedded by the tuned model.
    opened = open_pipeline(place.location, result.model)
    assert warnings(opened) == []
    assert opened.reranker.embedder_identity == opened.store.spec.embedder
    assert opened.search("reset password link?").hits
    opened.store.close()
