"""Documents to an index: what is embedded again and what is not, what a kill leaves, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.bundle import BI_ENCODER, ModelBundle, save_bundle
from crosstune.documents import ChunkSettings
from crosstune.errors import BundleError, ConfigError, DataError, StoreError
from crosstune.recipes import index as recipe
from crosstune.recipes.index import IndexSettings, embedder_source, index
from crosstune.retrieval.stores import open_store
from crosstune.types import Calibration, Condition, Fusion, Part, ScoreKind

CHUNKS = ChunkSettings(32, 0)


@pytest.fixture
def embedded(monkeypatch):
    """Texts in the order in which they were embedded."""
    texts = []

    class Counting(SentenceTransformerEmbedder):
        def __init__(self, checkpoint):
            super().__init__(checkpoint, precision="fp32")

        def embed_passages(self, found, progress=None):
            texts.extend(found)
            return super().embed_passages(found)

    monkeypatch.setattr(recipe, "SentenceTransformerEmbedder", Counting)
    return texts


@pytest.fixture
def place(tmp_path, bare_bert, embedded):
    """A folder of two pages, and a way to index it."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "money.md").write_text("# Refund\n\na refund is paid to your card\n\n# Invoice\n\ndownload the invoice\n")
    (pages / "login.txt").write_text("reset your password with the link")
    settings = IndexSettings(str(bare_bert), CHUNKS)

    def run(changed=settings):
        embedded.clear()
        return index(pages, str(tmp_path / "index"), changed)

    return SimpleNamespace(pages=pages, location=str(tmp_path / "index"), run=run, settings=settings)


def contents(location):
    store = open_store(location)
    try:
        return [(p.origin.document_id, p.title, p.text) for p in store.passages()]
    finally:
        store.close()


def test_documents_become_passages_under_their_headings(place, embedded):
    done = place.run()
    assert (done.n_documents, done.n_passages, done.n_embedded, done.new_version) == (2, 3, 3, True)
    assert contents(place.location) == [
        ("login.txt", "", "reset your password with the link"),
        ("money.md", "Refund", "a refund is paid to your card"),
        ("money.md", "Invoice", "download the invoice"),
    ]
    # Title and text, as every reranker reads them.
    assert "Refund a refund is paid to your card" in embedded


def test_only_what_is_new_is_embedded_and_what_is_gone_is_removed(place, embedded):
    place.run()
    again = place.run()
    assert (embedded, again.n_kept, again.new_version, again.embedded_per_s) == ([], 3, False, None)
    (place.pages / "money.md").write_text("# Refund\n\na refund is paid to your card\n\n# Export\n\nexport the table\n")
    (place.pages / "login.txt").unlink()
    changed = place.run()
    assert embedded == ["Export export the table"]
    assert (changed.n_embedded, changed.n_kept, changed.n_removed, changed.n_passages) == (1, 1, 2, 2)
    assert [text for _, _, text in contents(place.location)] == ["a refund is paid to your card", "export the table"]


def test_a_passage_that_moves_is_rewritten_with_its_vector(place, embedded):
    place.run()
    (place.pages / "money.md").write_text(
        "# Menu\n\nthe menu on top\n\n# Refund\n\na refund is paid to your card\n\n# Invoice\n\ndownload the invoice\n"
    )
    moved = place.run()
    assert embedded == ["Menu the menu on top"]
    assert (moved.n_embedded, moved.n_updated, moved.n_kept) == (1, 2, 1)
    assert [title for document, title, _ in contents(place.location) if document == "money.md"] == [
        "Menu", "Refund", "Invoice"
    ]  # fmt: skip


