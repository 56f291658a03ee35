"""Sorting by key through buckets, and counting duplicates, against the obvious ways."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.corpus import keys
from cuvee.corpus.keys import count_duplicates, document_key, heldout_threshold
from cuvee.corpus.shuffle import ShuffledWriter

entries = st.lists(
    st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), st.binary()),
    max_size=30,
)


@given(added=entries, expected=st.sampled_from([0, 200 << 20, 100 << 30]))
@settings(max_examples=60, deadline=None)
def test_arrays_come_out_in_the_order_of_their_keys(
    added: list[tuple[int, bytes]], expected: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = ShuffledWriter(folder / "scratch", np.uint8, expected)
        for key, data in added:
            writer.add(key, data)
        writer.finish(folder / "out.bin", folder / "offsets.bin")
        out = (folder / "out.bin").read_bytes()
        offsets = np.fromfile(folder / "offsets.bin", dtype=np.int64)
        left = list((folder / "scratch").iterdir())
    wanted = [data for _, data in sorted(added, key=lambda pair: pair[0])]
    assert [out[a:b] for a, b in pairwise(offsets)] == wanted
    assert len(out) == offsets[-1]
    assert not left


@given(values=st.lists(st.integers(0, 50), max_size=200))
@settings(max_examples=50, deadline=None)
def test_duplicates_are_counted_the_same_in_one_go_and_in_buckets(values: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = Path(name) / "keys.bin"
        np.array(values, dtype=np.uint64).tofile(path)
        whole = count_duplicates(path)
        patch.setattr(keys, "_BUCKET", 7)
        assert count_duplicates(path) == whole == len(values) - len(set(values))


def test_the_heldout_side_has_its_share_of_documents() -> None:
    threshold = heldout_threshold(0.05)
    held = sum(document_key(str(i).encode(), i).text < threshold for i in range(20_000))
    assert abs(held / 20_000 - 0.05) < 0.006


def test_equal_texts_share_a_side_and_not_a_place() -> None:
    one, other = document_key(b"text", 0), document_key(b"text", 1)
    assert one.text == other.text
    assert one.place != other.place
