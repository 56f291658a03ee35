"""Reading what a user wrote: a YAML or JSON file, with the line of every field."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from cuvee.errors import SpecError

__all__ = ["Document", "Location", "dotted", "override", "read_document"]

Location: TypeAlias = tuple[str | int, ...]
"""Where a value is: keys of mappings and indices of lists, from the outside in."""

_LARGEST_FILE = 10_000_000
"""Bytes. A specification is a page or two; a corpus given in its place should not be parsed."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file.

    Attributes:
        name: What to call the file in messages.
        data: Its content: mappings, lists, text, numbers.
        lines: Line number, from 1, by location; empty for JSON.
    """

    name: str
    data: dict[str, Any]
    lines: Mapping[Location, int] = field(default_factory=dict)


def read_document(path: Path) -> Document:
    """Parse a YAML file, or JSON if its name ends in ``.json``.

    Raises:
        SpecError: If the file cannot be read or parsed, repeats a key, or does not hold a mapping.
    """
    name = str(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise SpecError(f"{name} is larger than {_LARGEST_FILE:,} bytes: is it the right file?")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{name} does not exist (looked in {Path.cwd()})") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise SpecError(f"{name} cannot be read: {error.strerror}") from None
    data, lines = _from_json(name, text) if path.suffix == ".json" else _from_yaml(name, text)
    if not isinstance(data, dict):
        found = "nothing" if data is None else "a list" if isinstance(data, list) else repr(data)
        raise SpecError(f"{name} holds {found}, but `field: value` lines are needed")
    return Document(name, data, lines)


def _from_json(name: str, text: str) -> tuple[Any, dict[Location, int]]:
    try:
        return json.loads(text), {}
    except RecursionError:
        raise SpecError(f"{name} is not JSON that can be read: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise SpecError(
            f"{name} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None


def _from_yaml(name: str, text: str) -> tuple[Any, dict[Location, int]]:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, {}
        lines: dict[Location, int] = {}
        repeated = _index(root, (), lines)
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecError(f"{name} is not YAML: {where}{error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SpecError(f"{name} is not YAML: {error}") from None
    finally:
        loader.dispose()
    if repeated:
        said = "; ".join(f"{dotted(where)} again on line {line}" for where, line in repeated)
        raise SpecError(f"{name} gives a field twice: {said}. Keep one of each.")
    return data, lines


def _index(node: yaml.Node, at: Location, lines: dict[Location, int]) -> list[tuple[Location, int]]:
    """Note the line of everything below ``node``; return the keys that occur twice."""
    lines.setdefault(at, node.start_mark.line + 1)
    repeated: list[tuple[Location, int]] = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            line = key.start_mark.line + 1
            if here in lines and key.value != "<<":
                repeated.append((here, line))
            lines[here] = line
            repeated += _index(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            repeated += _index(value, (*at, index), lines)
    return repeated


def dotted(at: Location) -> str:
    """A location as people write it: ``rungs[1].tokens``."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def override(document: Document, settings: list[str]) -> Document:
    """Apply ``path=value`` settings, such as ``seed=7`` or ``rungs.1.tokens=300000``.

    Values are read as YAML, so ``7`` is a number, ``[a, b]`` a list and ``null`` nothing.

    Raises:
        SpecError: If a setting has no ``=``, or leads through something that has no fields.
    """
    data = copy.deepcopy(document.data)
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise SpecError(f"--set {setting}: write it as path=value, such as --set seed=7")
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise SpecError(f"--set {setting}: {value!r} is not a YAML value") from None
        _assign(data, path.split("."), parsed, setting)
    return Document(document.name, data, document.lines)


def _assign(data: Any, path: list[str], value: Any, setting: str) -> None:
    for depth, part in enumerate(path):
        key: str | int = part
        if isinstance(data, list):
            if not part.isdigit() or int(part) >= len(data):
                where = ".".join(path[:depth])
                raise SpecError(
                    f"--set {setting}: {where} is a list of {len(data)}, counted from 0; "
                    f"{part!r} is not one of its entries"
                )
            key = int(part)
        elif not isinstance(data, dict):
            raise SpecError(f"--set {setting}: {'.'.join(path[:depth])} has no fields of its own")
        if depth == len(path) - 1:
            data[key] = value
        elif isinstance(data, dict):
            data = data.setdefault(key, {})
        else:
            data = data[key]
