"""Writing a model folder so that it appears whole or not at all.

The header of a safetensors file comes first and says where every tensor will be, so the data can
follow in order without being held. Everything is written into a hidden folder beside the target,
forced to disk, and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cuvee.checkpoints.folder import SINGLE
from cuvee.checkpoints.header import SIZES, TensorEntry, encode_header
from cuvee.errors import CheckpointError, SpecError

__all__ = ["PlannedShard", "ShardWriter", "Written", "new_folder", "plan_shards", "write_file"]

_FLUSH_BYTES = 32 * 2**20
"""How much is written before the disk is set to work on it: the final sync then has little left."""


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """A file of weights to be written.

    Attributes:
        name: In the folder.
        tensors: In the order of their data, ``start`` as in this file.
        header: Its first bytes.
    """

    name: str
    tensors: tuple[TensorEntry, ...]
    header: bytes

    @property
    def bytes(self) -> int:
        return len(self.header) + sum(tensor.bytes for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Written:
    """A file on disk."""

    name: str
    bytes: int
    sha256: str


def plan_shards(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]],
    shard_bytes: int,
    metadata: Mapping[str, str],
) -> list[PlannedShard]:
    """Distribute tensors (name, dtype, shape) over files, in their order.

    A file's data is at most ``shard_bytes``, unless a single tensor is larger. Within a file the
    types with larger elements come first, which keeps every tensor aligned.
    """
    groups: list[list[TensorEntry]] = [[]]
    filled = 0
    for name, dtype, shape in tensors:
        entry = TensorEntry(name, dtype, shape, 0)
        if groups[-1] and filled + entry.bytes > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(entry)
        filled += entry.bytes
    names = (
        [SINGLE]
        if len(groups) == 1
        else [f"model-{i:05d}-of-{len(groups):05d}.safetensors" for i in range(1, len(groups) + 1)]
    )
    return [_planned(name, group, metadata) for name, group in zip(names, groups, strict=True)]


def _planned(name: str, group: list[TensorEntry], metadata: Mapping[str, str]) -> PlannedShard:
    ordered = sorted(group, key=lambda entry: -SIZES[entry.dtype])
    header = encode_header(((t.name, t.dtype, t.shape) for t in ordered), metadata)
    position, placed = len(header), []
    for entry in ordered:
        placed.append(TensorEntry(entry.name, entry.dtype, entry.shape, position))
        position += entry.bytes
    return PlannedShard(name, tuple(placed), header)


class ShardWriter:
    """Writes one planned file from front to back, hashing on the way.

    Leaving the block without an error checks that the file is complete and forces it to disk.
    """

    def __init__(self, folder: Path, plan: PlannedShard) -> None:
        self._plan = plan
        self._path = folder / plan.name
        self._digest = hashlib.sha256()
        self._written = 0
        self._flushed = 0

    def __enter__(self) -> ShardWriter:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            self.write(memoryview(self._plan.header))
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                if self._written != self._plan.bytes:
                    raise CheckpointError(
                        f"{self._plan.name}: {self._written:,} bytes written, "
                        f"{self._plan.bytes:,} planned"
                    )
                os.fsync(self._file)
        finally:
            os.close(self._file)

    def write(self, data: memoryview) -> None:
        """Append bytes."""
        self._digest.update(data)
        rest = data
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._written += len(data)
        if self._written - self._flushed >= _FLUSH_BYTES and hasattr(os, "posix_fadvise"):
            # On dirty pages this starts writing them out and drops nothing.
            length = self._written - self._flushed
            os.posix_fadvise(self._file, self._flushed, length, os.POSIX_FADV_DONTNEED)
            self._flushed = self._written

    @property
    def result(self) -> Written:
        return Written(self._plan.name, self._written, self._digest.hexdigest())


def write_file(folder: Path, name: str, data: bytes) -> None:
    """Write a small file and force it to disk."""
    with (folder / name).open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A hidden folder that becomes ``target`` when the block ends without an error.

    After an error nothing is left. What a killed process left behind is removed by the next one
    with the same target; a process that still writes holds a lock on its folder.

    Raises:
        SpecError: The target is there already, or the folder above it is not.
    """
    parent = target.parent
    if os.path.lexists(target):
        raise SpecError(f"{target} exists already: name a new folder", path=str(target))
    if not parent.is_dir():
        raise SpecError(f"there is no folder {parent}: make it first", path=str(target))
    prefix = f".{target.name}.partial-"
    for entry in [e for e in os.scandir(parent) if e.name.startswith(prefix)]:
        _remove_if_abandoned(Path(entry.path))
    partial = parent / f"{prefix}{secrets.token_hex(4)}"
    partial.mkdir()
    lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield partial
        os.fsync(lock)
        _rename(partial, target)
        _sync(parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _rename(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError as error:
        if os.path.lexists(target):
            raise SpecError(
                f"{target} was made by somebody else during the merge: name another folder",
                path=str(target),
            ) from error
        raise


def _remove_if_abandoned(partial: Path) -> None:
    with suppress(OSError):  # locked by its writer, or gone
        lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(lock)


def _sync(folder: Path) -> None:
    """Force the names in a folder to disk: a rename is data of the folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
