"""Contexts worked out by hand; a token is a word between blanks, so "[1]" costs one."""

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstune.errors import ConfigError
from crosstune.retrieval.packing import Citation, Context, LeftOut, pack
from crosstune.types import Hit, Origin, Passage

# Two sections of 55 and 46 characters.
DOCUMENT = "Refunds take five days. Ask the desk first, then wait. Exchanges are free. They need the receipt now."


def words(text):
    return len(text.split())


def hit(rank, text, *, passage_id=None, title="", origin=None, answers=True):
    passage = Passage(passage_id or f"p{rank}", text, title, origin=origin)
    return Hit(passage, rank, rank, 0.0, None, None, answers)


def chunk(rank, start, end, position, *, document=DOCUMENT, document_id="d", title=""):
    origin = Origin(document_id, position, start, end)
    return hit(rank, document[start:end], title=title, origin=origin, passage_id=f"{document_id}{position}")


def plain(*texts):
    return [hit(rank, text) for rank, text in enumerate(texts, start=1)]


def ids(context):
    return [c.passage_ids for c in context.citations]


def reasons(context):
    return {left.passage_id: left.reason for left in context.left_out}


def test_markers_titles_and_separators_count():
    hits = [hit(1, "Paid after thirty days.", title="Refunds"), hit(2, "Mailed every month.")]
    # [1] Refunds Paid after thirty days. = 6, [2] Mailed every month. = 4.
    context = pack(hits, 10, words)
    assert context == Context(
        "[1] Refunds\nPaid after thirty days.\n\n[2] Mailed every month.",
        10,
        (Citation(1, ("p1",), None, "Refunds", 0, 23, False), Citation(2, ("p2",), None, "", 0, 19, False)),
        (),
    )
    assert pack(hits, 9, words).left_out == (LeftOut("p2", "no room"),)


def test_separators_of_characters_count_too():
    hits = plain("abc", "def")
    # "[1] abc" is 7 characters, the blank line between two blocks 2: 7 + 2 + 7 = 16.
    assert pack(hits, 16, len).n_tokens == 16
    assert ids(pack(hits, 15, len)) == [("p1",)]


def test_tokens_that_a_tokenizer_adds_to_every_text_count_once():
    # [1] one two [2] three four = 6 words, and 5 tokens around the whole.
    assert ids(pack(plain("one two", "three four"), 11, lambda text: words(text) + 5)) == [("p1",), ("p2",)]


def test_what_does_not_fit_is_passed_over_for_a_shorter_one():
    context = pack(plain("one two three", "a much longer passage of words", "four five"), 8, words)
    # 4 + 7 is too much, 4 + 3 fits.
    assert ids(context) == [("p1",), ("p3",)]
    assert context.n_tokens == 7
    assert reasons(context) == {"p2": "no room"}


def test_ranks_decide_and_not_the_order_of_the_sequence():
    context = pack(plain("one two", "three four")[::-1], 3, words)
    assert context.text == "[1] one two"


def test_no_hits_make_an_empty_context():
    assert pack([], 10, words) == Context("", 0, (), ())


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_below_one_is_refused(budget):
    with pytest.raises(ConfigError, match=f"at least 1 token, found {budget}"):
        pack([], budget, words)


def test_an_unknown_order_is_refused():
    with pytest.raises(ConfigError, match="'worst'; choose from best, source, edges"):
        pack([], 10, words, order="worst")


def test_hits_under_the_threshold_can_be_left_out():
    hits = [hit(1, "one"), hit(2, "two", answers=False), hit(3, "three")]
    assert ids(pack(hits, 99, words)) == [("p1",), ("p2",), ("p3",)]
    context = pack(hits, 99, words, answers_only=True)
    assert ids(context) == [("p1",), ("p3",)]
    assert reasons(context) == {"p2": "below threshold"}
    assert pack(hits[1:2], 99, words, answers_only=True).text == ""


# Near-duplicates


def test_equal_texts_but_for_case_and_punctuation():
    assert reasons(pack(plain("We ship today.", "“we SHIP  today”"), 99, words)) == {"p2": "near-duplicate"}


def test_the_same_answer_under_two_titles_is_two_answers():
    hits = [hit(1, "Yes.", title="May I return shoes?"), hit(2, "Yes.", title="May I return food?")]
    assert pack(hits, 99, words).left_out == ()


