import tokenizers
from tokenizers import models, pre_tokenizers, processors

from crosstune.documents import FastTokenizer


def _tokenizer():
    raw = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "a": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return raw


def test_offsets_are_characters_without_special_tokens():
    # "é" is two bytes and one character: counted in bytes, the last token would end at 7.
    assert FastTokenizer(_tokenizer()).offsets("a é, a") == [(0, 1), (2, 3), (3, 4), (5, 6)]


def test_a_length_to_cut_and_pad_to_does_not_count_and_stays_with_its_owner():
    raw = _tokenizer()
    raw.enable_truncation(2)
    raw.enable_padding(length=2)
    measure = FastTokenizer(raw)
    assert len(measure.offsets("a " * 50)) == 50
    assert measure.offsets("a") == [(0, 1)]
    assert raw.truncation["max_length"] == 2
    assert raw.padding["length"] == 2
