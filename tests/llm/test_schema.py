"""Each kind of fault, at its place."""

import pytest

from crosstune.llm.schema import fault

PAIR = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "style": {"type": "string", "enum": ["a", "b"]}},
    "required": ["q", "style"],
    "additionalProperties": False,
}
PAIRS = {"type": "object", "properties": {"pairs": {"type": "array", "items": PAIR}}, "required": ["pairs"]}


@pytest.mark.parametrize("value", [{"pairs": []}, {"pairs": [{"q": "", "style": "b"}], "more": 1}])
def test_what_fits(value):
    assert fault(value, PAIRS) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "the reply is no object"),
        ({}, "the reply lacks pairs"),
        ({"pairs": {}}, "the reply.pairs is no array"),
        ({"pairs": [{"q": "?", "style": "a"}, "text"]}, "the reply.pairs[1] is no object"),
        ({"pairs": [{}]}, "the reply.pairs[0] lacks q, style"),
        ({"pairs": [{"q": None, "style": "a"}]}, "the reply.pairs[0].q is no string"),
        ({"pairs": [{"q": "?", "style": "c"}]}, "the reply.pairs[0].style is none of a, b"),
        ({"pairs": [{"q": "?", "style": "a", "secret": 1}]}, "the reply.pairs[0] has other keys than q, style"),
    ],
)
def test_the_first_fault_is_named_by_its_place(value, expected):
    assert fault(value, PAIRS) == expected


@pytest.mark.parametrize(
    ("kind", "fits", "does_not"),
    [("integer", 3, True), ("integer", 3, 3.5), ("number", 3, False), ("number", 2.5, "2"), ("boolean", True, 1)],
)
def test_numbers_and_booleans_are_told_apart(kind, fits, does_not):
    assert fault(fits, {"type": kind}) is None
    assert fault(does_not, {"type": kind}) == f"the reply is no {kind}"
