import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosstune.documents import field_name, infer_fields
from crosstune.documents.fields import RESERVED
from crosstune.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Product Line", "product_line"),
        ("  price (€) ", "price"),
        ("a__b--c", "a_b_c"),
        ("Größe", "grosse"),
        ("Łódź Ørsted", "lodz_orsted"),
        ("İstanbul", "istanbul"),
        ("2024", "_2024"),
        ("_2024", "_2024"),
        ("Passage-ID", "meta_passage_id"),
        ("Vector", "meta_vector"),
        ("ＦＵＬＬ", "full"),
    ],
)
def test_names_are_cleaned(name, field):
    assert field_name(name) == field


def test_names_that_are_not_latin_stay_apart():
    assert re.fullmatch("field_[0-9a-f]{8}", field_name("价格"))
    # Without the hash both would be "_2024".
    assert field_name("价格 2024") != field_name("数量 2024")
    assert field_name("价格") == field_name(" 价格 ")
    assert re.fullmatch("field_[0-9a-f]{8}", field_name("%"))


@given(st.text())
def test_a_cleaned_name_is_usable_and_stays_as_it_is(name):
    field = field_name(name)
    assert re.fullmatch("[a-z_][a-z0-9_]*", field)
    assert field not in RESERVED
    assert field_name(field) == field


def test_fields_are_numeric_when_every_value_is_a_number():
    rows = [
        {"price": "12.50", "year": "1999", "stock": "3", "minus": "-1e3"},
        {"price": "7", "year": "1999a", "stock": "0"},
    ]
    assert infer_fields(iter(rows)) == {"price": "numeric", "year": "tag", "stock": "numeric", "minus": "numeric"}


@pytest.mark.parametrize(
    "value", ["007", "+49", "1_000", "1,5", "nan", "inf", "1e999", "٣", "12 ", "0x1f", "", ".5", "9007199254740993"]
)
def test_codes_and_what_no_double_holds_are_tags(value):
    assert infer_fields([{"code": value}]) == {"code": "tag"}


def test_a_field_with_one_long_value_is_left_out():
    rows = [{"a": "x" * 256, "b": "x" * 257, "c": "1"}, {"b": "short"}, {"c": "2"}]
    assert infer_fields(rows) == {"a": "tag", "c": "numeric"}


@pytest.mark.parametrize("name", ["Product Line", "digest", "1st", ""])
def test_names_that_are_not_clean_are_refused_with_a_clean_one(name):
    with pytest.raises(ConfigError, match=f"'{name}' cannot be the name .* '{field_name(name)}' would do"):
        infer_fields([{name: "x"}])
