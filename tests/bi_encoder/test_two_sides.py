"""A bi-encoder with an encoder each for questions and passages: saved as sentence-transformers' own, used as one."""

import json

import numpy as np
import pytest
import torch

from crosstune.bi_encoder import LeanEncoder, SentenceTransformerEmbedder, load_bi_encoder, save_two_sides, side_of
from crosstune.checkpoints import CheckpointKind, load_tokenizer, resolve
from crosstune.errors import CheckpointError

TEXTS = ["reset your password", "a refund", "download the invoice of every month in the billing page"]


@pytest.fixture(scope="module")
def base(bare_bert):
    return resolve(str(bare_bert))


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    """Questions by the base with other weights, passages by the base."""
    questions, passages = load_bi_encoder(base, "cpu"), load_bi_encoder(base, "cpu")
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in questions.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    path = tmp_path_factory.mktemp("two-sides") / "model"
    save_two_sides(questions, passages, path, base.index_revision)
    np.save(path.with_name("questions.npy"), questions.encode(TEXTS, normalize_embeddings=True))
    return path


@pytest.fixture
def embedder(folder):
    return SentenceTransformerEmbedder(resolve(str(folder)), precision="fp32", device="cpu")


def test_each_side_embeds_its_own(folder, base, embedder):
    untuned = SentenceTransformerEmbedder(base, precision="fp32", device="cpu")
    questions = np.load(folder.with_name("questions.npy"))
    assert embedder._lean is not None
    assert np.abs(embedder.embed_queries(TEXTS) - questions).max() < 1e-5
    assert np.abs(embedder.embed_passages(TEXTS) - untuned.embed_passages(TEXTS)).max() < 1e-6
    assert np.abs(embedder.embed_queries(TEXTS) - untuned.embed_queries(TEXTS)).max() > 0.01
    bf16 = SentenceTransformerEmbedder(resolve(str(folder)), precision="bf16", device="cpu")
    assert (bf16.embed_queries(TEXTS) * questions).sum(axis=1).min() > 0.99
    assert (bf16.embed_passages(TEXTS) * untuned.embed_passages(TEXTS)).sum(axis=1).min() > 0.99


def test_it_loads_in_sentence_transformers(folder, embedder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert np.abs(model.encode_query(TEXTS, normalize_embeddings=True) - embedder.embed_queries(TEXTS)).max() < 1e-5
    assert np.abs(model.encode_document(TEXTS, normalize_embeddings=True) - embedder.embed_passages(TEXTS)).max() < 1e-5


def test_an_index_of_the_base_is_an_index_of_this_one(folder, base, embedder):
    untuned = SentenceTransformerEmbedder(base, precision="fp32", device="cpu")
    assert embedder.identity == untuned.identity
    assert embedder.name != untuned.name  # a cache of vectors must tell them apart
    found = resolve(str(folder))
    assert (found.kind, found.index_revision) == (CheckpointKind.ENCODER, base.revision)
    assert found.revision not in (base.revision, None)
    assert base.index_revision == base.revision


def test_the_revision_is_of_both_sides(folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert resolve(str(copy)).revision == resolve(str(folder)).revision
    weights = next(copy.glob("query_*/*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b" ")
    assert resolve(str(copy)).revision != resolve(str(folder)).revision


def test_its_tokenizer_is_found(folder, bare_bert):
    assert load_tokenizer(str(folder)).to_str() == load_tokenizer(str(bare_bert)).to_str()


def test_other_models_are_one_for_both(base):
    model = load_bi_encoder(base, "cpu")
    assert side_of(model, "query") is model
    assert side_of(model, "document") is model
    encoder = LeanEncoder(model)
    encoder.vectors(TEXTS, "query", "bf16")
    encoder.vectors(TEXTS, "document", "bf16")
    assert len(encoder._passes) == 2  # each precision once, not once a role


class TestDamage:
    @pytest.fixture
    def copy(self, folder, tmp_path):
        import shutil

        shutil.copytree(folder, tmp_path / "copy")
        return tmp_path / "copy"

    def test_code_of_its_own_in_a_route_is_refused(self, copy):
        router = json.loads((copy / "router_config.json").read_text())
        router["types"]["query_0_Transformer"] = "custom_code.MyTransformer"
        (copy / "router_config.json").write_text(json.dumps(router))
        with pytest.raises(CheckpointError, match=r"needs code of its own \(custom_code.MyTransformer\)"):
            load_bi_encoder(resolve(str(copy)), "cpu")

    @pytest.mark.parametrize("content", ["{", "{}", '{"types": 3}', "[]"])
    def test_a_damaged_list_of_routes(self, copy, content):
        (copy / "router_config.json").write_text(content)
        with pytest.raises(CheckpointError, match="damaged"):
            load_bi_encoder(resolve(str(copy)), "cpu")
        with pytest.raises(CheckpointError, match="damaged"):
            load_tokenizer(str(copy))

    @pytest.mark.parametrize("content", ["{", "{}", "[]"])
    def test_a_damaged_note_of_what_passages_are_embedded_with(self, copy, content):
        (copy / "passages.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"passages.json is damaged"):
            resolve(str(copy))

    def test_without_that_note_it_is_a_model_of_its_own(self, copy):
        (copy / "passages.json").unlink()
        found = resolve(str(copy))
        assert found.index_revision == found.revision

    def test_a_missing_route_is_said(self, base):
        sentence_transformers = pytest.importorskip("sentence_transformers")
        from sentence_transformers.models import Router

        model = load_bi_encoder(base, "cpu")
        router = Router({"query": list(model)}, default_route="query")
        with pytest.raises(CheckpointError, match="has none for 'document'"):
            side_of(sentence_transformers.SentenceTransformer(modules=[router], device="cpu"), "document")
