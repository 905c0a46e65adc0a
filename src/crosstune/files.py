"""Files that are whole or not there, and what identifies them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crosstune.errors import DataError


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one step: a reader sees the old file or the new one, whenever the power fails."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sha256_of(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, one after the other, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def require_file(path: Path) -> None:
    """Make sure that a path is a file, which can be read more than once.

    Raises:
        DataError: It is not; says what it is instead.
    """
    if path.is_file():
        return
    if path.is_dir():
        raise DataError(f"this is a folder ({path}); pass a file", path)
    if path.exists():
        raise DataError(
            f"this is a pipe or a device ({path}), which can be read only once; save its content in a file", path
        )
    raise DataError(f"there is no such file ({path}); check the path", path)