LONG = "a refund is paid to your card once the parcel is back with us and the desk has looked at it"  # 20 words


def test_four_fifths_of_the_runs_of_five_words_repeat():
    # 20 words have 16 runs of five; a changed last word changes 1 (15/16), a changed middle word 5 (11/16 = 0.69).
    assert reasons(pack(plain(LONG, LONG[:-2] + "them"), 99, words)) == {"p2": "near-duplicate"}
    assert pack(plain(LONG, LONG.replace("parcel", "carton")), 99, words).left_out == ()


def test_four_changed_runs_of_twenty_are_just_enough():
    base = " ".join(f"w{chr(97 + i)}" for i in range(24))  # 24 words, 20 runs
    # The 4th last word is in the last 4 runs: 16/20 = 0.8. The 5th last is in 5: 15/20.
    assert reasons(pack(plain(base, base.replace("wu", "zz")), 99, words)) == {"p2": "near-duplicate"}
    assert pack(plain(base, base.replace("wt", "zz")), 99, words).left_out == ()


def test_other_numbers_are_another_answer():
    first, second = f"{LONG} in 30 days", f"{LONG} in 60 days"  # 17 of 19 runs are shared
    assert pack(plain(first, second), 99, words).left_out == ()
    assert reasons(pack(plain(first, LONG), 99, words)) == {"p2": "near-duplicate"}
    swapped = f"{LONG} so 60 then 30"
    assert pack(plain(f"{LONG} so 30 then 60", swapped), 99, words).left_out == ()


def test_a_longer_passage_that_holds_a_chosen_one_is_new():
    longer = f"{LONG} and then again you may call the desk and ask for a new card to be sent to you by mail"
    assert pack(plain(LONG, longer), 99, words).left_out == ()
    assert reasons(pack(plain(longer, LONG), 99, words)) == {"p2": "near-duplicate"}


def test_scripts_without_blanks_are_compared_by_character():
    chinese = "退款将在包裹退回并经我们检查之后支付到您的银行卡上"  # 25 characters: 21 runs, 5 with the 13th
    assert reasons(pack(plain(chinese, chinese[:-1] + "中"), 999, len)) == {"p2": "near-duplicate"}
    assert pack(plain(chinese, chinese[:12] + "中" + chinese[13:]), 999, len).left_out == ()


# Merging


def test_overlapping_chunks_become_one_text():
    context = pack([chunk(1, 24, 74, 1), chunk(2, 0, 54, 0)], 99, words)
    assert context.text == f"[1] {DOCUMENT[:74]}"
    assert context.citations == (Citation(1, ("d0", "d1"), "d", "", 0, 74, False),)


def test_a_merged_chunk_costs_only_what_it_adds():
    # DOCUMENT[24:54] "Ask the desk first, then wait." is 6 words, [0:54] adds "Refunds take five days." = 4.
    hits = [chunk(1, 24, 54, 1), chunk(2, 0, 54, 0)]
    assert pack(hits, 11, words).n_tokens == 11
    assert reasons(pack(hits, 10, words)) == {"d0": "no room"}


def test_neighbours_with_a_gap_are_joined_by_a_line_break():
    context = pack([chunk(1, 0, 23, 0), chunk(2, 24, 54, 1)], 99, words)
    assert context.text == "[1] Refunds take five days.\nAsk the desk first, then wait."


def test_neighbours_without_a_gap_are_joined_as_they_stood():
    context = pack([chunk(1, 0, 24, 0), chunk(2, 24, 54, 1)], 99, words)
    assert context.text == f"[1] {DOCUMENT[:54]}"


def test_chunks_that_do_not_touch_stay_apart_until_one_joins_them():
    first, middle, last = chunk(1, 0, 23, 0), chunk(3, 20, 60, 1), chunk(2, 55, 101, 2)
    apart = pack([first, last], 99, words)
    assert [(c.start, c.end) for c in apart.citations] == [(0, 23), (55, 101)]
    whole = pack([first, last, middle], 99, words)
    assert whole.text == f"[1] {DOCUMENT}"
    assert ids(whole) == [("d0", "d1", "d2")]


