"""Quotas by largest remainder, and settings that make no sense."""

import pytest

from crosstune.errors import ConfigError
from crosstune.mining import Band, MiningSettings


@pytest.mark.parametrize(
    ("n", "hard", "mid", "random"),
    [
        (0, 0, 0, 0),
        (1, 1, 0, 0),  # 0.6 0.25 0.15
        (2, 1, 1, 0),  # 1.2 0.5 0.3
        (4, 2, 1, 1),  # 2.4 1.0 0.6
        (5, 3, 1, 1),  # 3.0 1.25 0.75
        (7, 4, 2, 1),  # 4.2 1.75 1.05
        (20, 12, 5, 3),
    ],
)
def test_quotas(n, hard, mid, random):
    assert MiningSettings().quotas(n) == {Band.HARD: hard, Band.MID: mid, Band.RANDOM: random}


def test_equal_remainders_favour_the_harder_band():
    thirds = MiningSettings(hard=1 / 3, mid=1 / 3, random=1 / 3)
    assert thirds.quotas(1) == {Band.HARD: 1, Band.MID: 0, Band.RANDOM: 0}
    assert thirds.quotas(2) == {Band.HARD: 1, Band.MID: 1, Band.RANDOM: 0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_negatives": 0}, "n_negatives is 0"),
        ({"hard": 0.7}, "sum to 1"),
        ({"hard": 1.1, "mid": -0.25}, "0 or more"),
        ({"hard_last_rank": 0}, "hard_last_rank is 0"),
        ({"hard_last_rank": 100}, "mid_last_rank 100"),
        ({"margin": 0.0}, "margin is 0.0"),
        ({"margin": 1.01}, "margin is 1.01"),
    ],
)
def test_senseless_settings_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        MiningSettings(**wrong)
