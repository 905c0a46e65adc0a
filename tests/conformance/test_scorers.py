"""What every scorer promises: order kept, company does not count. A new runtime gets a line in `EXACT` or `ROUNDED`."""

import functools
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from crosstune.errors import ConfigError
from crosstune.export import WEIGHT_COMPRESSION_HINTS, compress_openvino, quantize_onnx, to_onnx, to_openvino
from crosstune.pair_encoding import PairEncoder
from crosstune.scoring import OnnxScorer, OpenVinoScorer, TorchScorer
from crosstune.types import ScoreKind

FAMILIES = ("bert", "xlm-roberta", "modernbert", "distilbert")


@functools.cache
def folder():
    return Path(tempfile.mkdtemp(prefix="crosstune-scorers-"))


def graph(loaded, kind):
    """File of a family's graph; made once, since all models of a family here are one."""
    path = folder() / f"{loaded.model.config.model_type}-{kind}{'.xml' if 'openvino' in kind else '.onnx'}"
    if not path.is_file():
        encoder = PairEncoder(loaded.tokenizer, 64)
        texts = encoder.tokenize(["where is the invoice of this month", "refund", "reset your password", ""])
        pairs = [encoder.pair(query, passage) for query in texts for passage in texts]
        if kind == "onnx":
            to_onnx(loaded.model, encoder.pad_arrays(pairs), path)
        elif kind == "onnx-int8":
            quantize_onnx(graph(loaded, "onnx"), path)
        elif kind == "openvino":
            to_openvino(graph(loaded, "onnx"), path)
        else:
            # Scales fixed on a few pairs may fail random weights, for which there is the gate: see `quantize_openvino`.
            compress_openvino(graph(loaded, "onnx"), path)
    return path


def onnx(kind, precision):
    return lambda loaded, length: OnnxScorer(graph(loaded, kind), PairEncoder(loaded.tokenizer, length), precision)


def openvino(kind, precision):
    hints = WEIGHT_COMPRESSION_HINTS if precision == "int8" else {}
    return lambda loaded, length: OpenVinoScorer(
        graph(loaded, kind), PairEncoder(loaded.tokenizer, length), precision, hints
    )


# Those that give the model's own logits, and those that round them.
EXACT = {
    "torch": lambda loaded, length: TorchScorer(loaded.model, loaded.tokenizer, length),
    "onnx": onnx("onnx", "fp32"),
    "openvino": openvino("openvino", "fp32"),
}
ROUNDED = {
    "torch-bf16": lambda loaded, length: TorchScorer(loaded.model, loaded.tokenizer, length, "bf16"),
    "onnx-int8": onnx("onnx-int8", "int8"),
    "openvino-bf16": openvino("openvino", "bf16"),
    "openvino-int8": openvino("openvino-int8", "int8"),
}
LONG = "a refund is paid to your card after thirty days " * 12


@pytest.fixture(params=sorted(EXACT))
def make(request):
    return EXACT[request.param]


@pytest.fixture(params=sorted(EXACT | ROUNDED))
def make_any(request):
    return (EXACT | ROUNDED)[request.param]


@pytest.fixture(params=FAMILIES)
def loaded(request, load, families):
    return load(families[request.param])


@pytest.fixture
def pairs(corpus):
    found = [(q.text, p.full_text) for q in corpus.queries.values() for p in list(corpus.passages.values())[::2]]
    return [*found, ("refund", LONG), ("", "refund"), ("refund", ""), ("", "")]


def one_by_one(scorer, pairs):
    return np.concatenate([scorer.score_pairs([pair]) for pair in pairs])


def test_each_pair_has_the_models_own_logit(make, loaded, pairs):
    import torch

    scores = make(loaded, 60).score_pairs(pairs)
    assert scores.dtype == np.float64
    for (query, passage), score in list(zip(pairs, scores, strict=True))[::9]:
        inputs = loaded.tokenizer([query], [passage], truncation=True, max_length=60, return_tensors="pt")
        with torch.inference_mode():
            assert score == pytest.approx(float(loaded.model.eval()(**inputs).logits[0, 0]), abs=1e-5)


def test_company_and_order_do_not_count(make, loaded, pairs):
    scorer = make(loaded, 64)
    scores = scorer.score_pairs(pairs)
    assert scores.std() > 0.02  # pairs do differ, so a mix-up would show
    order = np.random.default_rng(0).permutation(len(pairs))
    np.testing.assert_allclose(scorer.score_pairs([pairs[i] for i in order]), scores[order], atol=1e-5)
    np.testing.assert_allclose(one_by_one(scorer, pairs[::7]), scores[::7], atol=1e-5)
    np.testing.assert_allclose(scorer.score_pairs([pairs[3]] * 5), [scores[3]] * 5, atol=1e-5)


