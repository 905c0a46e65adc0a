"""Which stages there is time for."""

from types import SimpleNamespace

import pytest

from crosstune.recipes import tune as recipe
from crosstune.recipes.settings import TuneSettings


@pytest.mark.parametrize(
    ("after_s", "enough_s", "needed_s", "whole", "second"),
    [
        # 320 s of budget leave 300; of what the first stage's embedding leaves of them, 0.6 are the cross-encoder's.
        (30, 0, 162, True, True),
        (30, 0, 163, True, False),
        # Two epochs of the first stage take 135 of those 270 s: the other half is the cross-encoder's.
        (30, 135, 135, True, True),
        (30, 135, 136, True, False),
        (30, 900, 40, True, True),  # never less than 0.15 of them
        (30, 900, 41, True, False),
        # Half an epoch of both sides and embedding anew take more than 0.85 of 300 s: questions alone, in 12.
        (30, 901, 288, False, True),
        (30, 901, 289, False, False),
        (256, 0, 100, False, True),
    ],
)
def test_what_there_is_time_for(after_s, enough_s, needed_s, whole, second):
    remembered, said, notes = {}, [], []
    folder = SimpleNamespace(recall=remembered.get, remember=lambda **values: remembered.update(values))
    prepared = SimpleNamespace(
        stopwatch=SimpleNamespace(elapsed_s=0.0), collection=SimpleNamespace(passages=range(1234))
    )
    measured = SimpleNamespace(
        plan=lambda budget_s: SimpleNamespace(judging_s=needed_s, worth_it=needed_s <= budget_s + 1e-9),
        reading=lambda budget_s: None,
    )
    tuner = SimpleNamespace(
        after_s=after_s,
        whole=True,
        seconds=lambda n_epochs: enough_s * n_epochs / 2,
        questions_s=lambda budget_s: 0.1 * budget_s,
    )
    stages = recipe._Stages(prepared, None, TuneSettings(budget_s=320), folder, None, said.append)
    assert stages._affordable(tuner, measured, notes) == (whole, second, 0)
    assert said == notes
    assert len(said) == 2 - whole - second
    assert any("embedding 1,234 passages" in line for line in said) is not whole
    assert any("cross-encoder was left out" in line for line in said) is not second
    prepared.stopwatch.elapsed_s = 319.0  # a continued run decides nothing anew
    assert stages._affordable(tuner, measured, []) == (whole, second, 0)


@pytest.mark.parametrize(
    ("least_s", "judging_s", "whole", "second"),
    [
        (191, 75, True, True),  # a quarter of the 300 s may be read in; 0.85 of the others are 191.25
        (192, 75, False, True),  # what is read costs both sides of the first stage their time
        (192, 76, True, False),
    ],
)
def test_a_reranker_that_there_is_no_time_to_tune_reads_as_it_came(least_s, judging_s, whole, second):
    remembered, said = {}, []
    folder = SimpleNamespace(recall=remembered.get, remember=lambda **values: remembered.update(values))
    prepared = SimpleNamespace(
        stopwatch=SimpleNamespace(elapsed_s=0.0), collection=SimpleNamespace(passages=range(1234))
    )
    measured = SimpleNamespace(
        plan=lambda budget_s: SimpleNamespace(judging_s=999, worth_it=False),
        reading=lambda budget_s: SimpleNamespace(judging_s=judging_s) if judging_s <= budget_s else None,
    )
    tuner = SimpleNamespace(after_s=0, whole=True, seconds=lambda n_epochs: least_s * n_epochs / 0.5)
    stages = recipe._Stages(prepared, None, TuneSettings(budget_s=320), folder, None, said.append)
    expected = (whole, second, judging_s if second else 0)
    assert stages._affordable(tuner, measured, []) == expected
    assert any("cross-encoder was left out" in line for line in said) is not second
    prepared.stopwatch.elapsed_s = 319.0
    assert stages._affordable(tuner, measured, []) == expected


def test_where_the_index_must_stay_no_time_is_kept_for_both_sides():
    remembered, notes = {}, []
    folder = SimpleNamespace(recall=remembered.get, remember=lambda **values: remembered.update(values))
    prepared = SimpleNamespace(stopwatch=SimpleNamespace(elapsed_s=0.0))
    tuner = SimpleNamespace(after_s=1, whole=False, seconds=lambda n: n, questions_s=lambda budget_s: 0.1 * budget_s)
    asked = []
    measured = SimpleNamespace(
        plan=lambda budget_s: asked.append(budget_s) or SimpleNamespace(judging_s=1, worth_it=True)
    )
    stages = recipe._Stages(prepared, None, TuneSettings(budget_s=320, keep_index=True), folder, None, notes.append)
    assert stages._affordable(tuner, measured, notes) == (False, True, 0)
    assert notes == []  # it was asked for
    assert asked == [300, 288]
    # Of what it may take, 0.4 beside a cross-encoder and 0.85 alone, the tuner itself takes what questions need.
    assert stages._first_stage_s(300, tuner, whole=False, alone=False) == 120
    assert stages._first_stage_s(300, tuner, whole=False, alone=True) == 255
