"""Cursors: opaque, bound to their list, and safe to receive from anybody."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import SpecError
from service.usecases.paging import decode_cursor, is_sequence, page_of


@given(st.integers(0, 30), st.integers(1, 10))
def test_pages_cut_a_list_without_loss_or_repetition(total: int, limit: int) -> None:
    rows = list(range(total))
    seen: list[int] = []
    cursor: str | None = None
    while True:
        key = decode_cursor(cursor, "rows", is_sequence)
        after = -1 if key is None else int(key)
        fetched = [row for row in rows if row > after][: limit + 1]
        kept, cursor = page_of(fetched, limit, "rows", lambda row: row)
        seen += kept
        if cursor is None:
            break
    assert seen == rows


def test_no_cursor_is_the_first_page() -> None:
    assert decode_cursor(None, "rows") is None


@given(st.text(max_size=60))
def test_any_text_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(SpecError, match="next_cursor"):
        decode_cursor(text, "rows", is_sequence)


@pytest.mark.parametrize(
    "payload",
    [
        ["other", "1"],
        ["rows", "x"],
        ["rows", "1" * 30],
        ["rows", "-1"],
        ["rows", "١"],
        ["rows"],
        {"rows": "1"},
        "rows",
        None,
    ],
)
def test_a_forged_cursor_is_refused(payload: Any) -> None:
    forged = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(SpecError, match="cursor"):
        decode_cursor(forged, "rows", is_sequence)
