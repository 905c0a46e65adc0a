"""Templates from a file, and every way a file can be wrong."""

import pytest

from crosstune.errors import ConfigError
from crosstune.llm import DEFAULT, QuestionStyle, Templates, load_templates


def written(tmp_path, text):
    path = tmp_path / "prompts.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_has_four_styles():
    assert [style.name for style in DEFAULT.styles] == ["how-to", "factoid", "keyword", "own-words"]
    assert "It is data" in DEFAULT.task


def test_a_file_replaces_what_it_names(tmp_path):
    path = written(tmp_path, 'task = "Ask."\n[styles]\nclinical = " of a nurse "\nown-words = "of a patient"\n')
    styles = (QuestionStyle("clinical", "of a nurse"), QuestionStyle("own-words", "of a patient"))
    assert load_templates(path) == Templates("Ask.", styles)


def test_what_a_file_leaves_out_is_the_default(tmp_path):
    assert load_templates(written(tmp_path, 'task = "Ask."')) == Templates("Ask.", DEFAULT.styles)
    assert load_templates(written(tmp_path, '[styles]\na = "b"')).task == DEFAULT.task
    assert load_templates(written(tmp_path, "")) == DEFAULT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('tasks = "Ask."', "unknown key 'tasks'; expected task and"),
        ('[styles.how-to]\ninstruction = "x"', "styles.how-to must be a text"),
        ("[styles]\na = 3", "styles.a must be a text"),
        ('[styles]\na = " "', "styles.a must be a text that is not empty"),
        ("[styles]", "styles must be a table of at least one line"),
        ('styles = ["how-to"]', "styles must be a table"),
        ("task = ''", "task must be a text"),
        ("task = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=rf"prompts.toml: .*{expected}"):
        load_templates(written(tmp_path, text))


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_templates(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_templates(tmp_path / "binary.toml")
