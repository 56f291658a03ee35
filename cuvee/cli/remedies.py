"""Validation errors in plain words: which field, what it holds, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cuvee.cli.documents import Document, Location, dotted
from cuvee.errors import SpecError

__all__ = ["validate"]

R = TypeVar("R", bound=BaseModel)


def validate(model: type[R], document: Document) -> R:
    """Build a specification from a file's content.

    Raises:
        SpecError: Listing every problem with its line, field and remedy; ``details["errors"]`` has
            the field paths.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems = [_problem(model, document, e) for e in _told(error.errors())]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    said = "\n".join(f"  {line}" for _, line in problems)
    raise SpecError(
        f"{document.name} has {count}:\n{said}", errors=[{"field": field} for field, _ in problems]
    )


def _told(errors: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out what only follows from another error.

    A list whose entries are all invalid also counts as empty.
    """
    for error in errors:
        deeper = any(
            len(e["loc"]) > len(error["loc"]) and e["loc"][: len(error["loc"])] == error["loc"]
            for e in errors
        )
        if not (error["type"] == "too_short" and deeper):
            yield error


def _problem(model: type[BaseModel], document: Document, error: ErrorDetails) -> tuple[str, str]:
    at = _in_file(error["loc"], document.data)
    field = dotted(at) or "the whole file"
    line = next(
        (document.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in document.lines), 0
    )
    where = f"line {line}, {field}" if line else field
    return field, f"{where}: {_remedy(model, error)}"


def _in_file(loc: Location, data: Any) -> Location:
    """Drop the tags that pydantic adds to a location where a ``kind`` chose the record."""
    at: list[str | int] = []
    for part in loc:
        if isinstance(data, dict) and part not in data and data.get("kind") == part:
            continue
        at.append(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            data = None
    return tuple(at)


def _remedy(model: type[BaseModel], error: ErrorDetails) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        about = _schema_at(model, error["loc"]).get("description")
        return "is missing; add it" + (f" ({about.rstrip('.')})" if about else "")
    if kind == "extra_forbidden":
        return _unknown(str(error["loc"][-1]), _schema_at(model, error["loc"][:-1]))
    if kind == "union_tag_not_found":
        options = sorted(_schema_at(model, error["loc"]).get("discriminator", {})["mapping"])
        return f"has no `kind`; add one of kind: {', '.join(options)}"
    if kind == "union_tag_invalid":
        return f"kind is {context['tag']!r}; use one of {context['expected_tags']}"
    if kind == "literal_error":
        return f"is {_seen(given)}; use {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "too_short":
        return f"has {context['actual_length']} entries, needs at least {context['min_length']}"
    if kind == "too_long":
        return f"has more than the {context['max_length']} entries allowed"
    for sign, words in _LIMITS.items():
        if kind == sign:
            limit = next(v for k, v in context.items() if k in ("gt", "ge", "lt", "le"))
            return f"is {_seen(given)}; it must be {words} {limit}"
    for prefix, needed in _NEEDED.items():
        if kind.startswith(prefix):
            instead = "leave it out, or give it" if given is None else "it needs"
            return f"is {_seen(given)}; {instead} {needed}"
    return f"is {_seen(given)}: {error['msg']}"


_LIMITS = {
    "greater_than": "greater than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}

_NEEDED = {
    "int_": "a whole number in digits, such as 200000 or 200_000",
    "float_": "a number, such as 0.25",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "string_": 'text; put it in quotes if it looks like a number, such as "123"',
    "tuple_type": "a list: [a, b], or one `- entry` per line",
    "dict_type": "fields of its own: `name: value` lines, indented below it",
    "model_": "fields of its own: `name: value` lines, indented below it",
}


def _seen(value: Any) -> str:
    """What the user wrote, and which kind of value it was read as."""
    match value:
        case None:
            return "empty"
        case bool():
            return f"{'true' if value else 'false'} (yes or no)"
        case int():
            return f"{value} (a whole number)"
        case float():
            return f"{value:g} (a number)"
        case str():
            return f"{value[:60]!r} (text)"
        case list() | tuple():
            return "a list"
        case _:
            return "a group of fields"


def _unknown(name: str, schema: dict[str, Any]) -> str:
    known = sorted(schema.get("properties", {}))
    close = get_close_matches(name, known, n=1)
    if close:
        return f"there is no such field; did you mean `{close[0]}`?"
    return "there is no such field; " + (f"known: {', '.join(known)}" if known else "remove it")


def _schema_at(model: type[BaseModel], loc: Location) -> dict[str, Any]:
    """The JSON schema of a field, following references, lists and the choice by ``kind``."""
    root = model.model_json_schema()
    schema: dict[str, Any] = root

    def resolved(schema: dict[str, Any]) -> dict[str, Any]:
        options = [o for o in schema.get("anyOf", []) if o.get("type") != "null"]
        if len(options) == 1:
            schema = {**schema, **options[0]}
        if "$ref" in schema:
            schema = {**root["$defs"][schema["$ref"].rsplit("/", 1)[1]], **schema}
        return schema

    for part in loc:
        schema = resolved(schema)
        mapping = schema.get("discriminator", {}).get("mapping", {})
        if isinstance(part, int):
            schema = schema.get("items", {})
        elif part in mapping:
            schema = {"$ref": mapping[part]}
        else:
            below = schema.get("properties", {}).get(part) or schema.get("additionalProperties")
            schema = below if isinstance(below, dict) else {}
    return resolved(schema)
