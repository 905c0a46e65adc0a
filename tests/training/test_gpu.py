"""What only a GPU can show: pytest -m gpu. Tiny models; the figures to compare with are computed in fp32 on the CPU."""

import numpy as np
import pytest
import torch

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.checkpoints import resolve
from crosstune.pair_encoding import PairEncoder
from crosstune.scoring import TorchScorer
from crosstune.training import TrainingSettings, load_trained, make_loss, measure_training, train
from crosstune.training.batches import GroupCollator
from crosstune.training.engine import Engine
from crosstune.training.loop import Batches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
LEAN = ("bert", "xlm-roberta")
FAMILIES = (*LEAN, "modernbert", "distilbert")


def _pairs(corpus):
    queries = [query.text for query in corpus.queries.values()]
    return [(query, passage.text) for query in queries[:3] for passage in corpus.passages.values()]


def _inputs(loaded, corpus):
    encoder = PairEncoder(loaded.tokenizer, 96)
    inputs = encoder.pad([encoder.pair(*encoder.tokenize(list(pair))) for pair in _pairs(corpus)])
    assert (inputs["attention_mask"] == 0).any()
    return inputs


@pytest.mark.parametrize("family", LEAN)
def test_without_padding_the_kernel_gives_the_models_own_logits(load, families, corpus, family):
    loaded = load(families[family], dropout=0.0)
    inputs = _inputs(loaded, corpus)
    with torch.no_grad():
        expected = loaded.model(**inputs).logits[:, 0]
        scorer = TorchScorer(loaded.model.cuda(), loaded.tokenizer, 96, "bf16")
        assert scorer._forward._packs()
        found = scorer._forward(**{name: tensor.cuda() for name, tensor in inputs.items()}).cpu()
    # bfloat16 has 8 bits: what it rounds is small beside the spread of the logits.
    assert float((found - expected).abs().max()) < 0.08 * float(expected.max() - expected.min())
    assert np.corrcoef(found, expected)[0, 1] > 0.995


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", LEAN)
def test_gradients_are_those_of_the_cpu(load, families, corpus, family, precision):
    def gradients(device, precision):
        loaded = load(families[family], dropout=0.0)
        engine = Engine(loaded.model.to(device).train(), precision)
        engine.gradients([_inputs(loaded, corpus)], lambda logits: (logits * weights.to(logits.device)).sum())
        return torch.cat([p.grad.flatten().cpu() for p in engine.parameters.values() if p.grad is not None])

    weights = torch.linspace(-1, 1, 60)
    expected, found = gradients("cpu", "fp32"), gradients("cuda", precision)
    error = float((found - expected).norm() / expected.norm())
    assert error < (1e-4 if precision == "fp32" else 0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_logit_does_not_depend_on_its_company(load, families, corpus, family):
    loaded = load(families[family], dropout=0.0)
    pairs = _pairs(corpus)
    on_cpu = TorchScorer(loaded.model, loaded.tokenizer, 48).score(pairs).logits
    scorer = TorchScorer(loaded.model.cuda(), loaded.tokenizer, 48)
    together = scorer.score(pairs).logits
    assert np.abs(together - on_cpu).max() < 1e-4
    alone = np.concatenate([scorer.score([pair]).logits for pair in pairs[:8]])
    assert np.abs(alone - together[:8]).max() < 1e-5


def test_when_memory_runs_out_parts_are_halved(load, families, make_groups):
    loaded = load(families["bert"], dropout=0.0)
    model = loaded.model.cuda().train()
    encoder = PairEncoder(loaded.tokenizer, 48)
    groups = make_groups(encoder, n_groups=512)
    engine = Engine(model, "fp32")

    def gradients(most_tokens):
        engine.forget_gradients()
        batches = Batches(engine, GroupCollator(encoder, most_tokens), groups, make_loss("bce"), most_tokens)
        torch.cuda.reset_peak_memory_stats()
        loss = batches.gradients(range(len(groups)))
        grads = torch.cat([p.grad.flatten() for p in engine.parameters.values() if p.grad is not None])
        return loss, grads.clone(), torch.cuda.max_memory_allocated()

    loss, expected, peak = gradients(10**6)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.5 * peak / total)
    try:
        limited, found, lower = gradients(10**6)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert lower <= 0.5 * peak
    assert limited == pytest.approx(loss, rel=1e-4)
    assert float((found - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_run_learns_and_its_model_loads_on_the_cpu(load, families, make_groups, tmp_path, family):
    loaded = load(families[family], dropout=0.0)
    model = loaded.model.cuda()
    encoder = PairEncoder(loaded.tokenizer, 48)
    groups = make_groups(encoder)
    way = measure_training(model, encoder, [pair for group in groups for pair in group.pairs])[0]
    settings = TrainingSettings(
        n_steps=60, learning_rate=2e-3, batch_groups=8, precision=way.precision, attention=way.attention
    )

    def validate(found):
        scorer = TorchScorer(found, loaded.tokenizer, 48)
        logits = [scorer.score_encoded(list(group.pairs)) for group in groups]
        return float(np.mean([row[0] > row[1:].max() for row in logits]))

    before = validate(model)
    result = train(model, encoder, groups, make_loss("lce"), validate, settings, tmp_path)
    kept = load_trained(result.model_path)
    assert next(kept.parameters()).device.type == "cpu"
    assert validate(kept) >= max(0.9, before)


def test_vectors_of_the_lean_pass_are_the_librarys(bare_bert):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = ["reset your password", "a refund", "download the invoice of every month in the billing page"]
    expected = sentence_transformers.SentenceTransformer(str(bare_bert), device="cpu").encode(
        texts, normalize_embeddings=True
    )
    for precision, most in (("fp32", 1e-5), ("bf16", 0.02)):
        embedder = SentenceTransformerEmbedder(resolve(str(bare_bert)), precision=precision, device="cuda")
        assert np.abs(embedder.embed_passages(texts) - expected).max() < most
