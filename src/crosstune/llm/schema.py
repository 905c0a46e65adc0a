"""Whether a value has the form that a JSON Schema asks for, as far as our schemas go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def fault(value: Any, schema: Mapping[str, Any], place: str = "the reply") -> str | None:
    """The first thing wrong with a value, without quoting it; None for a value that fits.

    Reads `type`, `properties`, `required`, `additionalProperties: false`, `items` and `enum`.

    >>> fault({"n": "2"}, {"type": "object", "properties": {"n": {"type": "integer"}}})
    'the reply.n is no integer'
    """
    wanted = schema.get("type")
    if wanted and (not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")):
        return f"{place} is no {wanted}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is none of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, dict):
        return _fault_of_object(value, schema, place)
    if isinstance(value, list) and "items" in schema:
        faults = (fault(item, schema["items"], f"{place}[{i}]") for i, item in enumerate(value))
        return next((found for found in faults if found), None)
    return None


def _fault_of_object(value: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> str | None:
    properties = schema.get("properties", {})
    missing = [key for key in schema.get("required", ()) if key not in value]
    if missing:
        return f"{place} lacks {', '.join(missing)}"
    if schema.get("additionalProperties") is False and value.keys() - properties.keys():
        return f"{place} has other keys than {', '.join(properties)}"
    faults = (fault(value[key], schema_of, f"{place}.{key}") for key, schema_of in properties.items() if key in value)
    return next((found for found in faults if found), None)