def test_a_chunk_inside_two_merged_ones_is_cited_and_costs_nothing():
    outer = [chunk(1, 0, 54, 0), chunk(2, 54, 101, 2)]
    inner = chunk(3, 30, 74, 1)
    context = pack([*outer, inner], words(DOCUMENT) + 1, words)
    assert context.text == f"[1] {DOCUMENT}"
    assert ids(context) == [("d0", "d1", "d2")]


def test_a_chunk_inside_a_merged_block_that_starts_with_the_last_of_it():
    hits = [chunk(1, 0, 54, 0), chunk(2, 24, 101, 2), chunk(3, 20, 40, 1)]
    context = pack(hits, 99, words)
    assert context.text == f"[1] {DOCUMENT}"
    assert [(c.passage_ids, c.end) for c in context.citations] == [(("d0", "d1", "d2"), 101)]


def test_a_chunk_inside_a_chosen_one_is_a_repeat():
    assert reasons(pack([chunk(1, 0, 101, 0), chunk(2, 24, 74, 1)], 99, words)) == {"d1": "near-duplicate"}


def test_an_overlap_of_nine_tenths_is_merged_and_no_repeat():
    context = pack([chunk(1, 0, 90, 0), chunk(2, 8, 101, 1)], 99, words)
    assert context.text == f"[1] {DOCUMENT}"
    assert context.left_out == ()


def test_neighbours_under_other_headings_stay_apart():
    hits = [chunk(1, 0, 54, 0, title="Refunds"), chunk(2, 55, 101, 1, title="Exchanges")]
    assert [c.title for c in pack(hits, 99, words).citations] == ["Refunds", "Exchanges"]


def test_the_same_place_of_another_document_is_not_merged():
    hits = [chunk(1, 0, 54, 0), chunk(2, 24, 74, 1, document=DOCUMENT.upper()[::-1], document_id="e")]
    assert ids(pack(hits, 99, words)) == [("d0",), ("e1",)]


def test_overlaps_that_differ_are_not_merged():
    changed = DOCUMENT.replace("desk", "help")
    context = pack([chunk(1, 0, 54, 0), chunk(2, 24, 101, 1, document=changed)], 99, words)
    assert context.text == f"[1] {DOCUMENT[:54]}\n\n[2] {changed[24:]}"


# Orders


def test_edges_puts_the_worst_in_the_middle():
    texts = ["one", "two", "three", "four", "five"]
    context = pack(plain(*texts), 99, words, order="edges")
    assert context.text == "[1] one\n\n[2] three\n\n[3] five\n\n[4] four\n\n[5] two"


def test_source_keeps_documents_together_and_the_best_document_first():
    hits = [
        chunk(1, 55, 74, 5, document_id="z"),
        hit(2, "stands alone"),
        chunk(3, 0, 23, 0, document_id="a", document=DOCUMENT.upper()),
        chunk(4, 24, 43, 2, document_id="z"),
    ]
    assert ids(pack(hits, 99, words, order="source")) == [("z2",), ("z5",), ("p2",), ("a0",)]
    assert ids(pack(hits, 99, words, order="best")) == [("z5",), ("p2",), ("a0",), ("z2",)]


def test_a_merged_block_ranks_by_its_best_passage():
    hits = [hit(2, "stands alone"), chunk(1, 24, 54, 1), chunk(3, 0, 23, 0)]
    assert ids(pack(hits, 99, words)) == [("d0", "d1"), ("p2",)]


# Cutting


def test_a_first_passage_above_the_budget_is_cut_at_the_last_sentence_that_fits():
    # "[1] Refunds take five days. …" is 6; with the second sentence 12.
    context = pack([chunk(1, 0, 101, 0), hit(2, "six more words do not fit")], 11, words)
    assert context.text == "[1] Refunds take five days. …"
    assert context.n_tokens == 6
    assert context.citations == (Citation(1, ("d0",), "d", "", 0, 23, True),)
    assert reasons(context) == {"p2": "no room"}
    assert pack([chunk(1, 0, 101, 0)], 12, words).citations[0].end == 54


def test_it_is_cut_at_a_word_when_no_sentence_fits():
    assert pack([chunk(1, 0, 101, 0)], 5, words).text == "[1] Refunds take five …"


def test_a_shorter_passage_may_follow_a_cut_one():
    assert pack([chunk(1, 0, 101, 0), hit(2, "one two")], 9, words).text.endswith("days. …\n\n[2] one two")


