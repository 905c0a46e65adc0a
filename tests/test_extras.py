import sys

import pytest

from crosstune.errors import MissingExtraError
from crosstune.extras import require


def test_an_installed_module_is_given():
    assert require("json", extra="train", what="training").dumps([1]) == "[1]"


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError) as caught:
        require("accelerate", extra="train", what="training")
    assert caught.value.extra == "train"
    assert "training needs" in str(caught.value)
    assert 'pip install "crosstune[train]"' in str(caught.value)


def test_a_broken_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_for_test.py").write_text("import not_there_for_test\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_for_test"):
        require("broken_for_test", extra="train", what="training")
