from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from crosstune.errors import CheckpointError, ConfigError
from crosstune.pair_encoding import PairEncoder, length_batches, longest_pair
from crosstune.team import shared_out

FAMILIES = ("bert", "xlm-roberta", "modernbert", "distilbert")
SHORT, LONG = "reset my password", "a refund is paid to your card after thirty days " * 12
PAIRS = [
    (SHORT, "download the invoice"),
    (SHORT, LONG),
    ("", "download the invoice"),
    (SHORT, ""),
    ("", ""),
    ("", LONG),
    ("\u200b", "\u200b\ufeff"),
    ("zebra 漢字 ☃", "  tabs\tand\nlines  "),
]


def encoder_of(load, folder, max_length):
    return PairEncoder(load(folder).tokenizer, max_length)


def encode(encoder, pairs):
    texts = encoder.tokenize([text for pair in pairs for text in pair])
    return [encoder.pair(query, passage) for query, passage in zip(texts[::2], texts[1::2], strict=True)]


def cut_alike(encoder, pairs):
    """The pairs whose question fills at most half of the room: these every library cuts as we do."""
    half = (encoder.max_length - encoder.n_special) // 2
    found = [pair for pair in pairs if len(encoder.tokenize([pair[0]])[0]) <= half]
    assert len(found) >= 4
    return found


def by_the_tokenizer(tokenizer, query, passage, **options):
    """The tokenizer's own encoding. As lists: it takes a single pair with an empty passage for one text."""
    return {name: rows[0] for name, rows in tokenizer([query], [passage], **options).items()}


def word_tokenizer(template, special, types=("input_ids", "token_type_ids", "attention_mask"), **options):
    """A tokenizer of the words a to j, one token each, with any special-token template."""
    vocabulary = ["<pad>", "<unk>", "<s>", "</s>", "<x>", *"abcdefghij"]
    raw = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ids = [(token, vocabulary.index(token)) for token in special]
    raw.post_processor = processors.TemplateProcessing(single="$A", pair=template, special_tokens=ids)
    options = {"pad_token": "<pad>", "unk_token": "<unk>"} | options
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, model_input_names=list(types), **options)


class TestAgainstTheTokenizer:
    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("max_length", [16, 17, 24, 128])
    def test_ids_and_types_are_the_tokenizers_own(self, load, families, family, max_length):
        encoder = encoder_of(load, families[family], max_length)
        own = load(families[family]).tokenizer
        pairs = cut_alike(encoder, PAIRS)
        for (query, passage), pair in zip(pairs, encode(encoder, pairs), strict=True):
            expected = by_the_tokenizer(own, query, passage, truncation=True, max_length=max_length)
            assert pair.ids.tolist() == expected["input_ids"]
            padded = encoder.pad([pair])
            assert padded.keys() == expected.keys()
            for name, values in expected.items():
                assert padded[name].tolist() == [values]
            assert pair.truncated == (len(by_the_tokenizer(own, query, passage)["input_ids"]) > max_length)

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("max_length", [16, 17])
    def test_a_short_question_is_never_cut(self, load, families, family, max_length):
        encoder = encoder_of(load, families[family], max_length)
        own = load(families[family]).tokenizer
        (pair,) = encode(encoder, [("refund", LONG)])
        assert pair.ids.tolist() == own("refund", LONG, truncation="only_second", max_length=max_length)["input_ids"]
        assert pair.truncated

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("passage", [SHORT, LONG])
    def test_a_question_beyond_the_room_leaves_the_passage_one_token(self, load, families, family, passage):
        encoder = encoder_of(load, families[family], 16)
        query_ids, passage_ids = (ids.tolist() for ids in encoder.tokenize([LONG, passage]))
        (pair,) = encode(encoder, [(LONG, passage)])
        kept = [token for token in pair.ids.tolist() if token not in load(families[family]).tokenizer.all_special_ids]
        assert kept == [*query_ids[: 16 - encoder.n_special - 1], passage_ids[0]]
        assert pair.truncated

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_padded_batch_is_the_tokenizers_own(self, load, families, family):
        encoder = encoder_of(load, families[family], 24)
        own = load(families[family]).tokenizer
        pairs = cut_alike(encoder, PAIRS)
        queries, passages = zip(*pairs, strict=True)
        expected = own(list(queries), list(passages), truncation=True, max_length=24, padding=True, return_tensors="pt")
        padded = encoder.pad(encode(encoder, pairs))
        assert padded.keys() == expected.keys()
        for name, tensor in padded.items():
            assert torch.equal(tensor, expected[name])

    def test_texts_beyond_one_call_to_the_tokenizer(self, load, bert):
        encoder = encoder_of(load, bert, 16)
        texts = [f"refund {i % 7}" for i in range(2050)]
        assert [ids.tolist() for ids in encoder.tokenize(texts)] == [
            encoder.tokenize([text])[0].tolist() for text in texts
        ]

    def test_half_a_surrogate_pair_is_read_as_a_question_mark(self, load, bert):
        encoder = encoder_of(load, bert, 16)
        broken, mark, whole = encoder.tokenize(["a refund \ud83d", "a refund ?", "a refund \U0001f600"])
        assert broken.tolist() == mark.tolist()
        assert whole.tolist()[:-1] == mark.tolist()[:-1]


