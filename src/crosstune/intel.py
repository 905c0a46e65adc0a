"""openvino and nncf without their telemetry.

Both report to Google Analytics when they are imported, unless the user's home holds an opt-out or their package
`openvino_telemetry` is not there. We say that it is not there, for the time of the import: nothing goes to the network.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from crosstune.extras import require

_TELEMETRY = "openvino_telemetry"


def import_openvino(what: str) -> Any:
    """Import openvino.

    Raises:
        MissingExtraError: It is not installed.
    """
    with _untracked():
        return require("openvino", extra="openvino", what=what)


def import_nncf(what: str) -> Any:
    """Import nncf, quiet below warnings.

    Raises:
        MissingExtraError: It is not installed.
    """
    import_openvino(what)
    with _untracked():
        nncf: Any = require("nncf", extra="openvino", what=what)
        nncf.set_log_level(logging.ERROR)
    return nncf


@contextmanager
def _untracked() -> Iterator[None]:
    missing = object()
    before = sys.modules.get(_TELEMETRY, missing)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes an import of it fail
    try:
        yield
    finally:
        if isinstance(before, ModuleType):
            sys.modules[_TELEMETRY] = before
        else:
            del sys.modules[_TELEMETRY]
