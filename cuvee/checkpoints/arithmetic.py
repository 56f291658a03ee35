"""Floats in their stored form to float32 and back, in place, one block at a time.

Sums are formed in float32 whatever the stored type: a weight or a sum in bfloat16 has eight bits.
numpy knows no bfloat16; its bits are the upper half of a float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LARGEST", "decode", "encode", "peak"]

LARGEST: Mapping[str, float] = {
    "F32": float(np.finfo(np.float32).max),
    "F16": float(np.finfo(np.float16).max),
    "BF16": float(np.uint32(0x7F7F0000).view(np.float32)),
}
"""The largest finite number of each type."""


def decode(
    dtype: str, raw: npt.NDArray[np.uint8], out: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Stored bytes as float32, shape ``(n,)``.

    Args:
        dtype: ``F32``, ``F16`` or ``BF16``.
        raw: uint8, shape ``(n * itemsize,)``, aligned to the item.
        out: Shape ``(n,)``; where the result is, unless the bytes are float32 already, in which
            case the result is a view of ``raw``.
    """
    if dtype == "F32":
        return raw.view(np.float32)
    if dtype == "BF16":
        np.left_shift(raw.view(np.uint16), 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(out, raw.view(np.float16))
    return out


def encode(
    dtype: str,
    values: npt.NDArray[np.float32],
    raw: npt.NDArray[np.uint8],
    scratch: npt.NDArray[np.float32],
) -> None:
    """Round float32 to the stored type, to nearest, ties to even.

    Args:
        dtype: ``F32``, ``F16`` or ``BF16``.
        values: Shape ``(n,)``; finite, and no larger than ``LARGEST`` of the type.
        raw: uint8, shape ``(n * itemsize,)``: where the result goes.
        scratch: Shape ``(n,)``; overwritten.
    """
    if dtype == "F32":
        raw.view(np.float32)[:] = values
    elif dtype == "F16":
        np.copyto(raw.view(np.float16), values, casting="same_kind")
    else:
        bits, work = values.view(np.uint32), scratch.view(np.uint32)
        # Add just under half of the last kept bit, and the whole half when that bit is odd.
        np.right_shift(bits, 16, out=work)
        np.bitwise_and(work, 1, out=work)
        np.add(work, 0x7FFF, out=work)
        np.add(work, bits, out=work)
        np.right_shift(work, 16, out=work)
        np.copyto(raw.view(np.uint16), work, casting="unsafe")


def peak(values: npt.NDArray[Any]) -> float:
    """The largest magnitude; NaN if any value is NaN."""
    return max(float(values.max()), -float(values.min()))
