"""JSON lines over a socket: all that a supervisor and its child say to each other."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Channel"]

_CHUNK = 65_536


class Channel:
    """One end of a connected pair. Sending is safe from several threads; reading is for one."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._buffer = b""
        self._sending = threading.Lock()

    def send(self, **message: Any) -> None:
        """Send one message.

        Raises:
            OSError: If the other end is gone.
        """
        with self._sending:
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> list[dict[str, Any]] | None:
        """Wait for bytes; return the messages they complete, or None at the end of the stream."""
        try:
            chunk = self.socket.recv(_CHUNK)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            return None
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def messages(self) -> Iterator[dict[str, Any]]:
        """Every message until the other end is gone."""
        while (batch := self.read()) is not None:
            yield from batch

    def close(self) -> None:
        self.socket.close()
