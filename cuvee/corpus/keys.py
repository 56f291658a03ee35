"""What a document's hash decides: its side of the split, whether it is a duplicate, its place.

Both sides of every decision are functions of the text alone (and, for the place, of the document's
number within its domain), so they do not depend on file names, seeds, or the other domains.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["DocumentKey", "count_duplicates", "document_key", "heldout_threshold"]

_SPAN = 1 << 64
_BUCKET = 4_000_000


class DocumentKey(NamedTuple):
    """``text``: 64 bits of the text's hash. ``place``: where the document stands in packed order.

    Equal texts have equal ``text`` but different ``place``: packed side by side, copies would teach
    a model to look for copies.
    """

    text: int
    place: int


def document_key(data: bytes, number: int) -> DocumentKey:
    """The key of the ``number``-th document (from 0) of a domain."""
    digest = hashlib.blake2b(data, digest_size=16, person=b"cuvee.document").digest()
    place = hashlib.blake2b(digest + number.to_bytes(8, "little"), digest_size=8).digest()
    return DocumentKey(int.from_bytes(digest[:8], "little"), int.from_bytes(place, "little"))


def heldout_threshold(share: float) -> int:
    """Documents whose ``text`` key is below this are held out."""
    return round(share * _SPAN)


def count_duplicates(path: Path) -> int:
    """How many of the uint64 keys in a file occurred earlier in it, in bounded memory."""
    size = path.stat().st_size
    if size == 0:
        return 0
    keys: npt.NDArray[np.uint64] = np.memmap(path, dtype=np.uint64, mode="r")
    buckets = np.uint64(-(-len(keys) // _BUCKET))
    distinct = 0
    for bucket in range(int(buckets)):
        mine = [chunk[chunk % buckets == bucket] for chunk in _chunks(keys)]
        distinct += len(np.unique(np.concatenate(mine)))
    return len(keys) - distinct


def _chunks(keys: npt.NDArray[np.uint64]) -> list[npt.NDArray[np.uint64]]:
    return [keys[start : start + _BUCKET] for start in range(0, len(keys), _BUCKET)]
