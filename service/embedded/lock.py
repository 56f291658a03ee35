"""One stack per data folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from cuvee.errors import ConflictError

__all__ = ["StackLock"]


class StackLock:
    """An advisory lock on a file, which also says who holds it.

    Raises:
        ConflictError: On ``acquire``, if another process holds it; the message says which.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        while self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(os.read(descriptor, 1024))
                os.close(descriptor)
                raise ConflictError(
                    f"another stack ({holder}) runs on {self.path.parent}: stop it first, or give "
                    "another --data-dir",
                    data_dir=str(self.path.parent),
                ) from None
            # The last holder removes the file; a lock on a removed file excludes nobody.
            if self._is_current(descriptor):
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        self.describe(None)

    def describe(self, url: str | None) -> None:
        """Write who holds the lock, for those who find it taken."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps({"pid": os.getpid(), "url": url}).encode(), 0)

    def release(self) -> None:
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False


def _holder(content: bytes) -> str:
    try:
        holder = json.loads(content)
        return f"pid {holder['pid']}, {holder['url'] or 'starting'}"
    except (ValueError, KeyError, TypeError):
        return "starting"