def test_nothing_is_joined_to_the_missing_end():
    context = pack([chunk(1, 0, 74, 0), chunk(2, 75, 79, 1)], 8, words)
    assert context.text == "[1] Refunds take five days. …\n\n[2] They"
    assert [c.cut for c in context.citations] == [True, False]


def test_a_cut_passage_stays_a_block_of_its_own():
    # "[1] take five days. …" is 5 words, and 3 are left for what overlaps it or stands in its missing part.
    cut = chunk(1, 8, 101, 1)
    context = pack([cut, chunk(2, 0, 12, 0)], 8, words)
    assert context.text == "[1] take five days. …\n\n[2] Refunds take"
    assert [c.cut for c in context.citations] == [True, False]
    assert pack([cut, chunk(2, 89, 101, 2)], 8, words).text == "[1] take five days. …\n\n[2] receipt now."


def test_when_not_even_a_word_fits_there_is_no_room():
    context = pack(plain("one two three", "four"), 2, words)
    assert context.text == "[1] four"
    assert reasons(context) == {"p1": "no room"}
    assert pack(plain("one two"), 1, words) == Context("", 0, (), (LeftOut("p1", "no room"),))


def test_scripts_without_blanks_are_cut_at_a_sentence_or_character():
    # "[1] " and " …" are 6 characters.
    text = "退款需要五天。请先询问。"
    assert pack(plain(text), 14, len).text == "[1] 退款需要五天。 …"
    assert pack(plain(text), 10, len).text == "[1] 退款需要 …"


# What always holds

CHUNKS = st.tuples(st.integers(0, 90), st.integers(1, 40), st.sampled_from("de"), st.sampled_from(["", "Head"]))
TEXTS = st.one_of(st.sampled_from([LONG, DOCUMENT, "退款需要五天。请先询问。"]), st.text(max_size=60))


@st.composite
def searches(draw):
    """Chunks of two documents cut at any place, in the order of their starts, and free passages."""
    cuts = sorted(draw(st.lists(CHUNKS, max_size=8)))
    found = [
        chunk(1, start, min(start + length, len(DOCUMENT)), place, document_id=of, title=title)
        for place, (start, length, of, title) in enumerate(cuts)
    ]
    found += [hit(1, text) for text in draw(st.lists(TEXTS, max_size=5))]
    return [
        Hit(
            Passage(f"{rank}", h.passage.text, h.passage.title, origin=h.passage.origin),
            rank, rank, 0.0, None, None, draw(st.booleans()),
        )
        for rank, h in enumerate(draw(st.permutations(found)), start=1)
    ]  # fmt: skip


@given(
    searches(),
    st.integers(1, 120),
    st.sampled_from([words, len, lambda text: -(-len(text.encode()) // 4), lambda text: len(text) // 3 + 2]),
    st.sampled_from(["best", "source", "edges"]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_the_budget_holds_and_every_hit_is_accounted_for(hits, budget, count_tokens, order, answers_only):
    context = pack(hits, budget, count_tokens, order=order, answers_only=answers_only)
    if context.text:
        assert context.n_tokens == count_tokens(context.text) <= budget
    cited = [pid for c in context.citations for pid in c.passage_ids]
    assert sorted(cited + [left.passage_id for left in context.left_out]) == sorted(h.passage.passage_id for h in hits)
    assert [c.number for c in context.citations] == list(range(1, len(context.citations) + 1))
    texts = {h.passage.passage_id: h.passage.text for h in hits}
    for citation in context.citations:
        if not citation.cut:
            assert all(texts[pid] in context.text for pid in citation.passage_ids)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 5), st.permutations(range(8)))
@settings(max_examples=100, deadline=None)
def test_all_chunks_of_a_document_give_the_document_back(lengths, overlap, ranks):
    document = "".join(chr(0x4E00 + i) for i in range(sum(lengths)))  # no character twice, so nothing repeats
    ends = list(accumulate(lengths))
    hits = [
        chunk(ranks[place] + 1, max(0, end - length - overlap), end, place, document=document)
        for place, (length, end) in enumerate(zip(lengths, ends, strict=True))
    ]
    assert pack(hits, 10_000, len).text == f"[1] {document}"
