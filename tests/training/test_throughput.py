from itertools import accumulate

import pytest
import torch

from crosstune.bi_encoder import TextEncoder, load_bi_encoder
from crosstune.checkpoints import resolve
from crosstune.pair_encoding import PairEncoder
from crosstune.training import measure_training
from crosstune.training.engine import Engine


def clock_of(durations):
    """A clock by which the timed pieces of work last so long, one after the other."""
    ticks = iter([tick for end, d in zip(accumulate(durations), durations, strict=True) for tick in (end - d, end)])
    return lambda: next(ticks)


@pytest.fixture
def parts(load, bert):
    loaded = load(bert)
    encoder = PairEncoder(loaded.tokenizer, 32)
    texts = encoder.tokenize(["refund", "paid to your card", "the billing page of every month"])
    return loaded.model, encoder, [encoder.pair(texts[0], texts[1]), encoder.pair(texts[0], texts[2])]


def test_by_the_clock(parts):
    model, encoder, pairs = parts
    n_tokens = sum(len(pair.ids) for pair in pairs)
    # Of each way: both pairs, the shorter one, the optimizer; of each three times, of which the first only warms up.
    durations = [
        *(1.25, 2.0, 3.0), *(1.0, 0.5, 0.75), *(9.0,),  # sdpa, fp32: 2, 0.5 and 9, which is hopeless at once
        *(6.0,), *(1.0, 0.0, 0.0), *(1.0, 0.0, 0.0),  # sdpa, bf16: 6, and nothing beside
        *(1.0, 0.5, 0.75), *(0.5, 0.25, 0.25), *(1.0, 0.125, 0.5),  # eager, fp32: 0.5, 0.25 and 0.125
        *(3.0, 1.5, 1.0), *(2.0, 1.0, 1.0), *(1.0, 1.0, 1.0),  # eager, bf16: 1, all of it launches, and 1
    ]  # fmt: skip
    clock = clock_of(durations)
    found = measure_training(model, encoder, pairs, clock)
    # In all 0.25 + 0.375, 0.2 + 2, 6 and 1.5 + 9.5: at least a fifth of the pairs' seconds is their tokens'.
    assert [(f.attention, f.precision) for f in found] == [
        ("eager", "fp32"),
        ("eager", "bf16"),
        ("sdpa", "bf16"),
        ("sdpa", "fp32"),
    ]
    assert [f.tokens_per_s for f in found] == pytest.approx([n_tokens / s for s in (0.25, 0.2, 6.0, 1.5)])
    assert [f.step_s for f in found] == [0.375, 2.0, 0.0, 9.5]
    assert found[0].seconds(2 * n_tokens) == pytest.approx(0.875)
    with pytest.raises(StopIteration):
        clock()


def test_the_model_is_unchanged_and_has_no_gradients(parts):
    model, encoder, pairs = parts
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert {f.attention for f in measure_training(model, encoder, pairs)} == {"sdpa", "eager"}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())


def out_of_memory_above(monkeypatch, n_texts):
    gradients = Engine.gradients

    def limited(self, slices, loss, twice=False):
        if sum(len(part["input_ids"]) for part in slices) > n_texts:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradients(self, slices, loss, twice)

    monkeypatch.setattr(Engine, "gradients", limited)


def test_what_does_not_fit_into_memory_is_timed_by_fewer_pairs(parts, monkeypatch):
    model, encoder, pairs = parts
    out_of_memory_above(monkeypatch, 1)
    # Of each way the clock is read once before memory runs out; then one pair takes 6 s, the shortest 6 and the
    # optimizer 6: hopeless, so that nothing is repeated.
    ticks = iter([0.0, *(0.0, 6.0), *(6.0, 12.0), *(12.0, 18.0)] * 4)
    found = measure_training(model, encoder, [pairs[0]] * 2, lambda: next(ticks))
    # Nothing is left beside the shortest, so that a fifth of the 6 s is put down to the tokens.
    assert [(f.tokens_per_s, f.step_s) for f in found] == [(pytest.approx(len(pairs[0]) / 1.2), 12.0)] * 4
    with pytest.raises(StopIteration):
        next(ticks)


def test_one_pair_that_does_not_fit_is_an_error(parts, monkeypatch):
    model, encoder, pairs = parts
    out_of_memory_above(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        measure_training(model, encoder, pairs)


def test_an_attention_that_the_model_lacks_is_left_out(parts, monkeypatch):
    model, encoder, pairs = parts

    def refuse(name):
        if name == "sdpa":
            raise ValueError("no such implementation")

    monkeypatch.setattr(model, "set_attn_implementation", refuse)
    assert {f.attention for f in measure_training(model, encoder, pairs)} == {"eager"}


def test_a_bi_encoder_is_timed_by_its_texts(bare_bert):
    model = load_bi_encoder(resolve(str(bare_bert)), "cpu")
    encoder = TextEncoder(model)
    texts = encoder.passages(["refund", "paid to your card"])
    n_tokens = sum(len(text) for text in texts)
    # Everything once, since more than 5 s are not spent: all texts 18, 17, 16 and 20 s, one text and the optimizer 6.
    found = measure_training(model, encoder, texts, clock_of([18, 6, 6, 17, 6, 6, 16, 6, 6, 20, 6, 6]))
    assert [(f.attention, f.precision) for f in found[:2]] == [("eager", "fp32"), ("sdpa", "bf16")]
    assert found[0].tokens_per_s == pytest.approx(n_tokens / 10)
