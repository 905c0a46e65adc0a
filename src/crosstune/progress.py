"""How long work reports progress without knowing who shows it.

A `Progress` is a function `(label, total) -> context manager` that gives an `advance(n)` function. The library's
default, `silent`, shows nothing; the command line passes one that draws bars on stderr.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

Advance: TypeAlias = Callable[[int], None]
Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Advance]]


@contextmanager
def silent(label: str, total: int) -> Iterator[Advance]:
    """Report progress to nobody."""

    def advance(n: int) -> None:
        pass

    yield advance
