"""A model folder as Hugging Face writes it: configuration, tokenizer, weights in safetensors.

Only names that the layout fixes, or that the index file lists and that are plain file names, are
opened; never a link that leads elsewhere, and never a pickle.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuvee.checkpoints.header import Header, TensorEntry, read_header
from cuvee.checkpoints.strict_json import load_object
from cuvee.errors import CheckpointError, SpecError

__all__ = [
    "CONFIG",
    "INDEX",
    "LINEAGE",
    "SINGLE",
    "TOKENIZERS",
    "ModelFolder",
    "Place",
    "Shard",
    "open_folder",
    "plain_file",
    "read_json",
]

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LINEAGE = "cuvee_merge.json"
"""What a merge says of its own origin."""

TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
"""Files that hold a vocabulary; the first is complete by itself."""

_SHARD_NAME = re.compile(r"[A-Za-z0-9._-]+\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_MAX_JSON_BYTES = 16 * 2**20
_MAX_SHARDS = 4096


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of weights.

    Attributes:
        name: In the model's folder.
        path: Where the bytes are: the file itself, or the blob of the Hugging Face cache.
        header: Validated.
        size: Bytes.
        stamp: Device, inode and time of change: another file under this name has another.
        sha256: Of the content, where the cache says so by the blob's name.
    """

    name: str
    path: Path
    header: Header
    size: int
    stamp: tuple[int, int, int]
    sha256: str | None

    def open(self) -> int:
        """A descriptor for reading; the caller closes it.

        Raises:
            CheckpointError: The file is another, or has changed, since its header was validated.
        """
        file = _open(self.path)
        if _stamp(os.fstat(file)) != self.stamp:
            os.close(file)
            raise CheckpointError(f"{self.path} changed during the merge", file=str(self.path))
        return file


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is."""

    shard: Shard
    entry: TensorEntry


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model that may be read.

    Attributes:
        path: Absolute.
        config: Its ``config.json``.
        shards: In the order of their names.
        tensors: Where each tensor is, in the order of shards and data.
        tokenizer: sha256 of each vocabulary file by name.
    """

    path: Path
    config: Mapping[str, Any]
    shards: tuple[Shard, ...]
    tensors: Mapping[str, Place]
    tokenizer: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(place.entry.bytes for place in self.tensors.values())


def open_folder(path: Path) -> ModelFolder:
    """Look at a model without reading its weights.

    Raises:
        SpecError: It is not a folder with a model's weights in safetensors.
        CheckpointError: A file is damaged, is not what the index says, or leads elsewhere.
    """
    folder = Path(os.path.realpath(path))
    if not folder.is_dir():
        raise SpecError(f"{path} is not a folder: name the folder of a model", path=str(path))
    if (folder / "adapter_config.json").exists():
        raise SpecError(
            f"{path} holds an adapter (LoRA), whose factors cannot be averaged one by one: merge "
            "it into its base model first (peft's merge_and_unload)",
            path=str(path),
        )
    config = read_json(folder, CONFIG)
    if config is None:
        raise SpecError(f"{path} has no {CONFIG}: it is not a model's folder", path=str(path))
    if config.get("quantization_config"):
        raise SpecError(
            f"{path} is quantised, and quantised weights cannot be averaged: merge the models it "
            "was made from, then quantise",
            path=str(path),
        )
    shards = _shards(folder, path)
    tensors = {
        entry.name: Place(shard, entry) for shard in shards for entry in shard.header.tensors
    }
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors", path=str(path))
    return ModelFolder(folder, config, shards, tensors, _tokenizer(folder))


def read_json(folder: Path, name: str) -> dict[str, Any] | None:
    """A JSON object of a folder, ``None`` where there is no such file."""
    found = plain_file(folder, name)
    if found is None:
        return None
    size = found.stat().st_size
    if size > _MAX_JSON_BYTES:
        raise CheckpointError(
            f"{folder / name} has {size:,} bytes, above the limit of {_MAX_JSON_BYTES:,}",
            file=str(folder / name),
        )
    return load_object(found.read_bytes(), str(folder / name))


