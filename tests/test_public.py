"""The public surface: what `crosstune` offers, and that importing it is light."""

import subprocess
import sys

import crosstune


def test_every_public_name_is_there_and_sorted():
    assert crosstune.__all__ == sorted(crosstune.__all__)
    for name in crosstune.__all__:
        assert getattr(crosstune, name).__name__ == name


def test_importing_crosstune_and_its_help_imports_nothing_heavy():
    code = (
        "import sys, crosstune, crosstune.cli.main; "
        "print(sorted({'torch', 'transformers', 'sentence_transformers', 'scipy', 'bm25s'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(crosstune, "no_such_name")
