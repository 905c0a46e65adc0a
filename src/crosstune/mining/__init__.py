"""Rankings of a first stage to training groups: negatives by quota, filtered, with an account of it all."""

from crosstune.mining.account import GroupAccount, MiningAccount, MiningTotals, write_account
from crosstune.mining.mine import MinedGroups, mine
from crosstune.mining.rules import Reason
from crosstune.mining.settings import Band, MiningSettings
from crosstune.mining.sieve import Similarity

__all__ = [
    "Band",
    "GroupAccount",
    "MinedGroups",
    "MiningAccount",
    "MiningSettings",
    "MiningTotals",
    "Reason",
    "Similarity",
    "mine",
    "write_account",
]
