"""Train, dev and test, cut between groups of questions and never through one, and the proof of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from crosstune.data.groups import group_queries
from crosstune.data.settings import SplitSettings
from crosstune.errors import DataError, LeakageError
from crosstune.types import Collection, Splits

MIN_GROUPS = 10

_SHOWN_LEAKS = 3
_KIND = {False: "questions", True: "questions that people asked (synthetic ones do not count)"}


def split(collection: Collection, settings: SplitSettings | None = None) -> Splits:
    """Cut the questions into train, dev and test, whole groups at a time.

    Questions that are near-duplicates or share a relevant passage are one group (rule 3 of the evaluation
    rules). Groups are shuffled, then test and dev take those that fit; everything else is train. A group
    bigger than a quarter of the wanted size would make the figures hang on one subject, so it goes to train
    unless there are not enough smaller ones. Questions without a relevant passage follow their group, and go
    to train when nothing in it can be tested. Synthetic questions are for training alone: those whose group is in dev
    or test are in no split.

    Raises:
        DataError: Fewer than 10 groups with a question of a person's, so that no test could say anything.
        LeakageError: The result failed its own check.
    """
    settings = settings or SplitSettings()
    groups = group_queries(collection)
    members = _members(collection, groups)
    if len(members) < MIN_GROUPS:
        raise DataError(
            f"{len(members)} independent groups of {_KIND[_any_synthetic(collection)]} are too few to split into "
            f"train, dev and test (needed: {MIN_GROUPS}); add questions about other subjects, or give the split "
            'yourself in a column "split"'
        )
    order = sorted(members)
    random.Random(settings.seed).shuffle(order)
    n_dev, n_test = settings.target_sizes(sum(len(ids) for ids in members.values()))
    test = _take(order, members, n_test)
    dev = _take([group for group in order if group not in test], members, n_dev)
    splits = _splits(collection, groups, test, dev, settings.seed)
    check_leaks(collection, splits)
    return splits


def splits_from_user(
    collection: Collection,
    by_query: Mapping[str, str],
    settings: SplitSettings | None = None,
    drop_leaks: bool = False,
) -> Splits:
    """The splits that the user's data names; dev is cut from train, group-aware, when none is named.

    Args:
        by_query: query_id -> "train", "dev" or "test".
        settings: Size and seed of a dev that is cut from train.
        drop_leaks: Leave out train and dev questions that are near-duplicates of a question in a later split,
            which published benchmarks have; otherwise `check_leaks` raises for them.

    Raises:
        DataError: No train or no test, or a question without a split.
    """
    missing = [query_id for query_id in collection.queries if query_id not in by_query]
    if missing:
        raise DataError(f"{len(missing)} questions have no split, such as {missing[0]!r}; give each one")
    named = {name: [q for q in collection.queries if by_query[q] == name] for name in ("train", "dev", "test")}
    judged = [q for q in named["dev"] + named["test"] if collection.queries[q].synthetic]
    if judged:
        raise DataError(
            f"{len(judged)} synthetic questions are in dev or test, such as {judged[0]!r}; a model is judged by "
            "questions that people asked: put synthetic ones into train"
        )
    for name in ("train", "test"):
        if not any(collection.relevant(query_id) for query_id in named[name]):
            raise DataError(
                f'the split given has no question with an answer in "{name}"; name train and test questions, '
                "or leave the split to crosstune"
            )
    if drop_leaks:
        named = _without_leaks(collection, named)
    groups = group_queries(collection)
    if not named["dev"]:
        named["train"], named["dev"] = _cut_dev(collection, named["train"], groups, settings or SplitSettings())
    splits = Splits(tuple(named["train"]), tuple(named["dev"]), tuple(named["test"]), groups, seed=None)
    check_leaks(collection, splits)
    return splits


def check_leaks(collection: Collection, splits: Splits) -> int:
    """Prove that no split knows another's questions.

    Near-duplicate questions in two splits are a leak, always. A relevant passage common to two splits is one
    in splits made by `split`. In splits that the user gave (`splits.seed` is None) it is not: they often
    share one corpus of answers on purpose, and only the questions are new; it is counted instead.

    Returns:
        Passages that are relevant to questions of more than one split.

    Raises:
        LeakageError: With examples and the remedy.
    """
    where = _where(splits)
    shared = _shared_passages(collection, where)
    leaks = _crossing(group_queries(collection, shared_passages=splits.seed is not None), where)
    if leaks:
        raise LeakageError(_message(collection, leaks, where))
    return len(shared)


def _where(splits: Splits) -> dict[str, str]:
    """query_id -> split name.

    Raises:
        LeakageError: A question is in two splits.
    """
    where: dict[str, str] = {}
    for name, ids in (("train", splits.train), ("dev", splits.dev), ("test", splits.test)):
        for query_id in ids:
            if query_id in where:
                raise LeakageError(
                    f"question {query_id!r} is in {where[query_id]} and in {name}; keep it in one of them"
                )
            where[query_id] = name
    return where


def _members(collection: Collection, groups: Mapping[str, str]) -> dict[str, list[str]]:
    """group id -> its questions that something can be judged by; groups without any are absent."""
    members: dict[str, list[str]] = {}
    for query_id, group in groups.items():
        if collection.relevant(query_id) and not collection.queries[query_id].synthetic:
            members.setdefault(group, []).append(query_id)
    return members


def _any_synthetic(collection: Collection) -> bool:
    return any(query.synthetic for query in collection.queries.values())


def _take(order: Sequence[str], members: Mapping[str, Sequence[str]], target: int) -> set[str]:
    """Groups of together up to `target` questions, in shuffled order, small ones first if they suffice."""
    taken: set[str] = set()
    for largest in (max(target // 4, 1), max(target // 2, 1), target):
        size = sum(len(members[group]) for group in taken)
        if 2 * size >= target:
            break
        for group in order:
            n = len(members[group])
            if group not in taken and n <= largest and size + n <= target:
                taken.add(group)
                size += n
    if not taken:
        # Every group is larger than the target: the smallest one is the nearest to what was asked for.
        taken.add(min(order, key=lambda group: (len(members[group]), group)))
    return taken


def _splits(collection: Collection, groups: Mapping[str, str], test: set[str], dev: set[str], seed: int) -> Splits:
    # By group also for questions without a relevant passage: beside a tested near-duplicate, such a question
    # must not be trained on.
    train_ids: list[str] = []
    dev_ids: list[str] = []
    test_ids: list[str] = []
    for query_id in collection.queries:
        group = groups[query_id]
        if group not in test | dev:
            train_ids.append(query_id)
        elif not collection.queries[query_id].synthetic:
            (test_ids if group in test else dev_ids).append(query_id)
    return Splits(tuple(train_ids), tuple(dev_ids), tuple(test_ids), groups, seed)


def _cut_dev(
    collection: Collection, train: Sequence[str], groups: Mapping[str, str], settings: SplitSettings
) -> tuple[list[str], list[str]]:
    """Train without dev, and dev."""
    members = _members(collection, {query_id: groups[query_id] for query_id in train})
    if len(members) < 2:
        raise DataError(
            'all questions in "train" belong to one group, so that no dev set can be cut from them; name a dev split'
        )
    order = sorted(members)
    random.Random(settings.seed).shuffle(order)
    n_dev, _ = settings.target_sizes(sum(len(ids) for ids in members.values()))
    taken = _take(order, members, n_dev)
    dev = [q for q in train if groups[q] in taken and not collection.queries[q].synthetic]
    return [q for q in train if groups[q] not in taken], dev


def _without_leaks(collection: Collection, named: Mapping[str, list[str]]) -> dict[str, list[str]]:
    groups = group_queries(collection, shared_passages=False)
    test = {groups[query_id] for query_id in named["test"]}
    dev = [query_id for query_id in named["dev"] if groups[query_id] not in test]
    held_out = test | {groups[query_id] for query_id in dev}
    train = [query_id for query_id in named["train"] if groups[query_id] not in held_out]
    return {"train": train, "dev": dev, "test": named["test"]}


def _crossing(groups: Mapping[str, str], where: Mapping[str, str]) -> list[list[str]]:
    """Groups that have questions in more than one split."""
    members: dict[str, list[str]] = {}
    for query_id in where:
        members.setdefault(groups[query_id], []).append(query_id)
    return [ids for ids in members.values() if len({where[query_id] for query_id in ids}) > 1]


def _shared_passages(collection: Collection, where: Mapping[str, str]) -> set[str]:
    first: dict[str, str] = {}
    shared: set[str] = set()
    for query_id, name in where.items():
        for passage_id in collection.relevant(query_id):
            if first.setdefault(passage_id, name) != name:
                shared.add(passage_id)
    return shared


def _message(collection: Collection, leaks: Sequence[Sequence[str]], where: Mapping[str, str]) -> str:
    examples = "; ".join(_example(collection, ids, where) for ids in leaks[:_SHOWN_LEAKS])
    return (
        f"{len(leaks)} groups of near-duplicate questions, or of questions with a common answer, are in more "
        f"than one split: {examples}. Put each group in one split, or pass --drop-leaks to leave their "
        "training questions out"
    )


def _example(collection: Collection, ids: Iterable[str], where: Mapping[str, str]) -> str:
    """One question of each split the group is in."""
    shown = {where[query_id]: query_id for query_id in reversed(list(ids))}
    return " / ".join(
        f"{name} {query_id!r} ({collection.queries[query_id].text[:60]})"
        for name, query_id in sorted(shown.items(), reverse=True)
    )
