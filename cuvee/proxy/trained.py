"""Finished weights on disk, found by the key of what decided them.

::

    ROOT/KEY/at-STEP/step-STEP.safetensors    fp32 weights and their lineage, verified when read
    ROOT/KEY/running/                         checkpoints of a training under way

A seed keeps its optimiser's state, for branches to inherit; branches keep their weights only, since
optimiser state is never merged. Both stay in fp32: a short branch moves many weights by less than
the precision of bf16.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cuvee.errors import CheckpointError, NotFoundError, SpecError
from cuvee.proxy import checkpoint
from cuvee.proxy.checkpoint import Checkpoint
from cuvee.proxy.config import Shape
from cuvee.proxy.merge_keys import SeedIdentity, arch_hash

__all__ = [
    "Branch",
    "Seed",
    "is_kept",
    "keep",
    "load_branch",
    "load_seed",
    "running_folder",
    "verify",
]

_KEY = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class Branch:
    """The seed continued on some data, at one of the steps that were kept.

    Attributes:
        key: Names it.
        step: Steps since the seed.
        file: Where it lies.
        lineage: JSON: ``shape``, ``vocab_size``, ``context``, ``tokenizer_sha256``, ``recipe``,
            ``data`` (shares by digest), ``seed`` (identity, null of a seed), ``unit`` (digest),
            ``anchor`` (null, or ``share`` and ``natural`` shares by digest).
    """

    key: str
    step: int
    file: Path
    lineage: Mapping[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """Everything in the file, verified, on the CPU."""
        return dict(checkpoint.read(self.file, self.key).tensors)

    def weights(self) -> dict[str, Tensor]:
        """The model's parameters by name, tied ones once."""
        return {
            name.removeprefix("model/"): tensor
            for name, tensor in self.tensors().items()
            if name.startswith("model/")
        }


@dataclass(frozen=True, slots=True)
class Seed(Branch):
    """Weights with the state of their optimiser, for branches to start from."""

    identity: SeedIdentity


def load_seed(root: Path, key: str) -> Seed:
    """Find a finished seed, or the end of a direct training, which can be one.

    Raises:
        NotFoundError: It is not there.
        CheckpointError: It is damaged, or is a branch.
    """
    file, found = _find(root, key, None)
    lineage = found.scalars["lineage"]
    if not any(name.startswith("optimiser/") for name in found.tensors):
        raise CheckpointError(
            f"{file} is a branch, which keeps no optimiser state: it cannot be a seed",
            file=str(file),
        )
    identity = SeedIdentity(
        checkpoint_sha256=_digest(found.tensors),
        arch_hash=arch_hash(Shape(**lineage["shape"]), lineage["vocab_size"], lineage["context"]),
        tokenizer_sha256=lineage["tokenizer_sha256"],
    )
    return Seed(key, found.scalars["step"], file, lineage, identity)


def load_branch(root: Path, key: str, step: int | None = None) -> Branch:
    """Find a finished branch at one of its kept steps, the last unless given.

    Raises:
        NotFoundError: It is not there.
        CheckpointError: It is damaged.
    """
    file, found = _find(root, key, step)
    return Branch(key, found.scalars["step"], file, found.scalars["lineage"])


def keep(
    root: Path, key: str, step: int, tensors: Mapping[str, Tensor], lineage: Mapping[str, Any]
) -> None:
    """Write finished weights: whole and on disk, or not there."""
    content = Checkpoint(tensors, {"step": step, "lineage": dict(lineage)})
    checkpoint.write(_folder(root, key) / f"at-{step}", key, content)


def is_kept(root: Path, key: str, steps: Sequence[int]) -> bool:
    """Whether weights are there at all of these steps; reading verifies them."""
    return all(_file(_folder(root, key), step).exists() for step in steps)


def verify(root: Path, key: str, steps: Sequence[int]) -> tuple[bool, tuple[str, ...]]:
    """Whether weights are there and whole at all of these steps, and a note for each damaged one.

    Raises:
        CheckpointError: Another program's file is in the place of one.
    """
    notes: list[str] = []
    if not is_kept(root, key, steps):
        return False, ()
    for step in steps:
        try:
            checkpoint.read(_file(_folder(root, key), step), key)
        except CheckpointError as error:
            if error.details.get("foreign"):
                raise
            notes.append(f"{error.message}; trained again")
    return not notes, tuple(notes)


def running_folder(root: Path, key: str) -> Path:
    """Where the checkpoints of a training under way lie."""
    return _folder(root, key) / "running"


def _find(root: Path, key: str, step: int | None) -> tuple[Path, Checkpoint]:
    folder = _folder(root, key)
    steps = [int(path.name[3:]) for path in folder.glob("at-*")]
    wanted = max(steps, default=0) if step is None else step
    file = _file(folder, wanted)
    if not file.exists():
        at = "" if step is None else f" at step {step} (kept: {sorted(steps)})"
        raise NotFoundError(f"no finished weights {key[:12]}{at} under {root}: train them first")
    return file, checkpoint.read(file, key)


def _file(folder: Path, step: int) -> Path:
    return folder / f"at-{step}" / f"step-{step:09d}.safetensors"


def _folder(root: Path, key: str) -> Path:
    if not _KEY.fullmatch(key):
        raise SpecError(f"{key!r} is not a key: 64 hexadecimal digits", field="key")
    return root / key


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
