from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstune.documents import ChunkSettings, Document, Heading, chunk, digest
from crosstune.documents.builder import TextBuilder
from crosstune.errors import ConfigError
from crosstune.types import Origin, Passage

MEASURES = ("words", "characters", "longer at the end", "wordpiece", "byte pairs")
LONG_WORD = 300

_PIECES = st.one_of(
    st.sampled_from(["alpha", "beta gamma.", "Delta", "e.g.", "x", "…", "\n", "\n\n", "  ", "\t", "\u3000", "\u00a0"]),
    st.sampled_from(
        [
            "cafe\u0301",
            "👩\u200d🔬",
            "我们三十天内退款。",
            "请保留收据，谢谢！",
            "ราคานี้รวมภาษีแล้ว",
            "क्या है।",
            "\u200b",
            "ﷺ",
        ]
    ),
    st.sampled_from(["w" * LONG_WORD, "長" * 80, "1.5", "(ok?)", "\x1f", "\u2028", "—"]),
    st.text(max_size=5).filter(str.isprintable),
)
_BLOCKS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 2, 3]),  # 0 is text, else a heading of this level
        st.lists(_PIECES, max_size=60).map(" ".join),
        st.integers(1, 8),
    ),
    max_size=6,
)


@st.composite
def _documents(draw):
    builder = TextBuilder()
    for level, text, times in draw(_BLOCKS):
        if level:
            builder.add_heading(text[:400], level)
        else:
            builder.add(" ".join([text] * times))
    return Document("d", builder.text, draw(st.sampled_from(["", "T", "A long title " * 20])), tuple(builder.headings))


_SETTINGS = st.sampled_from([ChunkSettings(32, 0), ChunkSettings(32, 16), ChunkSettings(60, 9), ChunkSettings()])


@pytest.mark.parametrize("measure", MEASURES)
@settings(max_examples=60, deadline=None)
@given(document=_documents(), how=_SETTINGS)
def test_passages_are_exact_complete_and_fit(measures, measure, document, how):
    text, tokenizer = document.text, measures[measure]
    passages = list(chunk(document, tokenizer, how))
    covered = set()
    for position, passage in enumerate(passages):
        origin = passage.origin
        assert (origin.document_id, origin.position) == ("d", position)
        assert text[origin.start : origin.end] == passage.text
        assert passage.text == passage.text.strip() != ""
        assert len(tokenizer.offsets(passage.full_text)) <= how.max_tokens
        covered.update(range(origin.start, origin.end))
    for heading in document.headings:
        covered.update(range(heading.start, heading.start + len(heading.text)))
    assert [place for place, c in enumerate(text) if not c.isspace() and place not in covered] == []
    assert len({passage.passage_id for passage in passages}) == len(passages)
    assert list(chunk(document, tokenizer, how)) == passages


@pytest.mark.parametrize("measure", ["words", "characters"])
@settings(max_examples=60, deadline=None)
@given(document=_documents(), how=_SETTINGS)
def test_passages_neither_mix_sections_nor_cut_words_nor_repeat_too_much(measures, measure, document, how):
    text, tokenizer = document.text, measures[measure]
    passages = list(chunk(document, tokenizer, how))
    for passage in passages:
        origin = passage.origin
        # A heading stands in a passage only when the passage is that heading.
        inside = [h for h in document.headings if origin.start <= h.start < origin.end]
        assert all((h.start == origin.start and h.text == passage.text) or _is_part(h, origin) for h in inside)
        for cut in (origin.start, origin.end):
            if 0 < cut < len(text) and text[cut - 1] in "alphbetgmdx" and text[cut] in "alphbetgmdx":
                raise AssertionError(f"{text[cut - 9 : cut]}|{text[cut : cut + 9]}")
    for before, after in pairwise(passages):
        assert before.origin.start < after.origin.start
        assert before.origin.end < after.origin.end
        repeated = text[after.origin.start : before.origin.end] if after.origin.start < before.origin.end else ""
        assert len(tokenizer.offsets(repeated)) <= how.overlap_tokens
        assert not repeated or before.title == after.title


def _is_part(heading, origin):
    """Whether the span is a part of a heading that is a text itself, and too long for one passage."""
    return heading.start <= origin.start and origin.end <= heading.start + len(heading.text)


