"""Settings of the data room."""

from __future__ import annotations

from dataclasses import dataclass

from crosstune.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How a user's file is read. None means: find out from the file.

    Attributes:
        question_column, answer_column, label_column: Column names; case, blanks and punctuation do not count.
        delimiter: One character between the fields of a CSV file.
        encoding: Any name Python knows, for example "cp1252".
        skip_bad_rows: Drop and report rows that cannot be read, where the default is to refuse the file.
    """

    question_column: str | None = None
    answer_column: str | None = None
    label_column: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    skip_bad_rows: bool = False

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigError(f"delimiter must be one character, found {self.delimiter!r}; for a tab pass $'\\t'")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError as error:
                raise ConfigError(
                    f"encoding {self.encoding!r} is not known; try utf-8, utf-16, cp1252 or gb18030"
                ) from error


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How questions are split into train, dev and test.

    Attributes:
        seed: Seeds the shuffle of the groups.
        dev, test: Shares of the questions that have a relevant passage.
        max_dev, max_test: Caps in questions; what is beyond them goes to train.
    """

    seed: int = 0
    dev: float = 0.1
    test: float = 0.2
    max_dev: int = 150
    max_test: int = 400

    def __post_init__(self) -> None:
        if not (0 < self.dev < 1 and 0 < self.test < 1 and self.dev + self.test < 1):
            raise ConfigError(
                f"dev and test must be shares above 0 that leave something to train on, "
                f"found dev={self.dev} and test={self.test}; the defaults are 0.1 and 0.2"
            )
        if self.max_dev < 1 or self.max_test < 1:
            raise ConfigError(f"max_dev and max_test must be 1 or more, found {self.max_dev} and {self.max_test}")

    def target_sizes(self, n_queries: int) -> tuple[int, int]:
        """Most questions that dev and test may hold, of `n_queries` that have a relevant passage."""
        n_dev = min(round(self.dev * n_queries), self.max_dev)
        n_test = min(round(self.test * n_queries), self.max_test)
        return max(n_dev, 1), max(n_test, 1)
