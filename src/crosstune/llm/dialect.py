"""What an OpenAI-compatible endpoint understands beyond the core of the protocol; found out by asking."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from crosstune.llm.failures import is_too_long

# What is lost without it. Reasoning models refuse a temperature, and many local servers a schema.
_LOSSES = {
    "json_schema": "replies are asked for as plain JSON and checked here",
    "response_format": "replies in JSON are asked for in words only and checked here",
    "temperature": "the same question may get another answer each time",
    "seed": "the same question may get another answer each time",
    "stream_options": "tokens of streamed answers are not counted",
}


class Dialect:
    """Leaves out of a request what the endpoint has refused before. Used from several threads."""

    def __init__(self) -> None:
        self._refused: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each thing that was refused, with what is lost by it."""
        return tuple(f"the endpoint does not take {name}: {_LOSSES[name]}" for name in self._refused)

    def spoken(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a request in a form that has not been refused."""
        spoken = {name: value for name, value in wanted.items() if name not in self._refused}
        if "response_format" in spoken and "json_schema" in self._refused:
            spoken["response_format"] = {"type": "json_object"}
        return spoken

    def learn(self, error: Any, sent: Mapping[str, Any]) -> bool:
        """Whether the endpoint's error names a setting that was sent; the next request goes without it.

        Args:
            error: Of HTTP status 400 or 422.
            sent: Settings of the refused request.
        """
        named = next((name for name in _LOSSES if name in sent and _names(error, name)), None)
        if named is None or is_too_long(error):
            return False
        if named == "response_format" and sent[named]["type"] == "json_schema":
            named = "json_schema"
        self._refused[named] = None
        return True


def _names(error: Any, setting: str) -> bool:
    if isinstance(error.param, str):
        return error.param.split(".")[0] == setting
    return re.search(rf"\b{setting}\b", error.message or "") is not None