class TestCutting:
    # Words a..j are ids 5..14. The template has 3 special tokens, so 9 tokens leave room for 6.
    TEMPLATE, SPECIAL = "<s> $A </s> $B:1 </s>:1", ("<s>", "</s>")

    @pytest.mark.parametrize(
        ("query", "passage", "kept"),
        [
            ("a b", "c d e f", ("a b", "c d e f")),  # 6 tokens: fits
            ("a b", "c d e f g", ("a b", "c d e f")),  # short question whole, passage cut
            ("a b c", "d e f g h", ("a b c", "d e f")),  # half of the room is still the question's
            ("a b c d", "e f g h i", ("a b c d", "e f")),  # beyond half: still whole
            ("a b c d e", "f", ("a b c d e", "f")),
            ("a b c d e", "f g", ("a b c d e", "f")),
            ("a b c d e f", "g h", ("a b c d e", "g")),  # it alone would fill the room: one token for the passage
            ("a b c d e f g h", "i", ("a b c d e", "i")),
            ("a b c d e f", "", ("a b c d e f", "")),
            ("a b c d e f g", "", ("a b c d e f", "")),  # no passage, so the question may fill the room
        ],
    )
    def test_by_hand(self, query, passage, kept):
        encoder = PairEncoder(word_tokenizer(self.TEMPLATE, self.SPECIAL), 9)
        (pair,) = encode(encoder, [(query, passage)])
        first, second = ([ord(word) - ord("a") + 5 for word in side.split()] for side in kept)
        assert pair.ids.tolist() == [2, *first, 3, *second, 3]
        assert pair.n_first == 1 + len(first)
        assert pair.truncated == (kept != (query, passage))
        assert encoder.pad([pair])["token_type_ids"].tolist() == [[0] * (len(first) + 2) + [1] * (len(second) + 1)]

    @given(st.integers(0, 12), st.integers(0, 12), st.integers(5, 14))
    def test_like_the_tokenizers_library_while_the_question_is_short(self, n_query, n_passage, max_length):
        tokenizer = word_tokenizer(self.TEMPLATE, self.SPECIAL)
        query, passage = " ".join("a" * n_query), " ".join("b" * n_passage)
        expected = by_the_tokenizer(tokenizer, query, passage, truncation=True, max_length=max_length)["input_ids"]
        encoder = PairEncoder(tokenizer, max_length)
        (pair,) = encode(encoder, [(query, passage)])
        if n_query <= (max_length - encoder.n_special) // 2:
            assert pair.ids.tolist() == expected
        assert len(pair.ids) == len(expected)  # the longest that fits, whoever cuts


