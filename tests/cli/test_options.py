import pytest

from crosstune.cli.options import precision, seconds
from crosstune.errors import ConfigError


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 M ", 120)])
def test_seconds(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "ten", "-5m", "1d", "5 m 3"])
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ConfigError, match=r"90s, 10m or 1\.5h"):
        seconds(text)


def test_precision_is_one_of_two():
    assert precision(None) is None
    assert precision("bf16") == "bf16"
    with pytest.raises(ConfigError, match="fp32 or bf16"):
        precision("fp16")
