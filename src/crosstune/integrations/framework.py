"""Asking for a framework that an adapter is for, so that a missing one is named with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from crosstune.errors import CrosstuneError


class MissingFrameworkError(CrosstuneError, ImportError):
    """The framework that an adapter is for is not installed."""


@contextmanager
def framework(module: str, install: str) -> Iterator[None]:
    """Stand around an adapter's imports of its framework.

    Args:
        module: The framework's top module, for example "langchain_core".
        install: What to give pip.

    Raises:
        MissingFrameworkError: The framework is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # A framework that is there but broken must not be reported as missing.
        if (error.name or "").split(".")[0] != module:
            raise
        raise MissingFrameworkError(
            f'this adapter needs {module}, which is not installed; install it with: pip install "{install}"'
        ) from error
