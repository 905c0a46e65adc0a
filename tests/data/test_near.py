"""Near-duplicates: against the definition, worked out pair by pair, and at the edges."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np

from crosstune.data import near_duplicate_pairs, near_duplicate_passages
from crosstune.data.collect import collection_of
from crosstune.data.near import _bucket_pairs
from crosstune.types import Passage

LONG = "you can return any item within {} days of delivery as long as it is unused and in its box"


def jaccard(a: str, b: str) -> float:
    grams = [{text[i : i + 4] for i in range(len(text) - 3)} for text in (a, b)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def test_threshold_is_on_the_jaccard_of_character_4_grams() -> None:
    # "abcdefgh" has 5 grams: abcd bcde cdef defg efgh. "abcdefgx" shares 4 of 6 in the union: 2/3.
    texts = ["abcdefgh", "abcdefgx"]
    assert near_duplicate_pairs(texts, threshold=0.66) == [(0, 1)]
    assert near_duplicate_pairs(texts, threshold=0.67) == []


def test_agrees_with_comparing_every_pair() -> None:
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdefghijklm", k=rng.randint(2, 8))) for _ in range(300)]
    texts = []
    for _ in range(150):
        base = rng.choices(words, k=12)
        texts.append(" ".join(base))
        base[rng.randrange(12)] = rng.choice(words)
        texts.append(" ".join(base))
    expected = [(i, j) for i, j in combinations(range(300), 2) if jaccard(texts[i], texts[j]) >= 0.8]
    assert 20 < len(expected) < 150  # some of the changed pairs are above the threshold, some below
    assert near_duplicate_pairs(texts) == expected


def test_other_numbers_make_another_text() -> None:
    assert near_duplicate_pairs([LONG.format(30), LONG.format(60)]) == []
    assert near_duplicate_pairs([LONG.format(30), LONG.format(30) + " please"]) == [(0, 1)]
    assert near_duplicate_pairs([LONG.format(30), LONG.format("30").upper() + "!"]) == [(0, 1)]


def test_a_large_cluster_is_connected() -> None:
    texts = [f"{LONG.format(30)} {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]
    pairs = near_duplicate_pairs(texts)
    reached, grew = {0}, True
    while grew:
        more = {n for pair in pairs if reached & set(pair) for n in pair}
        grew = not more <= reached
        reached |= more
    assert reached == set(range(60))


def test_large_buckets_link_each_text_to_the_first_and_the_one_before() -> None:
    keys = np.array([9] * 30 + [4, 4, 4, 7], dtype=np.uint64)
    pairs = [tuple(pair) for block in _bucket_pairs(keys, np.argsort(keys, kind="stable")) for pair in block.tolist()]
    chain = [(i, i + 1) for i in range(29)]
    star = [(0, i) for i in range(1, 30)]
    assert sorted(pairs) == sorted(chain + star + [(30, 31), (31, 32), (30, 32)])


def test_short_empty_and_odd_texts() -> None:
    assert near_duplicate_pairs([]) == []
    assert near_duplicate_pairs(["one"]) == []
    assert near_duplicate_pairs(["", "", "a", "b", "a", "\ud800"]) == [(0, 1), (2, 4)]
    assert near_duplicate_pairs(["高血压喝什么药比较好呢请问", "高血压喝什么药比较好呢请问医生", "低血压"]) == [(0, 1)]


def test_chunks_do_not_change_the_result() -> None:
    filler = [chr(0x4E00 + i) * 500_000 for i in range(6)]  # 3,000,000 characters: more than one chunk
    texts = [LONG.format(30), *filler, LONG.format(30) + " please"]
    assert near_duplicate_pairs(texts) == [(0, 7)]


def test_passages_name_each_other() -> None:
    texts = {"p1": LONG.format(30), "p2": LONG.format(30) + " please", "p3": "something else altogether"}
    passages = {pid: Passage(pid, text) for pid, text in texts.items()}
    found = near_duplicate_passages(collection_of(passages, {}, {}))
    assert found == {"p1": frozenset({"p2"}), "p2": frozenset({"p1"})}
