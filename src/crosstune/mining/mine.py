"""From a first stage's rankings to training groups."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

from crosstune.errors import ConfigError
from crosstune.mining.account import GroupAccount, MiningAccount
from crosstune.mining.rules import ExclusionRules
from crosstune.mining.settings import Band, MiningSettings
from crosstune.mining.sieve import Sieve, Similarity
from crosstune.progress import Progress, silent
from crosstune.text import content_hash
from crosstune.types import Collection, Run, TrainingGroup

# Passages drawn at random for one group before it is left short: enough to find a few that pass, and bounded.
_MOST_DRAWS = 256
_DRAWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class MinedGroups:
    """Training groups in the order of the queries, and the account of how they came about."""

    groups: tuple[TrainingGroup, ...]
    account: MiningAccount


def mine(
    collection: Collection,
    run: Run,
    train_query_ids: Sequence[str],
    *,
    protected_passage_ids: Set[str],
    near_duplicates: Mapping[str, frozenset[str]],
    similarity: Similarity | None,
    settings: MiningSettings,
    progress: Progress = silent,
) -> MinedGroups:
    """Choose negatives for every (query, positive) of the training queries.

    Passages judged not relevant come first. The other places are shared out over hard, mid and random
    negatives; a band that runs short is topped up from the hard ones left over, then the mid ones, then at
    random. Which passages can be negatives is `ExclusionRules`, and the margin rule: a candidate at least
    nearly as similar to the query as the group's own positive is left out. The group's own positive is the
    yardstick, as in NV-Retriever: one far-off answer among several would otherwise cost all groups of its
    query their hard negatives. Judged passages are exempt from the margin rule, because a person has
    decided.

    The choice depends on seed, query and positive alone, so neither order nor number of the other queries
    matters.

    Args:
        collection: Passages, queries, judgments.
        run: The first stage's ranking of every training query, best deep enough for the mid ranks.
        train_query_ids: Queries to mine for.
        protected_passage_ids: Answers of dev and test queries.
        near_duplicates: passage_id -> ids of its near-duplicates.
        similarity: Dense cosines, whatever the first stage is; None leaves the margin rule out, for data that
            the embedding model cannot read.
        settings: Numbers, shares, margin, seed.
        progress: Reports queries done.

    Raises:
        ConfigError: The run does not cover a training query or ranks a passage that is not in the collection.
    """
    rules = ExclusionRules(collection, protected_passage_ids, near_duplicates)
    miner = _Miner(collection, run, rules, similarity, settings)
    accounts: list[GroupAccount] = []
    without_positive: list[str] = []
    with progress("Mining negatives", len(train_query_ids)) as advance:
        for query_id in train_query_ids:
            found = miner.groups_of(query_id)
            accounts += found
            if not found:
                without_positive.append(query_id)
            advance(1)
    account = MiningAccount(
        collection,
        run.name,
        settings,
        tuple(accounts),
        tuple(without_positive),
        similarity is not None,
    )
    groups = (TrainingGroup(group.query_id, group.positive_id, group.negative_ids) for group in accounts)
    return MinedGroups(tuple(group for group in groups if group.negative_ids), account)


class _Miner:
    """What is the same for all groups."""

    def __init__(
        self,
        collection: Collection,
        run: Run,
        rules: ExclusionRules,
        similarity: Similarity | None,
        settings: MiningSettings,
    ) -> None:
        self._collection = collection
        self._run = run
        self._rules = rules
        self._similarity = similarity
        self._settings = settings
        self._corpus = list(collection.passages)

    def groups_of(self, query_id: str) -> list[GroupAccount]:
        judgments = self._collection.qrels.get(query_id, {})
        positives = [passage_id for passage_id, relevance in judgments.items() if relevance > 0]
        judged = [passage_id for passage_id, relevance in judgments.items() if relevance <= 0]
        ranked = self._ranked(query_id)
        return [self._group(query_id, positive_id, judged, ranked) for positive_id in positives]

    def _ranked(self, query_id: str) -> list[str]:
        if query_id not in self._run.candidates:
            raise ConfigError(
                f"ranking {self._run.name!r} does not cover training query {query_id!r}; "
                "retrieve for all training queries before mining"
            )
        ranked = [candidate.passage_id for candidate in self._run.candidates[query_id]]
        for passage_id in ranked:
            if passage_id not in self._collection.passages:
                raise ConfigError(
                    f"ranking {self._run.name!r} holds passage {passage_id!r}, which is not in the "
                    "collection; the first stage must search the collection's own passages"
                )
        return ranked

    def _group(self, query_id: str, positive_id: str, judged_ids: Sequence[str], ranked: Sequence[str]) -> GroupAccount:
        settings = self._settings
        rng = _rng(settings.seed, query_id, positive_id)
        sieve = self._sieve(query_id, positive_id)
        judged = _shuffled(sieve.passed_by_identity(judged_ids), rng)[: settings.n_negatives]
        decided = set(judged_ids)
        window = ranked[: settings.mid_last_rank]
        hard_window = set(ranked[: settings.hard_last_rank])
        passed = sieve.passed([passage_id for passage_id in window if passage_id not in decided])
        hard = _shuffled([passage_id for passage_id in passed if passage_id in hard_window], rng)
        mid = _shuffled([passage_id for passage_id in passed if passage_id not in hard_window], rng)
        drawn = self._drawn(sieve, decided | set(window), rng)
        taken = _share_out(hard, mid, drawn, settings.quotas(settings.n_negatives - len(judged)))
        return sieve.account({Band.JUDGED: judged, **taken})

    def _sieve(self, query_id: str, positive_id: str) -> Sieve:
        reason = self._rules.reason_for(query_id, positive_id)
        return Sieve(query_id, positive_id, reason, self._similarity, self._settings.margin)

    def _drawn(self, sieve: Sieve, known: Set[str], rng: random.Random) -> Iterator[str]:
        """Passages of the whole corpus at random that pass, looked at only as they are asked for."""
        places = rng.sample(range(len(self._corpus)), min(_MOST_DRAWS, len(self._corpus)))
        drawn = [self._corpus[place] for place in places if self._corpus[place] not in known]
        for start in range(0, len(drawn), _DRAWS_AT_ONCE):
            yield from sieve.passed(drawn[start : start + _DRAWS_AT_ONCE])


def _share_out(
    hard: list[str], mid: list[str], drawn: Iterator[str], quotas: Mapping[Band, int]
) -> dict[Band, list[str]]:
    """Fill each band's quota, then the places left over: from hard, then mid, then random."""
    taken = {
        Band.HARD: hard[: quotas[Band.HARD]],
        Band.MID: mid[: quotas[Band.MID]],
        Band.RANDOM: list(islice(drawn, quotas[Band.RANDOM])),
    }
    for band, rest in (
        (Band.HARD, iter(hard[quotas[Band.HARD] :])),
        (Band.MID, iter(mid[quotas[Band.MID] :])),
        (Band.RANDOM, drawn),
    ):
        n_open = sum(quotas.values()) - sum(map(len, taken.values()))
        taken[band] += islice(rest, n_open)
    return taken


def _rng(seed: int, query_id: str, positive_id: str) -> random.Random:
    # A number made of the ids, not their place or hash(): the same in every order, process and machine.
    return random.Random(int(content_hash(f"{seed}\0{query_id}\0{positive_id}"), 16))


def _shuffled(passage_ids: list[str], rng: random.Random) -> list[str]:
    return rng.sample(passage_ids, len(passage_ids))
