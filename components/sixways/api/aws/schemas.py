"""Models of API Gateway from the schemas of the server's own OpenAPI document.

API Gateway reads JSON schema draft 4 without `anyOf`, `oneOf`, `additionalProperties`,
`exclusiveMinimum`, `minItems`, `maxItems`, `readOnly`, `discriminator`, examples and number
formats, and names of models are letters and digits (AWS: "Amazon API Gateway important notes for
REST APIs"; "Data models for REST APIs"). What it cannot hold is left out: a model refuses less than
the server does, never more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PREFIX = "#/components/schemas/"
_KEPT = ("enum", "maxLength", "maximum", "minLength", "minimum", "pattern", "required", "type")
_JSON = "application/json"


def body_schema(operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of an operation's JSON body. None where there is none, or where another type of
    body is accepted too: API Gateway refuses a type that has no model."""
    content = operation.get("requestBody", {}).get("content", {})
    if set(content) != {_JSON}:
        return None
    found: Mapping[str, Any] | None = content[_JSON].get("schema")
    return found


def models(document: Mapping[str, Any], used: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The models that the operations need, by their names in API Gateway.

    Args:
        document: the server's OpenAPI document.
        used: the schemas of the operations' bodies, by any name.
    """
    schemas = document.get("components", {}).get("schemas", {})
    found: dict[str, dict[str, Any]] = {}
    waiting = [name for schema in used.values() for name in _references(reduced(schema))]
    while waiting:
        name = waiting.pop()
        if name in found or name not in schemas:
            continue
        found[name] = reduced(schemas[name])
        waiting += _references(found[name])
    return {model_name(name): schema for name, schema in sorted(found.items())}


def model_name(name: str) -> str:
    """The name of a schema in letters and digits."""
    return re.sub(r"[^A-Za-z0-9]", "", name)


def reduced(schema: object) -> dict[str, Any]:
    """The schema without what API Gateway cannot hold; it takes all that the schema takes."""
    if not isinstance(schema, Mapping):
        return {}
    if "$ref" in schema:
        return {"$ref": _PREFIX + model_name(str(schema["$ref"]).removeprefix(_PREFIX))}
    if not isinstance(schema.get("type"), str):
        # A choice (anyOf, oneOf, a list of types): anything goes, and the server decides.
        return {"enum": [schema["const"]]} if "const" in schema else {}
    found = {key: schema[key] for key in _KEPT if key in schema}
    if "const" in schema:
        found["enum"] = [schema["const"]]
    for ours, theirs in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(theirs), int | float) and ours not in found:
            found[ours] = schema[theirs]
    if "properties" in schema:
        found["properties"] = {name: reduced(value) for name, value in schema["properties"].items()}
    if found["type"] == "array":
        found["items"] = reduced(schema.get("items"))
    return found


def _references(schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"].removeprefix(_PREFIX)
    for value in schema.get("properties", {}).values():
        yield from _references(value)
    if "items" in schema:
        yield from _references(schema["items"])
