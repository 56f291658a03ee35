"""Where a figure comes from: command, commit, machine and versions, to print beside it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["provenance"]

_PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "gpytorch",
    "botorch",
    "lightgbm",
    "ax-platform",
    "transformers",
    "tokenizers",
)


def provenance() -> dict[str, object]:
    """Facts that let a reader repeat a measurement."""
    return {
        "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
        "commit": _git("rev-parse", "--short", "HEAD")
        + ("+" if _git("status", "--porcelain") else ""),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _module() -> str:
    path = Path(sys.argv[0]).resolve()
    parts = path.relative_to(Path(__file__).parents[1]).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__main__" else parts)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
