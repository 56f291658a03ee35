"""Checkpoints of a training run: safetensors for every tensor, JSON for every scalar.

One file per checkpoint, ``step-000000120.safetensors``: tensors of the model and of the optimiser,
and in the header a JSON text with the step, the identity of the run and a checksum of all of it.
One file means one rename, so a reader finds a whole checkpoint or none; the checksum finds
what a rename cannot, a disk that returned other bytes than it was given. The last two are kept, so
that a damaged one costs a part of the run and not the run.

The identity is a hash of everything that determines the run. A folder that holds another run's
checkpoints is a mistake of the caller and raises; going on would mix two runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cuvee.errors import CheckpointError

__all__ = ["FORMAT", "KEPT", "Checkpoint", "load_latest", "read", "write"]

FORMAT = "cuvee-proxy-1"
KEPT = 2
_ABANDONED_SECONDS = 3600
"""A partial file not written to for an hour has no writer any more."""

_NAME = re.compile(r"^step-(\d{9})\.safetensors$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        tensors: Parameters and optimiser state by name, on the CPU.
        scalars: JSON values; ``step`` among them.
    """

    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Any]


def write(folder: Path, identity: str, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and remove all but the last ``KEPT``.

    The file appears under its name complete and on disk. Writers of the same run do not disturb
    each other: they write the same content under temporary names of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scalars = json.dumps(dict(checkpoint.scalars), sort_keys=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
    header = {
        "format": FORMAT,
        "identity": identity,
        "scalars": scalars,
        "checksum": _checksum(tensors, scalars),
    }
    target = folder / f"step-{checkpoint.scalars['step']:09d}.safetensors"
    partial = folder / f".partial-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        save_file(tensors, partial, metadata=header)
        _sync(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    _sync(folder)
    _tidy(folder)
    return target


def load_latest(folder: Path, identity: str) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The newest checkpoint that is whole, and a note for each damaged one passed over.

    Raises:
        CheckpointError: A checkpoint belongs to another run.
    """
    notes: list[str] = []
    for path in _found(folder):
        try:
            return read(path, identity), tuple(notes)
        except CheckpointError as error:
            if error.details.get("foreign"):
                raise
            notes.append(f"{error.message}; went on from the one before")
    return None, tuple(notes)


def read(path: Path, identity: str) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        CheckpointError: It is damaged, or belongs to another run (``details["foreign"]``).
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({error})", file=str(path)) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this program (format {header.get('format')!r}, "
            f"expected {FORMAT!r}): give the run a folder of its own",
            file=str(path),
            foreign=True,
        )
    if header.get("checksum") != _checksum(tensors, header.get("scalars", "")):
        raise CheckpointError(
            f"checkpoint {path} is damaged (its checksum does not match)", file=str(path)
        )
    if header.get("identity") != identity:
        raise CheckpointError(
            f"checkpoint {path} belongs to another run (other rung, corpus, mixture or "
            "seed): give the run a folder of its own, or delete this one",
            file=str(path),
            foreign=True,
        )
    return Checkpoint(tensors, json.loads(header["scalars"]))


def _found(folder: Path) -> list[Path]:
    """Checkpoints in a folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.match(p.name)), reverse=True)


def _checksum(tensors: Mapping[str, Tensor], scalars: str) -> str:
    digest = hashlib.sha256(scalars.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tidy(folder: Path) -> None:
    """Remove old checkpoints, and what a writer left behind that was killed while it wrote."""
    for old in _found(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    for partial in folder.glob(".partial-*"):
        with suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()


def _sync(path: Path) -> None:
    """Force a file to disk, or the names in a folder: a rename is data of the folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
