"""One way to ask for an optional package, so that a missing one is always named with its remedy."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from crosstune.errors import MissingExtraError


def require(module: str, *, extra: str, what: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: Module to import, for example "torch".
        extra: The crosstune extra that installs it.
        what: What needs it, the subject of the error message.

    Raises:
        MissingExtraError: The module's package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A package that is there but broken must not be reported as missing.
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(extra, what) from error
