"""Pages by cursor: the position is a key, so page 1000 costs what page 1 does.

A cursor is opaque to clients. It carries the list that it belongs to, so a cursor of one list is
refused by another instead of giving a page of nonsense.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from cuvee.errors import SpecError
from cuvee.records import Page
from service.db.mapping import is_id

__all__ = ["MAX_LIMIT", "Page", "check_limit", "decode_cursor", "is_sequence", "page_of"]

MAX_LIMIT = 200

T = TypeVar("T")


def check_limit(limit: int) -> int:
    """Raises SpecError unless ``1 <= limit <= MAX_LIMIT``."""
    if not 1 <= limit <= MAX_LIMIT:
        raise SpecError(f"limit is {limit}: ask for 1 to {MAX_LIMIT} at a time", field="limit")
    return limit


def decode_cursor(
    cursor: str | None, scope: str, is_key: Callable[[str], bool] = is_id
) -> str | None:
    """The key inside a cursor, or None for the first page.

    Args:
        cursor: What the client sent.
        scope: The list and its filters.
        is_key: Whether a text can be a key of this list; a cursor may come from anybody.

    Raises:
        SpecError: If the cursor is not one of this list's.
    """
    if cursor is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if isinstance(found, list) and len(found) == 2 and found[0] == scope:
            key = str(found[1])
            if is_key(key):
                return key
    except (ValueError, binascii.Error):
        pass
    raise SpecError(
        "the cursor does not belong to this list: take `next_cursor` from the previous page, with "
        "the same filters, or leave it out to start again",
        field="cursor",
    )


def is_sequence(key: str) -> bool:
    """Whether a cursor's key can be a sequence number (a bigint)."""
    return key.isascii() and key.isdecimal() and len(key) <= 18


def page_of(
    rows: Sequence[T], limit: int, scope: str, key: Callable[[T], object]
) -> tuple[Sequence[T], str | None]:
    """Cut ``limit + 1`` fetched rows to a page and the cursor of the next, if there is one."""
    if len(rows) <= limit:
        return rows, None
    kept = rows[:limit]
    payload = json.dumps([scope, str(key(kept[-1]))]).encode()
    return kept, base64.urlsafe_b64encode(payload).decode()
