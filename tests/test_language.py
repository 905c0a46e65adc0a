"""The right language for clear cases, the script before the vote, and an honest "und" for no letters."""

import subprocess
import sys

import pytest

from crosstune.language import Language, detect_language, language_of

ENGLISH = "How do I change the address on my invoice? "
SAMPLES = {
    "en": [ENGLISH],
    "de": ["Wie ändere ich die Adresse auf meiner Rechnung?"],
    "fr": ["Comment changer l'adresse sur ma facture ?"],
    "es": ["¿Cómo cambio la dirección de mi factura?"],
    "pl": ["Jak zmienić adres na mojej fakturze?"],
    "ru": ["Как изменить адрес в моём счёте?"],
    "ko": ["청구서의 주소를 어떻게 변경하나요?"],
    "hi": ["मैं अपने बिल पर पता कैसे बदलूं?"],
    "ar": ["كيف أغير العنوان في الفاتورة؟"],
    "zh": ["如何更改发票上的地址？"],
    "ja": ["請求書の住所を変更する方法を教えてください"],
    "th": ["ฉันจะเปลี่ยนที่อยู่ในใบแจ้งหนี้ได้อย่างไร"],
    "lo": ["ຂ້ອຍຈະປ່ຽນທີ່ຢູ່ໄດ້ແນວໃດ"],
    "km": ["តើខ្ញុំប្តូរអាសយដ្ឋានដោយរបៀបណា"],
    "my": ["လိပ်စာကို ဘယ်လိုပြောင်းရမလဲ"],
}


@pytest.mark.parametrize("code", SAMPLES)
def test_clear_cases(code):
    language = detect_language(SAMPLES[code])
    assert language.code == code
    assert language.segmented == (code not in ("zh", "ja", "th", "lo", "km", "my"))


def test_names():
    assert language_of("de") == Language("de", "German", segmented=True)
    assert language_of("ja") == Language("ja", "Japanese", segmented=False)
    assert language_of("lij") == Language("lij", "lij", segmented=True)  # no name known: the code


@pytest.mark.parametrize(("code", "sibling"), [("nn", "no"), ("yue", "zh"), ("zxx", "und")])
def test_siblings_count_as_the_larger_language(code, sibling):
    assert language_of(code).code == sibling


@pytest.mark.parametrize("texts", [[], [""], ["12345", "!?", "  "]])
def test_no_letters_is_undetermined(texts):
    assert detect_language(texts) == Language("und", "undetermined", segmented=True)


def test_latin_product_names_do_not_make_chinese_english():
    # 8 Han characters count as 4 words against 3 Latin ones.
    assert detect_language(["如何在 Azure Kubernetes Service 中创建集群"]).code == "zh"


def test_a_chinese_name_does_not_make_english_chinese():
    # 4 Han characters count as 2 words against 9.
    assert detect_language([ENGLISH + "北京公司"]).code == "en"


def test_a_borrowed_kana_does_not_make_chinese_japanese():
    # 1 kana among 15 characters: 7%, under the 10% that mark Japanese.
    assert detect_language(["请问优の良品的退货地址在哪里呢"]).code == "zh"


def test_long_texts_outweigh_many_short_ones():
    texts = ["Bonjour, comment allez-vous ?"] * 3 + [ENGLISH * 8] * 2
    assert detect_language(texts).code == "en"


def test_words_that_mislead_alone_are_judged_together():
    # py3langid takes "hello" for Breton and "beer" for Ganda.
    assert detect_language(["hello", "beer", "what is the refund policy", "help me please"]).code == "en"


def test_only_a_sample_is_read_and_the_answer_repeats():
    texts = [ENGLISH] * 200_000
    texts[5] = "x" * 50_000_000
    assert detect_language(texts) == detect_language(texts) == language_of("en")


def test_nothing_heavy_at_import():
    heavy = "('py3langid', 'numpy', 'torch')"
    code = f"import sys, crosstune.language; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
