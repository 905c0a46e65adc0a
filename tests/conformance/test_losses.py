"""Every registered loss keeps the contract of `training/losses/base.py`. A new loss is picked up here."""

import math

import pytest
import torch

from crosstune.errors import ConfigError
from crosstune.training.losses import LOSSES, BinaryCrossEntropy, make_loss

# Two groups of three candidates, the second with one candidate of padding.
LOGITS = [[2.0, 0.5, -1.0], [-0.5, 0.25, 0.0]]
LABELS = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
MASK = [[True, True, True], [True, True, False]]

BY_HAND = {
    # Group 1: e^2 = 7.389056, e^0.5 = 1.648721, e^-1 = 0.367879, sum 9.405656;
    # -ln(7.389056 / 9.405656) = 0.241312. Group 2, padding left out: e^-0.5 = 0.606531,
    # e^0.25 = 1.284025, sum 1.890556; -ln(0.606531 / 1.890556) = 1.136871. Mean: 0.689092.
    "lce": 0.689092,
    # Softplus of -z for positives and of z for negatives: ln(1+e^-2) = 0.126928, ln(1+e^0.5) = 0.974077,
    # ln(1+e^-1) = 0.313262; ln(1+e^0.5) = 0.974077, ln(1+e^0.25) = 0.825939. Sum 3.214283, mean 0.642857.
    "bce": 0.642857,
}


@pytest.fixture(params=sorted(LOSSES))
def name(request):
    return request.param


def tensors(logits=LOGITS, labels=LABELS, mask=MASK):
    return torch.tensor(logits), torch.tensor(labels), torch.tensor(mask)


def test_a_value_by_hand(name):
    assert float(make_loss(name)(*tensors())) == pytest.approx(BY_HAND[name], abs=2e-6)


def test_lower_when_a_positive_rises(name):
    logits, labels, mask = tensors()
    values = []
    for rise in (-3.0, -1.0, 0.0, 1.0, 3.0):
        raised = logits.clone()
        raised[0, 0] += rise
        values.append(float(make_loss(name)(raised, labels, mask)))
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)


def test_higher_when_a_negative_rises(name):
    logits, labels, mask = tensors()
    raised = logits.clone()
    raised[1, 1] += 1.0
    assert make_loss(name)(raised, labels, mask) > make_loss(name)(logits, labels, mask)


def test_the_order_of_candidates_does_not_count(name):
    parts = tensors()
    shuffled = [part[:, [2, 0, 1]] for part in parts]
    assert float(make_loss(name)(*shuffled)) == pytest.approx(float(make_loss(name)(*parts)), abs=1e-6)


def test_the_order_of_groups_does_not_count(name):
    parts = tensors()
    assert float(make_loss(name)(*[part.flip(0) for part in parts])) == pytest.approx(
        float(make_loss(name)(*parts)), abs=1e-6
    )


@pytest.mark.parametrize("rubbish", [0.0, 1e4, -1e4, math.inf, math.nan])
def test_padding_does_not_count(name, rubbish):
    logits, labels, mask = tensors()
    wider = torch.cat([logits, torch.full((2, 2), rubbish)], dim=1)
    wider[1, 2] = rubbish
    padding = torch.zeros(2, 2)
    value = make_loss(name)(wider, torch.cat([labels, padding], 1), torch.cat([mask, padding.bool()], 1))
    assert float(value) == pytest.approx(float(make_loss(name)(logits, labels, mask)), abs=1e-6)


def test_gradients_by_sign_and_none_through_padding(name):
    logits, labels, mask = tensors()
    logits.requires_grad_()
    make_loss(name)(logits, labels, mask).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, 0] < 0).all()  # positives are pushed up
    assert (logits.grad[:, 1] > 0).all()  # negatives down
    assert logits.grad[0, 2] > 0
    assert logits.grad[1, 2] == 0  # padding nowhere


def test_gradients_agree_with_finite_differences(name):
    logits, labels, mask = tensors()
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: make_loss(name)(x, labels.double(), mask), (logits,))


@pytest.mark.parametrize("constant", [-4.0, 0.0, 7.5])
def test_chance_is_the_loss_of_a_constant_model(name, constant):
    # Two groups of 3 and one of 2: 8 pairs, 3 positives. BCE's chance is that of the best constant: the share
    # 3/8 as a probability, logit ln(3/5).
    sizes, share = (3, 3, 2), 3 / 8
    if name == "bce":
        constant = math.log(3 / 5)
    logits = torch.full((3, 3), constant)
    labels = torch.tensor([[1.0, 0, 0]] * 3)
    mask = torch.arange(3) < torch.tensor(sizes)[:, None]
    loss = make_loss(name)
    assert loss.chance(sizes, share) == pytest.approx(float(loss(logits, labels, mask)), abs=1e-6)


def test_chance_by_hand():
    assert make_loss("lce").chance([6, 6], 1 / 6) == pytest.approx(math.log(6))
    assert make_loss("lce").chance([2, 8], 0.2) == pytest.approx(math.log(4))  # (ln 2 + ln 8) / 2
    assert make_loss("bce").chance([2, 2], 0.5) == pytest.approx(math.log(2))
    # One positive of weight 5 against five negatives: balanced, and (5 ln 2 + 5 ln 2) / 6 a pair.
    assert make_loss("bce", 5.0).chance([6], 1 / 6) == pytest.approx(10 / 6 * math.log(2))
    assert make_loss("bce").chance([4], 0.0) == 0.0


def test_no_constant_beats_the_chance_of_bce():
    loss = make_loss("bce", 3.0)
    labels, mask = torch.tensor([[1.0, 0, 0, 0, 0]]), torch.ones(1, 5, dtype=torch.bool)
    values = [float(loss(torch.full((1, 5), c / 50), labels, mask)) for c in range(-150, 150)]
    assert min(values) == pytest.approx(loss.chance([5], 0.2), abs=1e-4)


@pytest.mark.parametrize("pos_weight", [1.0, 4.0])
def test_bce_is_torchs(pos_weight):
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 4) * 3, torch.rand(5, 4)
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(pos_weight))(logits, labels)
    ours = BinaryCrossEntropy(pos_weight)(logits, labels, torch.ones(5, 4, dtype=torch.bool))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-7)


def test_lce_is_torchs_cross_entropy():
    torch.manual_seed(0)
    logits = torch.randn(5, 4) * 3
    labels = torch.nn.functional.one_hot(torch.tensor([0, 3, 1, 1, 2]), 4).float()
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3, 1, 1, 2]))
    ours = make_loss("lce")(logits, labels, torch.ones(5, 4, dtype=torch.bool))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


class TestMakeLoss:
    def test_unknown(self):
        with pytest.raises(ConfigError, match="bce, lce"):
            make_loss("mse")

    def test_pos_weight_belongs_to_bce(self):
        assert make_loss("bce", 2.0).pos_weight == 2.0
        with pytest.raises(ConfigError, match="lce"):
            make_loss("lce", 2.0)

    @pytest.mark.parametrize("weight", [0.0, -1.0, math.nan])
    def test_pos_weight_must_be_positive(self, weight):
        with pytest.raises(ConfigError, match="above 0"):
            make_loss("bce", weight)
