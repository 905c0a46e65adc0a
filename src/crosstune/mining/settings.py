"""How many negatives of which kind a training group gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from crosstune.errors import ConfigError


class Band(str, Enum):
    """Where a negative came from."""

    JUDGED = "judged"  # a person said it is not relevant
    HARD = "hard"  # the first stage's top ranks
    MID = "mid"  # its middle ranks
    RANDOM = "random"  # anywhere in the corpus


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """Settings of negative mining.

    Attributes:
        n_negatives: Negatives of a group, judged ones included.
        hard, mid, random: Shares of the negatives that are not judged ones; they add up to 1.
        hard_last_rank: Hard negatives come from ranks 1 to this one.
        mid_last_rank: Mid negatives come from the ranks after it, up to this one or the end of the ranking.
        margin: A candidate whose similarity to the question reaches this share of the positive's may be an
            unlabelled answer and is left out. 0.95 is what NV-Retriever found best (TopK-PercPos, Moreira
            et al. 2024, arXiv:2407.15831).
        seed: Of the choice among the candidates that passed.

    Raises:
        ConfigError: A value is out of range.
    """

    n_negatives: int = 5
    hard: float = 0.6
    mid: float = 0.25
    random: float = 0.15
    hard_last_rank: int = 20
    mid_last_rank: int = 100
    margin: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.hard, self.mid, self.random)
        if self.n_negatives < 1:
            raise ConfigError(f"n_negatives is {self.n_negatives}; a group needs at least 1 negative")
        if min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise ConfigError(f"the shares hard, mid and random are {shares}; give three of 0 or more that sum to 1")
        if not 1 <= self.hard_last_rank < self.mid_last_rank:
            raise ConfigError(
                f"hard_last_rank is {self.hard_last_rank} and mid_last_rank {self.mid_last_rank}; "
                "the first must be at least 1 and the second larger"
            )
        if not 0 < self.margin <= 1:
            raise ConfigError(f"margin is {self.margin}; give a share of the positive's similarity above 0, up to 1")

    def quotas(self, n: int) -> dict[Band, int]:
        """Share `n` negatives out over the bands by largest remainder; of equal ones the harder band first.

        >>> MiningSettings().quotas(5) == {Band.HARD: 3, Band.MID: 1, Band.RANDOM: 1}
        True
        """
        exact = {Band.HARD: self.hard * n, Band.MID: self.mid * n, Band.RANDOM: self.random * n}
        quotas = {band: math.floor(share) for band, share in exact.items()}
        by_remainder = sorted(exact, key=lambda band: quotas[band] - exact[band])
        for band in by_remainder[: n - sum(quotas.values())]:
            quotas[band] += 1
        return quotas