def plain_file(folder: Path, name: str) -> Path | None:
    """The regular file of this name, ``None`` where there is none.

    The cache of ``huggingface_hub`` keeps a model as links from ``snapshots/<revision>/`` to
    ``blobs/`` beside it; those are followed, to there and nowhere else.

    Raises:
        CheckpointError: It is a link to elsewhere, a folder, a device, or a pipe.
    """
    path = folder / name
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = Path(os.path.realpath(path))
            blobs = folder.parent.parent / "blobs"
            if folder.parent.name != "snapshots" or target.parent != blobs:
                raise CheckpointError(
                    f"{path} is a link, and links are not followed out of a model's folder: "
                    f"copy the folder with `cp -rL` and name the copy",
                    file=str(path),
                )
            path, mode = target, target.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is not a regular file", file=str(path))
    return path


def _shards(folder: Path, shown: Path) -> tuple[Shard, ...]:
    index, single = read_json(folder, INDEX), plain_file(folder, SINGLE)
    if index is not None and single is not None:
        raise CheckpointError(
            f"{shown} holds both {SINGLE} and {INDEX}: remove the one that is not the model",
            path=str(shown),
        )
    if single is not None:
        return (_shard(folder, SINGLE, single),)
    if index is None:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        raise SpecError(
            f"{shown} holds no {SINGLE} and no {INDEX}"
            + (
                f", only pickled weights ({', '.join(pickled[:3])}), which are never opened: load "
                "the model where you trust it and save it with safe_serialization=True"
                if pickled
                else ""
            ),
            path=str(shown),
        )
    return _indexed(folder, index)


def _indexed(folder: Path, index: Mapping[str, Any]) -> tuple[Shard, ...]:
    """The shards that an index lists, each holding exactly the tensors it should."""
    where = str(folder / INDEX)
    listed = index.get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()):
        raise CheckpointError(f"{where} has no weight_map of tensors to files", file=where)
    expected: dict[str, set[str]] = {}
    for tensor, name in listed.items():
        expected.setdefault(name, set()).add(tensor)
    if len(expected) > _MAX_SHARDS:
        raise CheckpointError(f"{where} lists more than {_MAX_SHARDS:,} files", file=where)
    shards = []
    for name, tensors in sorted(expected.items()):
        if not _SHARD_NAME.fullmatch(name):
            raise CheckpointError(
                f"{where} lists {name!r}, which is not the plain name of a safetensors file",
                file=where,
            )
        found = plain_file(folder, name)
        if found is None:
            raise CheckpointError(f"{where} lists {name}, which is not there", file=where)
        shard = _shard(folder, name, found)
        if astray := tensors ^ {entry.name for entry in shard.header.tensors}:
            first = min(astray)
            whose = "lists it there" if first in tensors else "does not list it there"
            raise CheckpointError(
                f"{INDEX} and {name} disagree in {folder} on tensor {first!r}: the index {whose}",
                file=where,
            )
        shards.append(shard)
    return tuple(shards)


def _shard(folder: Path, name: str, path: Path) -> Shard:
    file = _open(path)
    try:
        status = os.fstat(file)
        header = read_header(file, str(folder / name))
    finally:
        os.close(file)
    known = path.name if re.fullmatch(r"[0-9a-f]{64}", path.name) else None
    return Shard(name, path, header, status.st_size, _stamp(status), known)


def _tokenizer(folder: Path) -> dict[str, str]:
    found = {}
    for name in TOKENIZERS:
        if (path := plain_file(folder, name)) is not None:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _open(path: Path) -> int:
    # Should a pipe or a link be put there after the look, this neither waits nor follows.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise CheckpointError(f"{path} is not a regular file", file=str(path))
    return file


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns
