"""Versions of an index: how one is named, and the manifest that says which one is published."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

from crosstune.errors import StoreError
from crosstune.text import content_hash
from crosstune.types import IndexSpec

_FORMAT = 1
_NAME_LENGTH = 12
VERSION = re.compile(rf"[0-9a-f]{{{_NAME_LENGTH}}}")
"""What a version is called."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which version of an index is published, and what it was made with."""

    version: str
    spec: IndexSpec

    def as_json(self) -> dict[str, Any]:
        """What is written beside the index."""
        return {
            "format": _FORMAT,
            "version": self.version,
            "crosstune": version("crosstune"),
            "spec": _plain(self.spec),
        }


def version_name(spec: IndexSpec, schema: Mapping[str, Any] | None = None) -> str:
    """The name of the version made with a spec, and with a Redis schema where it is not the usual one."""
    content = json.dumps([_plain(spec), schema], sort_keys=True, ensure_ascii=False)
    return content_hash(content)[:_NAME_LENGTH]


def read_manifest(text: str, location: str) -> Manifest:
    """Read what `Manifest.as_json` gave.

    Raises:
        StoreError: It is damaged, or of a newer crosstune.
    """
    damaged = f"the manifest of the index at {location} is damaged ({{}}); remove it and index the documents again"
    try:
        content = json.loads(text)
        found = content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(damaged.format("it is not a JSON object with a format")) from error
    if found != _FORMAT:
        raise StoreError(
            f"the index at {location} has format {found!r}, this crosstune reads format {_FORMAT}; it was made by "
            f"crosstune {content.get('crosstune', '(unknown)')}: install that version, or index the documents again"
        )
    try:
        if not VERSION.fullmatch(content["version"]):
            raise ValueError("version")
        return Manifest(content["version"], IndexSpec(**content["spec"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(damaged.format("version or spec is missing or wrong")) from error


def _plain(spec: IndexSpec) -> dict[str, Any]:
    content = {field.name: getattr(spec, field.name) for field in fields(spec)}
    return {**content, "fields": dict(spec.fields)}
