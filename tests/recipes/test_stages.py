"""Which stages there is time for."""

from types import SimpleNamespace

import pytest

from crosstune.recipes import tune as recipe
from crosstune.recipes.settings import TuneSettings


def _stages(said, **settings):
    """Of 320 s of budget 300 are left."""
    remembered = {}
    folder = SimpleNamespace(recall=remembered.get, remember=lambda **values: remembered.update(values))
    prepared = SimpleNamespace(
        stopwatch=SimpleNamespace(elapsed_s=0.0), collection=SimpleNamespace(passages=range(1234))
    )
    return recipe._Stages(prepared, None, TuneSettings(budget_s=320, **settings), folder, None, said.append)


def _tuner(after_s, enough_s, whole=True):
    """Two epochs of both sides take `enough_s`; questions alone a tenth of what they may."""
    return SimpleNamespace(
        after_s=after_s,
        whole=whole,
        seconds=lambda n_epochs: enough_s * n_epochs / 2,
        questions_s=lambda budget_s: 0.1 * budget_s,
    )


def _measured(needed_s, judging_s=None):
    """Tuning the cross-encoder is worth it from so many seconds on; what it reads as it came takes so many."""
    return SimpleNamespace(
        plan=lambda budget_s: SimpleNamespace(worth_it=needed_s <= budget_s + 1e-9),
        reading=lambda budget_s: (
            SimpleNamespace(judging_s=judging_s) if judging_s is not None and judging_s <= budget_s else None
        ),
    )


@pytest.mark.parametrize(
    ("after_s", "enough_s", "needed_s", "whole", "first_s"),
    [
        # Of what the first stage's embedding leaves of 300 s, 0.6 are the cross-encoder's; or 0.85 the first stage's.
        (30, 0, 162, True, 0.4 * 270),
        (30, 0, 163, True, 0.85 * 270),
        # Two epochs of the first stage take 135 of those 270 s: the other half is the cross-encoder's.
        (30, 135, 135, True, 135),
        (30, 135, 136, True, 0.85 * 270),
        (30, 900, 40, True, 0.85 * 270),  # never more than 0.85 of them
        # Half an epoch of both sides and embedding anew take more than 0.85 of 300 s: questions alone, in 12 s.
        (30, 901, 288, False, 0.4 * 300),
        (30, 901, 289, False, 0.85 * 300),
        (256, 0, 100, False, 0.4 * 300),
    ],
)
def test_what_there_is_time_for(after_s, enough_s, needed_s, whole, first_s):
    said, notes = [], []
    stages, tuner, measured = _stages(said), _tuner(after_s, enough_s), _measured(needed_s)
    assert stages._division(tuner, measured, notes) == (whole, pytest.approx(first_s))
    assert said == notes
    assert len(said) == 1 - whole
    assert any("embedding 1,234 passages" in line for line in said) is not whole
    stages._prepared.stopwatch.elapsed_s = 319.0  # a continued run decides nothing anew
    assert stages._division(tuner, measured, []) == (whole, pytest.approx(first_s))


@pytest.mark.parametrize(
    ("least_s", "judging_s", "whole", "first_s"),
    [
        (178.5, 90, True, 0.85 * 210),  # 0.3 of the 300 s may be read in; 0.85 of the others are 178.5
        (179, 90, False, 0.4 * 300),  # what is read costs both sides of the first stage their time
        (179, 91, True, 0.85 * 300),
        # No time for both sides: all but 12 s may be read in, since questions take a tenth of 120.
        (256, 288, False, 0.4 * 300),
        (256, 289, False, 0.85 * 300),
    ],
)
def test_a_reranker_that_there_is_no_time_to_tune_reads_as_it_came(least_s, judging_s, whole, first_s):
    stages, tuner = _stages([]), _tuner(0, 4 * least_s)
    assert stages._division(tuner, _measured(999, judging_s), []) == (whole, pytest.approx(first_s))


def test_where_the_index_must_stay_no_time_is_kept_for_both_sides():
    notes = []
    stages, tuner = _stages(notes, keep_index=True), _tuner(1, 1, whole=False)
    assert stages._division(tuner, _measured(288), notes) == (False, 120)
    assert notes == []  # it was asked for
    stages = _stages(notes, keep_index=True)
    assert stages._division(tuner, _measured(289), notes) == (False, 255)
