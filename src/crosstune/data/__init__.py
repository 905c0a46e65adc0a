"""A user's files to a `Collection` and `Splits`.

`load` reads and cleans, `audit` reports the state of a file of any size, `split` makes leak-free splits.
"""

from crosstune.data.audit import Audit, Finding
from crosstune.data.beir import read_beir
from crosstune.data.coverage import MAX_UNKNOWN_SHARE, unknown_token_share
from crosstune.data.documents import Documents, read_documents
from crosstune.data.groups import group_queries
from crosstune.data.load import LoadedData, audit, load
from crosstune.data.mapping import MappedAnswers, Match, map_answers
from crosstune.data.near import near_duplicate_pairs, near_duplicate_passages
from crosstune.data.pairs import PairFile, read_pairs
from crosstune.data.settings import LoadSettings, SplitSettings
from crosstune.data.split import MIN_GROUPS, check_leaks, split, splits_from_user
from crosstune.data.trec import read_qrels, read_run, write_qrels, write_run

__all__ = [
    "MAX_UNKNOWN_SHARE",
    "MIN_GROUPS",
    "Audit",
    "Documents",
    "Finding",
    "LoadSettings",
    "LoadedData",
    "MappedAnswers",
    "Match",
    "PairFile",
    "SplitSettings",
    "audit",
    "check_leaks",
    "group_queries",
    "load",
    "map_answers",
    "near_duplicate_pairs",
    "near_duplicate_passages",
    "read_beir",
    "read_documents",
    "read_pairs",
    "read_qrels",
    "read_run",
    "split",
    "splits_from_user",
    "unknown_token_share",
    "write_qrels",
    "write_run",
]
