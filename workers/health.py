"""Whether this machine's worker lives: ``python -m workers.health``, for container health checks.

A worker process touches a file while its loop turns. A Celery ping would ask the broker, which may
be down while the worker is well, and a busy pool answers no ping.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["beat", "seconds_since_beat"]

_STALE_SECONDS = 120.0


def _path() -> Path:
    return Path(tempfile.gettempdir()) / f"cuvee-worker-{os.getuid()}.alive"


def beat() -> None:
    """Say that this process is alive."""
    _path().touch()


def seconds_since_beat() -> float:
    """Age of the newest sign of life on this machine; infinite if there was none."""
    try:
        return time.time() - _path().stat().st_mtime
    except FileNotFoundError:
        return float("inf")


if __name__ == "__main__":
    sys.exit(0 if seconds_since_beat() < _STALE_SECONDS else 1)
