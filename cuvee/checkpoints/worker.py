"""One thread's part of a merge: a chunk of the output, averaged in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cuvee.checkpoints.arithmetic import LARGEST, decode, encode, peak
from cuvee.checkpoints.blocks import BlockReader
from cuvee.checkpoints.folder import ModelFolder
from cuvee.checkpoints.header import FLOATS, SIZES
from cuvee.errors import CheckpointError, SpecError

__all__ = ["Bytes", "Chunk", "Worker"]

Bytes: TypeAlias = npt.NDArray[np.uint8]

_BLOCK = 2**15
"""Elements that are summed at a time: their float32 buffers stay in a core's own cache."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Elements ``start`` to ``stop`` of a tensor, which every model stores as ``source``."""

    name: str
    source: str
    target: str
    start: int
    stop: int

    @property
    def bytes(self) -> int:
        return (self.stop - self.start) * SIZES[self.target]


class Worker:
    """The buffers and open files of one thread.

    Args:
        models: Positive weights that sum to one; the first is the reference r.
        forget: See ``BlockReader``.
    """

    def __init__(self, models: Sequence[tuple[ModelFolder, float]], forget: bool) -> None:
        self._readers = [BlockReader(model, forget=forget) for model, _ in models]
        self._weights = [weight for _, weight in models]
        self._paths = [model.path for model, _ in models]
        self._raw = np.empty(_BLOCK * max(SIZES.values()), np.uint8)
        self._reference = np.empty(_BLOCK, np.float32)
        self._other = np.empty(_BLOCK, np.float32)
        self._sum = np.empty(_BLOCK, np.float32)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.close()

    def fill(self, chunk: Chunk, out: Bytes) -> None:
        """Put the stored bytes of the chunk's average into the front of ``out``, uint8."""
        size, stored = SIZES[chunk.source], SIZES[chunk.target]
        begin, length = chunk.start * size, (chunk.stop - chunk.start) * size
        for reader in self._readers:
            reader.announce(chunk.name, begin, length)
        average = self._average if chunk.source in FLOATS else self._same
        # A signalling NaN in the file is an error below, and not a warning of numpy's here.
        with np.errstate(all="ignore"):
            for start in range(chunk.start, chunk.stop, _BLOCK):
                count = min(_BLOCK, chunk.stop - start)
                place = (start - chunk.start) * stored
                average(chunk, start, count, out[place : place + count * stored])
        for reader in self._readers:
            reader.done(chunk.name, begin, length)

    def _average(self, chunk: Chunk, start: int, count: int, out: Bytes) -> None:
        size = SIZES[chunk.source]
        raw = self._raw[: count * size]
        reference, other, total = (
            buffer[:count] for buffer in (self._reference, self._other, self._sum)
        )
        # Minus zero, and differences subtracted: the only way that keeps the sign of a zero.
        total.fill(-0.0)
        for k, (reader, weight) in enumerate(zip(self._readers, self._weights, strict=True)):
            reader.read(chunk.name, start * size, raw.data)
            if k == 0:
                values = decode(chunk.source, raw, reference)
                if values is not reference:  # but a view of `raw`, which the next model overwrites
                    np.copyto(reference, values)
                continue
            np.subtract(reference, decode(chunk.source, raw, other), out=other)
            np.multiply(other, weight, out=other)
            np.subtract(total, other, out=total)
        np.add(total, reference, out=total)
        if not peak(total) <= LARGEST[chunk.target]:
            self._blame(chunk, start, raw)
        encode(chunk.target, total, out, other)

    def _blame(self, chunk: Chunk, start: int, raw: Bytes) -> None:
        """Raise, naming the model whose numbers are not finite."""
        for reader, path in zip(self._readers, self._paths, strict=True):
            reader.read(chunk.name, start * SIZES[chunk.source], raw.data)
            values = decode(chunk.source, raw, self._other[: len(raw) // SIZES[chunk.source]])
            if not np.isfinite(values).all():
                raise CheckpointError(
                    f"tensor {chunk.name!r} of {path} holds numbers that are not finite: the model "
                    "is broken and cannot be merged",
                    path=str(path),
                    tensor=chunk.name,
                )
        raise SpecError(
            f"the average of tensor {chunk.name!r} does not fit into {chunk.target}: store the "
            "merge as bfloat16 or float32",
            tensor=chunk.name,
        )

    def _same(self, chunk: Chunk, start: int, count: int, out: Bytes) -> None:
        size = SIZES[chunk.source]
        raw = self._raw[: count * size]
        for k, (reader, path) in enumerate(zip(self._readers, self._paths, strict=True)):
            reader.read(chunk.name, start * size, (out if k == 0 else raw).data)
            if k > 0 and not np.array_equal(out, raw):
                raise SpecError(
                    f"tensor {chunk.name!r} of type {chunk.source} differs between "
                    f"{self._paths[0]} and {path}, and integers are not averaged",
                    tensor=chunk.name,
                )
