"""Byte streams of input files: opened through fsspec, decompressed on the way.

A truncated file must never look like a short one. ``gzip`` sees to that itself; for zstd the
frame's end is checked here, because ``zstandard``'s own stream reader ends quietly.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zstandard

from cuvee.corpus.sources import InputFile

__all__ = ["ByteStream", "open_stream"]

_CHUNK = 1 << 17


class ByteStream:
    """A buffered stream and how far into the stored file it has come."""

    def __init__(self, raw: Any, buffered: io.BufferedIOBase, size: int) -> None:
        self._raw = raw
        self._size = max(1, size)
        self.buffered = buffered

    @property
    def share(self) -> float:
        """Share of the stored bytes that have been read, between 0 and 1."""
        return min(1.0, float(self._raw.tell()) / self._size)


class _ZstdReader(io.RawIOBase):
    """Decompresses concatenated zstd frames and refuses to end inside one."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._ready:
            compressed = self._raw.read(_CHUNK)
            if not compressed:
                if self._frame is not None:
                    raise EOFError("the file ends inside a zstd frame")
                return 0
            self._ready = memoryview(self._decompress(compressed))
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decompress(self, compressed: bytes) -> bytes:
        parts = []
        while compressed:
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            parts.append(self._frame.decompress(compressed))
            if not self._frame.eof:
                break
            compressed = self._frame.unused_data
            self._frame = None
        return b"".join(parts)


@contextmanager
def open_stream(file: InputFile) -> Iterator[ByteStream]:
    """Open a file for reading, decompressed.

    Reading from the stream raises EOFError, zlib.error, gzip.BadGzipFile or zstandard.ZstdError
    when the compressed data is damaged; ``cuvee.corpus.readers`` turns those into CorpusError.
    """
    with file.filesystem.open(file.path, "rb") as raw:
        if file.compression == "gzip":
            stream: io.BufferedIOBase = io.BufferedReader(gzip.GzipFile(fileobj=raw), _CHUNK)
        elif file.compression == "zstd":
            stream = io.BufferedReader(_ZstdReader(raw), _CHUNK)
        else:
            stream = raw
        yield ByteStream(raw, stream, file.size)
