"""JSON from files that somebody else wrote: no duplicate keys, no surprises of the parser."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from cuvee.errors import CheckpointError

__all__ = ["load_object"]


def load_object(data: bytes, where: str, *, naturals_only: bool = False) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: UTF-8 text.
        where: What the text is, for the message.
        naturals_only: Refuse every number but 0, 1, 2 ...; otherwise whatever Python's parser
            takes is a number, ``Infinity`` included, which model configurations do hold.

    Raises:
        CheckpointError: It is not UTF-8, not JSON, repeats a key, or is not an object.
    """
    numbers: dict[str, Any] = (
        {"parse_int": _natural, "parse_float": _refuse_number, "parse_constant": _refuse_number}
        if naturals_only
        else {}
    )
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, **numbers)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where} holds a {type(value).__name__}, not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} appears twice")
            seen.add(key)
    return found


def _natural(text: str) -> int:
    # "-0" is a number to Python and not to the reference implementation.
    return _refuse_number(text) if text.startswith("-") else int(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a natural number")
