"""Why a request gets no ranking."""

from __future__ import annotations

from enum import Enum

from crosstune.errors import CrosstuneError


class Reason(Enum):
    """Kinds of refusals. The value is the HTTP status, unless a dialect has another for it, and a stable name."""

    MALFORMED = (400, "malformed")
    EMPTY = (400, "empty")
    UNAUTHORISED = (401, "unauthorised")
    NOT_FOUND = (404, "not_found")
    WRONG_METHOD = (405, "wrong_method")
    TOO_LARGE = (413, "too_large")
    INVALID = (422, "invalid")
    GONE = (499, "client_gone")
    FAILED = (500, "failed")
    OVERLOADED = (503, "overloaded")
    NOT_READY = (503, "not_ready")

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.value[0]

    @property
    def code(self) -> str:
        """Name in error bodies."""
        return self.value[1]


class Refusal(CrosstuneError):
    """An answer other than a ranking. Each dialect writes it in its own form.

    Args:
        reason: What kind.
        message: What was expected, what was found, and the remedy; never the user's text.
        retry_after_s: When to come again; None where that does not help.
    """

    def __init__(self, reason: Reason, message: str, retry_after_s: int | None = None) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(message)
