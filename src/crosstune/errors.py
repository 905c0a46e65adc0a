"""Every error that crosstune raises on purpose.

CrosstuneError                 something a person can put right; the message says how
├── ConfigError                a setting or an option is wrong
├── DataError                  a file of the user's cannot be used (path, row)
├── LeakageError               the same question or answer stands on both sides of a split
├── CheckpointError            a base model cannot be found, read or used
├── ParityError                an export does not rank as the model does (export/parity.py)
├── BundleError                a saved model folder is missing, damaged or of another kind
├── StoreError                 an index cannot be reached, read or written (retrieval/stores)
├── LlmError                   the language model's endpoint does not answer as it should (llm)
└── MissingExtraError          an optional dependency is not installed (extra)

The command line turns `ConfigError`, `DataError`, `LeakageError`, `CheckpointError`, `BundleError`,
`StoreError`, `LlmError` and `MissingExtraError` into exit code 2 and anything else into exit code 1.
"""

from __future__ import annotations

from pathlib import Path


class CrosstuneError(Exception):
    """Base of all errors that crosstune raises on purpose."""


class ConfigError(CrosstuneError):
    """A setting or an option is wrong."""


class DataError(CrosstuneError):
    """A file of the user's cannot be used.

    Args:
        message: What was expected, what was found, and the remedy.
        path: The file.
        row: Data row number, 1 for the first row after the header; None when the whole file is meant.
    """

    def __init__(self, message: str, path: str | Path | None = None, row: int | None = None) -> None:
        self.path = path
        self.row = row
        where = "" if path is None else Path(path).name
        if row is not None:
            where = f"{where} row {row}".strip()
        super().__init__(f"{where}: {message}" if where else message)


class LeakageError(CrosstuneError):
    """The same question or answer stands on both sides of a split."""


class CheckpointError(CrosstuneError):
    """A base model cannot be found, read or used."""


class BundleError(CrosstuneError):
    """A saved model folder is missing, damaged or of another kind."""


class StoreError(CrosstuneError):
    """An index of passages cannot be reached, read or written; the message names it and never its password."""


class LlmError(CrosstuneError):
    """The language model's endpoint cannot be reached, refuses, or does not answer in the agreed form."""


class MissingExtraError(CrosstuneError):
    """An optional dependency is not installed.

    Args:
        extra: Name of the extra, for example "train".
        what: What needs it, for example "training".
    """

    def __init__(self, extra: str, what: str) -> None:
        self.extra = extra
        super().__init__(
            f"{what} needs the optional packages of crosstune[{extra}]; install them with: "
            f'pip install "crosstune[{extra}]"'
        )