class TestTemplates:
    @pytest.mark.parametrize(
        ("template", "special"),
        [
            ("$A $B:1", ()),  # nothing between the two
            ("$A </s> $B:1", ("</s>",)),
            ("<s> $A </s> </s> $B </s>", ("<s>", "</s>")),
            ("$A:0 </s>:0 $B:1 </s>:1 <s>:2", ("<s>", "</s>")),  # XLNet: class token last, with its own type
            ("<s>:3 $A:1 <x>:0 $B:2 </s>:2", ("<s>", "</s>", "<x>")),
        ],
    )
    @pytest.mark.parametrize("max_length", [8, 30])
    def test_any_template_is_read_off_the_tokenizer(self, template, special, max_length):
        tokenizer = word_tokenizer(template, special)
        encoder = PairEncoder(tokenizer, max_length)
        pairs = [("a b", "c d e f g h i"), ("", "a"), ("a", ""), ("", "")]
        for (query, passage), pair in zip(pairs, encode(encoder, pairs), strict=True):
            expected = by_the_tokenizer(tokenizer, query, passage, truncation=True, max_length=max_length)
            assert pair.ids.tolist() == expected["input_ids"]
            if len(pair.ids):
                assert encoder.pad([pair])["token_type_ids"].tolist() == [expected["token_type_ids"]]

    def test_a_template_that_puts_the_passage_first_is_refused(self):
        with pytest.raises(CheckpointError, match="query, passage"):
            PairEncoder(word_tokenizer("<s> $B </s> $A", ("<s>", "</s>")), 9)

    def test_no_padding_token_is_refused(self):
        with pytest.raises(CheckpointError, match="padding"):
            PairEncoder(word_tokenizer("$A <x> $B", ("<x>",), pad_token=None), 9)

    def test_no_room_is_refused(self):
        tokenizer = word_tokenizer("<s> $A </s> $B </s>", ("<s>", "</s>"))
        with pytest.raises(ConfigError, match="at least 5"):
            PairEncoder(tokenizer, 4)
        (pair,) = encode(PairEncoder(tokenizer, 5), [("a b", "c d")])
        assert pair.ids.tolist() == [2, 5, 3, 7, 3]


class TestLengthBatches:
    @given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 1000), st.integers(1, 4))
    def test_every_index_once_longest_first_within_the_budget(self, lengths, max_tokens, n_workers):
        batches = length_batches(lengths, max_tokens, n_workers)
        order = [int(i) for batch in batches for i in batch]
        assert sorted(order) == list(range(len(lengths)))
        assert order == sorted(order, key=lambda i: (-lengths[i], i))
        for batch in batches:
            assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens

    @given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(50, 500))
    def test_no_batch_could_take_one_more(self, lengths, max_tokens):
        batches = length_batches(lengths, max_tokens)
        for batch in batches[:-1]:
            assert (len(batch) + 1) * lengths[batch[0]] > max_tokens

    def test_by_hand(self):
        # Longest first: 9 alone (2 x 9 > 10), then 5 and 2 (2 x 5 = 10), then 2.
        assert [batch.tolist() for batch in length_batches([5, 2, 9, 2], 10)] == [[2], [0, 1], [3]]
        assert length_batches([], 10) == []
        assert np.concatenate(length_batches([3, 3, 3], 100)).tolist() == [0, 1, 2]

    def test_side_by_side_by_hand(self):
        # In one batch one of two would wait. 5 and 5 are done after 500 tokens and a pass, 6 and 4 after 600.
        assert [len(batch) for batch in length_batches([100] * 10, 1000)] == [10]
        assert [len(batch) for batch in length_batches([100] * 10, 1000, 2)] == [5, 5]
        # A full one of 10 and one of 6 would be done after 1,000 tokens, 8 and 8 are after 800.
        assert [len(batch) for batch in length_batches([100] * 16, 1000, 2)] == [8, 8]
        # 900 and 700 tokens: to cut 300, 300 and 300 would leave more to do one after the other.
        lengths = [300, 300, 300, 100, 100, 100, 100, 100, 100, 100]
        assert [batch.tolist() for batch in length_batches(lengths, 1000, 2)] == [[0, 1, 2], [3, 4, 5, 6, 7, 8, 9]]
        assert [len(batch) for batch in length_batches([7], 1000, 4)] == [1]
        assert length_batches([], 1000, 4) == []

    @given(st.lists(st.integers(1, 300), max_size=60), st.integers(300, 1000), st.integers(2, 4))
    def test_side_by_side_nobody_is_done_later(self, lengths, max_tokens, n_workers):
        def done_after(batches):
            costs = [128 + len(batch) * lengths[batch[0]] for batch in batches]
            return max(sum(costs[i] for i in share) for share in shared_out(costs, n_workers))

        plain, cut = length_batches(lengths, max_tokens), length_batches(lengths, max_tokens, n_workers)
        assert done_after(cut) <= done_after(plain)
        assert len(cut) >= len(plain)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # bge-reranker-base: positions 2 to 513 are used.
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
        ({"model_type": "modernbert", "max_position_embeddings": 8192, "pad_token_id": 3}, 512),
        ({"model_type": "bert", "max_position_embeddings": 130, "pad_token_id": 0}, 130),
    ],
)
def test_longest_pair(config: dict[str, object], expected: int) -> None:
    assert longest_pair(SimpleNamespace(**config), 512) == expected
