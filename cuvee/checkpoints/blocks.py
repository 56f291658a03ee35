"""Reading tensors block by block into memory that is used again.

Plain reads, not a mapping of the file: pages of a mapping count as this process's memory, all of
the inputs in the end, and a container that looks at that number ends the process.
"""

from __future__ import annotations

import os

from cuvee.checkpoints.folder import ModelFolder, Shard
from cuvee.errors import CheckpointError

__all__ = ["BlockReader"]

_ANNOUNCED = 128 * 2**10
"""Linux fetches no more than its read-ahead window for one announcement; this is the usual one."""


class BlockReader:
    """One thread's way to read one model. Keeps one file open at a time.

    Args:
        model: What to read.
        forget: Tell the system to drop from its cache what was read. Right when the files do not
            fit into memory: they would push out everything else and still not be there next time.
    """

    def __init__(self, model: ModelFolder, *, forget: bool = False) -> None:
        self._model = model
        self._forget = forget
        self._shard: Shard | None = None
        self._file = -1

    def close(self) -> None:
        if self._shard is not None:
            os.close(self._file)
            self._shard = None

    def announce(self, name: str, start: int, size: int) -> None:
        """Let the system begin to fetch bytes ``start`` to ``start + size`` of a tensor."""
        for position in range(start, start + size, _ANNOUNCED):
            length = min(_ANNOUNCED, start + size - position)
            self._advise(name, position, length, "POSIX_FADV_WILLNEED")

    def done(self, name: str, start: int, size: int) -> None:
        """Say that these bytes will not be read again."""
        if self._forget:
            self._advise(name, start, size, "POSIX_FADV_DONTNEED")

    def read(self, name: str, start: int, into: memoryview) -> None:
        """Fill ``into`` with a tensor's bytes from ``start`` on.

        Raises:
            CheckpointError: The file ends before; it was cut after its header was validated.
        """
        place = self._model.tensors[name]
        file = self._opened(place.shard)
        position, filled = place.entry.start + start, 0
        while filled < len(into):
            count = os.preadv(file, [into[filled:]], position + filled)
            if count == 0:
                raise CheckpointError(
                    f"{place.shard.path} was cut short during the merge", file=str(place.shard.path)
                )
            filled += count

    def _opened(self, shard: Shard) -> int:
        if self._shard is not shard:
            self.close()
            self._file = shard.open()
            self._shard = shard
        return self._file

    def _advise(self, name: str, start: int, size: int, advice: str) -> None:
        if hasattr(os, "posix_fadvise"):  # not on macOS
            place = self._model.tensors[name]
            file = self._opened(place.shard)
            os.posix_fadvise(file, place.entry.start + start, size, getattr(os, advice))
