"""The header of a safetensors file, validated before a byte of data is read.

Layout: 8 bytes, the header's length N as a little-endian integer; N bytes of JSON; the data. The
JSON maps each tensor's name to ``dtype``, ``shape`` and ``data_offsets``, a half-open range of
bytes counted from the start of the data. ``__metadata__`` maps strings to strings.

Stricter than the reference implementation: what this module accepts, that one accepts and reads the
same way. Types that cannot be averaged (float8, 4-bit) and float64 are refused by name.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.checkpoints.strict_json import load_object
from cuvee.errors import CheckpointError

__all__ = [
    "FLOATS",
    "MAX_HEADER_BYTES",
    "SIZES",
    "Header",
    "TensorEntry",
    "encode_header",
    "parse_header",
    "read_header",
]

MAX_HEADER_BYTES = 16 * 2**20
"""A hundred thousand tensors per file; the reference takes up to 100 MB, which would cost this
process a gigabyte of Python objects."""

SIZES: Mapping[str, int] = {
    "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of an element by dtype."""

FLOATS = frozenset({"F32", "F16", "BF16"})
"""The types that are averaged; tensors of the others must be the same in every model."""

_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}
_MAX_DIMENSIONS = 64
_MAX_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file.

    Attributes:
        name: As in the file.
        dtype: A key of ``SIZES``.
        shape: Of any number of dimensions, none included.
        start: Its first byte, counted from the start of the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself.

    Attributes:
        tensors: In the order of their data.
        metadata: Free text by key.
        sha256: Of the header's JSON; equal headers mean equal names, types, shapes and places.
    """

    tensors: tuple[TensorEntry, ...]
    metadata: Mapping[str, str]
    sha256: str


def read_header(file: int, where: str) -> Header:
    """Read and validate the header of an open file.

    Args:
        file: Descriptor of a regular file; its position does not matter and is not moved.
        where: The file's name, for messages.

    Raises:
        CheckpointError: The header is malformed, or the file's size is not what it implies.
    """
    size = os.fstat(file).st_size
    length = int.from_bytes(os.pread(file, 8, 0), "little") if size >= 8 else size
    if size < 8 or length > size - 8:
        raise CheckpointError(
            f"{where} is not a safetensors file, or is cut short: {size:,} bytes, which is less "
            "than its header needs",
            file=where,
        )
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{where}: a header of {length:,} bytes is above the limit of {MAX_HEADER_BYTES:,}",
            file=where,
        )
    text = os.pread(file, length, 8)
    if len(text) != length:
        raise CheckpointError(f"{where} changed while its header was read", file=where)
    return parse_header(text, size - 8 - length, where)


def parse_header(text: bytes, data_bytes: int, where: str = "the header") -> Header:
    """Validate a header's JSON against the number of bytes of data that follow it.

    Raises:
        CheckpointError: It is malformed, or its ranges do not tile the data exactly.
    """
    if not text.startswith(b"{"):
        raise CheckpointError(f"{where} is not a safetensors file: its header is not JSON")
    fields = load_object(text, f"the header of {where}", naturals_only=True)
    metadata = _metadata(fields.pop(_METADATA, {}), where)
    origin = 8 + len(text)
    found = sorted(
        (_range(name, info, where) for name, info in fields.items()), key=lambda item: item[:2]
    )
    position = 0
    tensors = []
    for start, end, name, dtype, shape in found:
        if start != position:
            problem = "overlaps the tensor before it" if start < position else "leaves a gap"
            raise CheckpointError(f"{where}: the data of tensor {name!r} {problem}", file=where)
        entry = TensorEntry(name, dtype, shape, origin + start)
        if entry.bytes != end - start:
            raise CheckpointError(
                f"{where}: tensor {name!r} of type {dtype} and shape {list(shape)} needs "
                f"{entry.bytes:,} bytes, its range holds {end - start:,}",
                file=where,
            )
        tensors.append(entry)
        position = end
    if position != data_bytes:
        raise CheckpointError(
            f"{where} is cut short or has a tail: {position:,} bytes of data expected, "
            f"{data_bytes:,} found",
            file=where,
        )
    return Header(tuple(tensors), metadata, hashlib.sha256(text).hexdigest())


def encode_header(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """Length and JSON of a file that holds these tensors (name, dtype, shape) in this order."""
    fields: dict[str, Any] = {_METADATA: dict(metadata)}
    position = 0
    for name, dtype, shape in tensors:
        end = position + math.prod(shape) * SIZES[dtype]
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    # Readers that map the file want the data aligned; spaces after JSON mean nothing.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _metadata(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise CheckpointError(f"{where}: {_METADATA} is not a map of strings", file=where)
    for text in (*value, *value.values()):
        _check_text(text, where)
    return value


def _range(name: str, info: object, where: str) -> tuple[int, int, str, str, tuple[int, ...]]:
    """``(start, end, name, dtype, shape)``, offsets from the start of the data."""
    _check_text(name, where)
    if not isinstance(info, dict) or info.keys() != _FIELDS:
        raise CheckpointError(
            f"{where}: tensor {name!r} needs exactly dtype, shape and data_offsets", file=where
        )
    dtype, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise CheckpointError(
            f"{where}: tensor {name!r} is of type {dtype!r}; only {', '.join(SIZES)} are read. "
            "Quantised weights cannot be averaged: use the ones they were made from",
            file=where,
        )
    if not _naturals(shape) or len(shape) > _MAX_DIMENSIONS:
        raise CheckpointError(f"{where}: tensor {name!r} has no valid shape", file=where)
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: tensor {name!r} has no valid range", file=where)
    # The reference multiplies in 64 bits, in this order, and refuses what does not fit.
    product = 1
    for side in shape:
        product *= side
        if product > _MAX_SIZE // 8:
            raise CheckpointError(f"{where}: tensor {name!r} is impossibly large", file=where)
    return offsets[0], offsets[1], sys.intern(name), sys.intern(dtype), tuple(shape)


def _naturals(value: object) -> bool:
    # `true` is an int to Python.
    return isinstance(value, list) and all(type(v) is int and v <= _MAX_SIZE for v in value)


def _check_text(text: str, where: str) -> None:
    # JSON may escape half of a surrogate pair; no file could then be written with that name.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{where}: {text!r} is not Unicode text", file=where) from error