def test_other_metadata_makes_a_new_version_with_the_old_vectors(tmp_path, bare_bert, embedded):
    file, location = tmp_path / "faq.csv", str(tmp_path / "index")
    settings = IndexSettings(str(bare_bert), CHUNKS)
    file.write_text("id,text\n1,a refund is paid\n2,download the invoice\n")
    index(file, location, settings)
    store = open_store(location)
    old = store.vectors([p.passage_id for p in store.passages()])
    store.close()
    embedded.clear()
    file.write_text("id,text,plan\n1,a refund is paid,basic\n2,download the invoice,team\n3,the menu on top,team\n")
    done = index(file, location, settings)
    assert (embedded, done.new_version, done.n_updated, done.n_embedded) == (["the menu on top"], True, 2, 1)
    assert done.fields == {"plan": "tag"}
    store = open_store(location)
    ids = [p.passage_id for p in store.passages()]
    np.testing.assert_array_equal(store.vectors(ids[:2]), old)
    found = store.search_vector(old[0], 5, [Condition("plan", "=", ("team",))])
    assert {item.passage.text for item in found} == {"download the invoice", "the menu on top"}
    store.close()


def test_another_embedder_or_cutting_embeds_everything_anew(place, bert, embedded):
    place.run()
    changed = place.run(IndexSettings(place.settings.embedder, ChunkSettings(40, 0)))
    # The same embedder: an equal text has the vector it had, however documents are cut.
    assert (changed.new_version, changed.n_embedded, changed.n_updated) == (True, 0, 3)
    other = place.run(IndexSettings(str(bert), CHUNKS))
    assert (other.new_version, other.n_embedded) == (True, 3)


def test_killed_in_the_middle_it_continues(place, embedded, monkeypatch):
    monkeypatch.setattr(recipe, "_BATCH", 1)

    class Stop(Exception):
        pass

    real = SentenceTransformerEmbedder.embed_passages

    def stop_at_the_third(self, texts, progress=None):
        if len(embedded) == 3:
            raise Stop
        return real(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(SentenceTransformerEmbedder, "embed_passages", stop_at_the_third)
        with pytest.raises(Stop):
            place.run()
    with pytest.raises(StoreError):  # nothing half made is ever found
        open_store(place.location)
    done = place.run()
    assert (len(embedded), done.n_embedded, done.n_kept, done.n_passages) == (1, 1, 2, 3)


def test_rows_of_a_table_with_the_same_answer_are_one_passage(tmp_path, bare_bert, embedded):
    file = tmp_path / "faq.csv"
    file.write_text(
        "Question,Answer,plan\nwhen is it paid,A refund is paid.,basic\nis it paid,a refund is paid,basic\n"
        "is it paid for teams,a refund is paid,team\n"
    )
    done = index(file, str(tmp_path / "index"), IndexSettings(str(bare_bert), CHUNKS))
    # The third can be told apart by its plan; a question is nothing to search by.
    assert (done.n_documents, done.n_passages, done.fields) == (3, 2, {"plan": "tag"})


def test_nothing_to_read_leaves_the_index_as_it_is(place):
    place.run()
    for file in place.pages.iterdir():
        file.unlink()
    (place.pages / "empty.txt").write_text("  ")
    with pytest.raises(DataError, match="no text was found"):
        place.run()
    assert len(contents(place.location)) == 3


def test_the_embedder_of_a_tuned_model_wherever_the_command_is_called(tmp_path, bare_bert, bert, load, monkeypatch):
    scale = Calibration(1.0, 0.0, 0.5, 0, 0, 1)
    model = tmp_path / "run" / "model"
    bundle = ModelBundle(
        model, 64, ScoreKind.LOGIT, "b", "r", "f", "fp32", scale, Fusion("dense", {Part.BI_ENCODER: 1.0}, "en", scale)
    )
    save_bundle(bundle, None, bare_bert)
    monkeypatch.chdir(tmp_path)
    expected = str((model / BI_ENCODER).resolve())
    assert [embedder_source(name) for name in ("run", "run/model")] == [expected, expected]
    assert embedder_source("embedded") == "embedded"
    assert embedder_source(str(bare_bert)) == str(bare_bert.resolve())
    loaded = load(bert)
    save_bundle(bundle, (loaded.model, loaded.tokenizer))
    with pytest.raises(ConfigError, match="no tuned bi-encoder"):
        embedder_source("run")
    (model / "crosstune.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(BundleError, match="format 99"):
        embedder_source("run")
