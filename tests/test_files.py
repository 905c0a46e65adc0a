import os
from pathlib import Path

import pytest

from crosstune.errors import DataError
from crosstune.files import require_file


def test_a_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("")
    require_file(tmp_path / "there.csv")


def test_what_is_none_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path, message in (("gone.csv", "no such file"), (".", "is a folder"), ("pipe.csv", "is a pipe.*; save its")):
        with pytest.raises(DataError, match=message):
            require_file(tmp_path / path)