def test_batch_size_does_not_count(make, loaded, pairs):
    scores = make(loaded, 64).score_pairs(pairs)
    small = make(loaded, 64)
    small.max_tokens = 100
    np.testing.assert_allclose(small.score_pairs(pairs), scores, atol=1e-5)


def test_runtimes_rank_alike_whatever_the_order(make_any, loaded, pairs):
    expected = EXACT["torch"](loaded, 64).score_pairs(pairs)
    scorer = make_any(loaded, 64)
    order = np.random.default_rng(0).permutation(len(pairs))
    found = np.empty(len(pairs))
    found[order] = scorer.score_pairs([pairs[i] for i in order])
    scorer.max_tokens = 100
    for scores in (found, scorer.score_pairs(pairs)):
        # Weights as random as these spread over more than a trained model's, so 8 bits round them harder.
        assert spearmanr(expected, scores).statistic > (0.9 if scorer.precision == "int8" else 0.99)
        # A logit of 8 bits would tie where the model's does not.
        assert len(set(scores.tolist())) > 0.8 * len(set(expected.tolist()))


def test_nothing_gives_nothing(make_any, loaded):
    scores = make_any(loaded, 64).score_pairs([])
    assert scores.shape == (0,)
    assert scores.dtype == np.float64


def test_scores_are_logits(make_any, loaded):
    assert make_any(loaded, 64).score_kind is ScoreKind.LOGIT


def test_bf16_ranks_alike(loaded, pairs):
    scores = TorchScorer(loaded.model, loaded.tokenizer, 64).score_pairs(pairs)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    rounded = TorchScorer(loaded.model, loaded.tokenizer, 64, "bf16").score_pairs(pairs)
    assert spearmanr(scores, rounded).statistic > 0.99
    assert not np.array_equal(scores, rounded)  # it did run in bf16
    assert len(set(rounded.tolist())) > 0.8 * len(set(scores.tolist()))  # a bf16 logit has 8 bits: it would tie
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert (tensor == before[name]).all()


def test_the_truncated_share_is_exact(load, bert):
    scorer = TorchScorer(*vars(load(bert)).values(), 20)
    scored = scorer.score([("refund", LONG), ("refund", "paid"), (LONG, "paid"), ("a", "b")])
    assert scored.truncated_share == 0.5
    assert scorer.score([]).truncated_share == 0.0


def test_pairs_are_read_in_blocks_and_nothing_differs(load, bert, monkeypatch):
    monkeypatch.setattr("crosstune.scoring.base._PAIRS_AT_ONCE", 3)
    scorer = TorchScorer(*vars(load(bert)).values(), 20)
    pairs = [("refund", LONG), ("refund", "paid"), (LONG, "paid"), ("a", "b"), ("refund", "")] * 2
    sizes, done = [], []
    scorer.encode, encode = lambda block: sizes.append(len(block)) or encode(block), scorer.encode

    @contextmanager
    def progress(label, total):
        assert total == 10
        yield done.append

    scored = scorer.score(pairs, progress)
    assert sizes == [3, 3, 3, 1]
    assert sum(done) == 10
    assert scored.truncated_share == 0.4
    alone = [scorer.score([pair]).logits[0] for pair in pairs]
    np.testing.assert_allclose(scored.logits, alone, atol=1e-5)


def test_truncation_is_counted_from_the_first_token_too_many(load, bert):
    loaded = load(bert)
    n_tokens = len(loaded.tokenizer("refund", "paid to your card")["input_ids"])
    for max_length, share in ((n_tokens, 0.0), (n_tokens - 1, 1.0)):
        scorer = TorchScorer(loaded.model, loaded.tokenizer, max_length)
        assert scorer.score([("refund", "paid to your card")]).truncated_share == share


def test_the_model_is_left_in_its_mode(load, bert):
    loaded = load(bert, dropout=0.5)
    for training in (True, False):
        loaded.model.train(training)
        scorer = TorchScorer(loaded.model, loaded.tokenizer, 64)
        first, second = (scorer.score_pairs([("refund", "paid to your card")]) for _ in range(2))
        assert first == second  # dropout is off while scoring
        assert loaded.model.training is training


def test_progress_counts_every_pair(load, bert, pairs):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def progress(label, total):
        seen.append(total)
        yield lambda n: seen.append(-n)

    TorchScorer(*vars(load(bert)).values(), 64).score_pairs(pairs, progress)
    assert seen[0] == len(pairs)
    assert sum(seen) == 0


def test_an_unknown_precision_is_refused(load, bert):
    with pytest.raises(ConfigError, match="int8"):
        TorchScorer(*vars(load(bert)).values(), 64, "int8")


def test_scoring_prints_nothing(loaded, pairs, capfd, recwarn):
    TorchScorer(loaded.model, loaded.tokenizer, 20).score_pairs(pairs)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