def test_cuts_worked_out_by_hand(words):
    # 10 sentences of 8 words. Title "Shop > Prices" is 3 tokens, so 29 words fit into 32: three sentences are 24,
    # and the fourth would end at 32. The overlap of up to 9 words is one sentence of 8: 2 new ones fit beside it.
    sentences = [f"S{n} two three four five six seven eight." for n in range(10)]
    document = Document("d", "Prices\n\n" + " ".join(sentences), "Shop", (Heading(0, 1, "Prices"),), {"a": "b"})
    passages = list(chunk(document, words, ChunkSettings(32, 9)))
    assert [passage.text for passage in passages] == [
        " ".join(sentences[start : start + 3]) for start in (0, 2, 4, 6)
    ] + [" ".join(sentences[8:])]
    assert {passage.title for passage in passages} == {"Shop > Prices"}
    assert all(passage.metadata is document.metadata for passage in passages)
    assert passages[1].origin == Origin("d", 1, 8 + 2 * 40, 8 + 5 * 40 - 1)  # a sentence and its blank are 40


def test_a_long_word_is_cut_and_the_next_word_is_not(characters):
    document = Document("d", "w" * 70 + " next")
    assert [passage.text for passage in chunk(document, characters, ChunkSettings(32, 0))] == [
        "w" * 32,
        "w" * 32,
        "w" * 6 + " next",
    ]


def test_an_overlap_that_leaves_no_room_for_the_next_word_is_dropped(characters):
    # 20 characters of overlap and a word of 30 are more than 40.
    document = Document("d", "abcdefghi " * 4 + "w" * 30)
    texts = [passage.text for passage in chunk(document, characters, ChunkSettings(40, 20))]
    assert texts == ["abcdefghi abcdefghi abcdefghi abcdefghi", "w" * 30]


def test_words_that_a_tokenizer_does_not_know_are_cut_by_characters(words):
    # One token; 10 characters for each of 32 tokens are 320.
    assert [len(p.text) for p in chunk(Document("d", "u" * 1000), words, ChunkSettings(32, 0))] == [320, 320, 320, 40]


def test_a_title_takes_at_most_half(words):
    path = tuple(Heading(5 * n, n + 1, f"h{n:03}") for n in range(40))
    document = Document("d", " ".join(h.text for h in path) + " body", headings=path)
    (passage,) = chunk(document, words, ChunkSettings(32, 0))
    # n headings and n - 1 arrows in 16 tokens: the last 8.
    assert passage.title == " > ".join(f"h{n:03}" for n in range(32, 40))
    assert passage.text == "body"


def _ids(document, tokenizer):
    return {passage.text: passage.passage_id for passage in chunk(document, tokenizer, ChunkSettings(32, 0))}


def test_ids_stay_when_other_parts_change(words):
    def document(first):
        text = f"One\n\n{first}\n\nTwo\n\nstays as it is"
        return Document("d", text, headings=(Heading(0, 1, "One"), Heading(len(first) + 7, 1, "Two")))

    before, after = _ids(document("a"), words), _ids(document("quite another text " * 20), words)
    assert before["stays as it is"] == after["stays as it is"]
    assert len(before["a"]) == 32
    assert int(before["a"], 16) >= 0


def test_ids_differ_by_document_title_text_and_occurrence(words):
    def ids(document_id, title, text, headings=()):
        document = Document(document_id, text, title, headings)
        return [passage.passage_id for passage in chunk(document, words, ChunkSettings())]

    alone = ids("d", "T", "a")
    assert alone == ids("d", "T", " a ")
    assert not set(alone) & {*ids("e", "T", "a"), *ids("d", "U", "a"), *ids("d", "T", "b"), *ids("dT", "", "a")}
    twice = ids("d", "", "H\n\na\n\nH\n\na", (Heading(0, 1, "H"), Heading(6, 1, "H")))
    assert len(set(twice)) == 2


def test_a_digest_changes_with_everything_but_the_id():
    passage = Passage("p", "text", "title", {"a": "1", "b": "2"}, Origin("d", 0, 0, 4))
    same = replace(passage, passage_id="q", metadata={"b": "2", "a": "1"})
    assert digest(same) == digest(passage)
    changed = [
        replace(passage, text="texts"),
        replace(passage, title="titles"),
        replace(passage, title="", text="titletext"),
        replace(passage, metadata={"a": "1"}),
        replace(passage, metadata={"a": "2", "b": "1"}),
        replace(passage, origin=None),
        *(
            replace(passage, origin=Origin(*where))
            for where in (("e", 0, 0, 4), ("d", 1, 0, 4), ("d", 0, 1, 4), ("d", 0, 0, 5))
        ),
    ]
    assert len({digest(passage), *map(digest, changed)}) == 1 + len(changed)


@pytest.mark.parametrize(("max_tokens", "overlap_tokens"), [(31, 0), (0, 0), (32, 17), (200, -1)])
def test_settings_that_cannot_work_are_refused(max_tokens, overlap_tokens):
    with pytest.raises(ConfigError, match=r"_tokens is -?\d+; .*"):
        ChunkSettings(max_tokens, overlap_tokens)
