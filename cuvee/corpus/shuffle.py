"""Arrays written in the order of their keys, in bounded memory.

Documents are packed in the order of a hash, so that any prefix of the packed file is a random
subset of the domain, and a shorter prefix is contained in a longer one. Sorting more than memory
holds takes two steps: append each array to the bucket of its key, then sort bucket by bucket.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

__all__ = ["ShuffledWriter", "sync"]

_BUCKET_BYTES = 48 << 20
_MAX_BUCKETS = 256
_INDEX = np.dtype([("key", "<u8"), ("length", "<i8")])


class ShuffledWriter:
    """Collects arrays with 64-bit keys, then writes them out sorted by key.

    Memory in use is 16 bytes per array of one bucket and the mapped pages of that bucket, which are
    48 MB up to 12 GB of output. Arrays with equal keys keep the order in which they were added.

    Args:
        folder: Scratch space; emptied of earlier buckets first, and after ``finish``.
        dtype: Type of the items.
        expected_bytes: Estimate of the output's size; only speed and memory depend on it.
    """

    def __init__(self, folder: Path, dtype: npt.DTypeLike, expected_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._dtype = np.dtype(dtype)
        count = max(1, min(_MAX_BUCKETS, -(-expected_bytes // _BUCKET_BYTES)))
        self._paths = [(folder / f"{i}.items", folder / f"{i}.index") for i in range(count)]
        self._items: list[BinaryIO] = []
        self._index: list[BinaryIO] = []
        for items, index in self._paths:
            self._items.append(items.open("wb", buffering=1 << 16))
            self._index.append(index.open("wb"))

    def add(self, key: int, items: npt.NDArray[Any] | bytes) -> None:
        """Add one array under a key in ``[0, 2**64)``; ``bytes`` are taken as uint8."""
        bucket = key * len(self._paths) >> 64
        self._items[bucket].write(items if isinstance(items, bytes) else items.tobytes())
        self._index[bucket].write(
            key.to_bytes(8, "little") + len(items).to_bytes(8, "little", signed=True)
        )

    def finish(self, target: Path, offsets: Path | None = None) -> None:
        """Write all arrays, concatenated in key order, and remove the scratch files.

        Args:
            target: File of the items.
            offsets: File of int64 ``(count + 1,)``: where each array starts, and the end.
        """
        for handle in (*self._items, *self._index):
            handle.close()
        position = 0
        with target.open("wb") as out, (offsets or target.with_suffix(".tmp")).open("wb") as marks:
            marks.write(position.to_bytes(8, "little"))
            for items_path, index_path in self._paths:
                items = _mapped(items_path, self._dtype)
                index = np.fromfile(index_path, dtype=_INDEX)
                ends = np.cumsum(index["length"])
                order = np.argsort(index["key"], kind="stable")
                for i in order:
                    out.write(items[ends[i] - index["length"][i] : ends[i]].data)
                sorted_ends = position + np.cumsum(index["length"][order])
                marks.write(sorted_ends.astype("<i8").tobytes())
                position = int(sorted_ends[-1]) if len(sorted_ends) else position
                items_path.unlink()
                index_path.unlink()
            sync(out)
            sync(marks)
        if offsets is None:
            target.with_suffix(".tmp").unlink()

    def close(self) -> None:
        """Let go of the scratch files without writing anything; harmless after ``finish``."""
        for handle in (*self._items, *self._index):
            handle.close()


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def sync(handle: BinaryIO) -> None:
    """Force a written file to disk: a renamed folder must not hold empty files after a crash."""
    handle.flush()
    os.fsync(handle.fileno())
