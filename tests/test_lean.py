import pytest
import torch

from crosstune.bi_encoder.loading import load_bi_encoder
from crosstune.checkpoints import resolve
from crosstune.lean import Lean, LeanLayers, WordRows, lean, lean_vectors
from crosstune.pair_encoding import PairEncoder

PAIRS = [
    ("how do I reset my password", "reset your password with the link that we mail to you plan basic"),
    ("refund", "paid to your card"),
    ("where is the invoice of this month", "the billing page"),
]


@pytest.fixture(params=["bert", "xlm-roberta", "modernbert", "distilbert"])
def parts(request, load, families):
    loaded = load(families[request.param], dropout=0.0)
    encoder = PairEncoder(loaded.tokenizer, 48)
    pairs = [encoder.pair(*encoder.tokenize([query, passage])) for query, passage in PAIRS]
    return request.param, loaded.model.eval(), encoder.pad(pairs)


def test_which_families_run_the_lean_pass(parts):
    family, model, _ = parts
    assert isinstance(lean(model), Lean) == (family in ("bert", "xlm-roberta"))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_logits_are_the_models_own(parts, attention):
    _, model, inputs = parts
    model.set_attn_implementation(attention)
    assert (inputs["attention_mask"] == 0).any()  # padding is part of the test
    with torch.no_grad():
        expected = model(**inputs).logits[:, 0]
        assert expected.std() > 0.01
        torch.testing.assert_close(lean(model)(**inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_gradients_are_the_models_own(parts, attention):
    _, model, inputs = parts
    model.set_attn_implementation(attention)
    weights = torch.tensor([1.0, -2.0, 0.5])
    (model(**inputs).logits[:, 0] * weights).sum().backward()
    expected = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    (lean(model)(**inputs) * weights).sum().backward()
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_without_padding(parts):
    _, model, inputs = parts
    whole = {name: tensor[:1] for name, tensor in inputs.items()}
    n_tokens = int(whole["attention_mask"].sum())
    whole = {name: tensor[:, :n_tokens] for name, tensor in whole.items()}
    with torch.no_grad():
        torch.testing.assert_close(lean(model)(**whole), lean(model)(**inputs)[:1], rtol=0, atol=1e-5)


def test_rows_of_the_words_seen_do_for_the_whole_table(load, bert):
    loaded = load(bert, dropout=0.0)
    encoder = PairEncoder(loaded.tokenizer, 48)
    inputs = encoder.pad([encoder.pair(*encoder.tokenize(list(PAIRS[0])))])
    table = loaded.model.get_input_embeddings().weight
    used = inputs["input_ids"].unique()
    module = lean(loaded.model.eval())
    with torch.no_grad():
        expected = module(**inputs)
        module.rows = WordRows(table, used)
        torch.testing.assert_close(module(**inputs), expected, rtol=0, atol=0)
        before = table.clone()
        module.rows.weight += 1.0
        assert torch.equal(table, before)
        module.rows.publish()
    # The rows that were seen have moved by 1, the others not at all.
    moved = (table - before).abs().sum(1) > 0
    assert moved.nonzero()[:, 0].tolist() == used.tolist()
    torch.testing.assert_close(table[used], before[used] + 1.0)


class TestPacked:
    """Without padding, over a stand-in for the GPU's kernel; tests/training/test_gpu.py asks the kernel itself."""

    @pytest.fixture(autouse=True)
    def kernel(self, monkeypatch):
        """What the kernel computes, text by text, and the shapes it was asked for."""
        asked = []

        def varlen_attn(query, key, value, bounds_q, bounds_k, longest_q, longest_k):
            asked.append((len(query), len(key)))
            texts = []
            for begin_q, end_q, begin_k, end_k in zip(bounds_q, bounds_q[1:], bounds_k, bounds_k[1:], strict=False):
                assert end_q - begin_q <= longest_q
                assert end_k - begin_k <= longest_k
                parts = query[begin_q:end_q], key[begin_k:end_k], value[begin_k:end_k]
                one = torch.nn.functional.scaled_dot_product_attention(*(part.transpose(0, 1) for part in parts))
                texts.append(one.transpose(0, 1))
            return torch.cat(texts)

        monkeypatch.setattr("crosstune.lean.varlen_attn", varlen_attn)
        monkeypatch.setattr(LeanLayers, "_packs", lambda layers: True)
        return asked

    @pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
    def test_logits_and_gradients_are_the_models_own(self, load, families, family, kernel):
        loaded = load(families[family], dropout=0.0)
        encoder = PairEncoder(loaded.tokenizer, 48)
        inputs = encoder.pad([encoder.pair(*encoder.tokenize(list(pair))) for pair in PAIRS])
        model, weights = loaded.model.eval(), torch.tensor([1.0, -2.0, 0.5])
        expected = model(**inputs).logits[:, 0]
        (expected * weights).sum().backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        found = lean(model)(**inputs)
        (found * weights).sum().backward()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        for name, parameter in model.named_parameters():
            if name in gradients:
                torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5, msg=name)
        # Not a token of padding goes through the layers, and the last one is asked for first tokens alone.
        n_tokens = int(inputs["attention_mask"].sum())
        assert n_tokens < inputs["input_ids"].numel()
        assert kernel == [(n_tokens, n_tokens), (len(PAIRS), n_tokens)]

    def test_vectors_are_the_librarys(self, bare_bert):
        model = load_bi_encoder(resolve(str(bare_bert)), "cpu").eval()
        texts = ["reset your password", "a refund is paid to your card after thirty days", "invoice"]
        inputs = model.tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            expected = model(dict(inputs))["sentence_embedding"]
            torch.testing.assert_close(lean_vectors(model)(**inputs), expected, rtol=0, atol=1e-5)
