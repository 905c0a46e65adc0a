"""What a server accepts."""

from __future__ import annotations

from dataclasses import dataclass, field

from crosstune.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """Limits of a server.

    Attributes:
        max_documents: Most documents in a request.
        max_body_bytes: Largest request body.
        max_waiting: Most requests that wait while one is ranked; further ones are refused.
        deadline_ms: Time for a request from its arrival; a client may ask for less. None for no limit.
        api_key: What clients must send; None lets everybody in.

    Raises:
        ConfigError: A limit is not above 0, or the key is empty.
    """

    max_documents: int = 1000
    max_body_bytes: int = 10_000_000
    max_waiting: int = 64
    deadline_ms: float | None = None
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("max_documents", "max_body_bytes", "max_waiting", "deadline_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0, found {value:g}")
        if self.api_key is not None and not self.api_key.strip():
            raise ConfigError("the API key is empty; give one, or unset CROSSTUNE_API_KEY to let everybody in")
