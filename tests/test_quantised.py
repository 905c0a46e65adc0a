"""int8 on disk: by hand, within half a step of the weights, and a reranker that ranks as before."""

import pytest
import torch
from safetensors.torch import load_file

from crosstune.checkpoints import Checkpoint, CheckpointKind, load_reranker, resolve
from crosstune.errors import CheckpointError
from crosstune.pair_encoding import PairEncoder
from crosstune.quantised import QUANTISED, dequantise, quantise, save_quantised


def test_by_hand():
    # The first row's largest value 2.54 makes its scale 0.02: -1.27 is -63.5, which rounds to the even -64.
    tensors = quantise({"w": torch.tensor([[2.54, -1.27, 0.0], [0.0, 0.0, 0.0]]), "b": torch.tensor([0.1, 0.2])})
    assert tensors["w"].dtype == torch.int8
    assert tensors["w"].tolist() == [[127, -64, 0], [0, 0, 0]]
    assert tensors["w/scale"].tolist()[0] == pytest.approx(0.02)
    assert tensors["b"].tolist() == pytest.approx([0.1, 0.2])
    weights = dequantise(tensors)
    assert set(weights) == {"w", "b"}
    assert weights["w"].tolist() == [pytest.approx([2.54, -1.28, 0.0]), [0.0, 0.0, 0.0]]


def test_no_weight_is_off_by_more_than_half_a_step():
    weight = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    tensors = quantise({"w": weight})
    off = (dequantise(tensors)["w"] - weight).abs()
    assert bool((off <= tensors["w/scale"][:, None] * 0.5001).all())


@pytest.fixture
def folder(load, bert, tmp_path):
    loaded = load(bert)
    loaded.model.config.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    save_quantised(loaded.model.state_dict(), tmp_path)
    return tmp_path


def test_a_reranker_is_loaded_from_it(folder, load, bert):
    checkpoint = resolve(str(folder))
    assert checkpoint.kind is CheckpointKind.RERANKER
    model, tokenizer = load_reranker(checkpoint, dropout=0.0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(t.dtype == torch.int8 for name, t in load_file(folder / QUANTISED).items() if t.dim() == 2)
    encoder = PairEncoder(tokenizer, 48)
    texts = encoder.tokenize(["refund to a card", "a refund is paid to your card after thirty days"])
    inputs = encoder.pad([encoder.pair(*texts)])
    with torch.no_grad():
        found, expected = (m.eval()(**inputs).logits.item() for m in (model, load(bert).model))
    assert found == pytest.approx(expected, abs=0.05)
    assert found != expected


def test_a_head_that_is_missing_is_an_error_and_not_made_up(folder):
    from safetensors.torch import save_file

    tensors = load_file(folder / QUANTISED)
    save_file({name: tensor for name, tensor in tensors.items() if "classifier" not in name}, folder / QUANTISED)
    with pytest.raises(CheckpointError, match="lacks classifier"):
        load_reranker(Checkpoint("q", folder, "", CheckpointKind.RERANKER))
