"""Keyed permutations that need no memory and are the same on every machine and version.

A balanced Feistel network permutes ``[0, 4**h)``; walking its cycles until the value falls below
``size`` makes that a permutation of ``[0, size)`` (Black and Rogaway, "Ciphers with arbitrary
finite domains", 2002). NumPy's own ``permutation`` would need memory for all of it, and its
streams may change between versions.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

__all__ = ["Permutation"]

_ROUNDS = 8
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


class Permutation:
    """A permutation of ``[0, size)`` chosen by a key.

    Args:
        size: At least 1, below 2**62.
        key: Any values; their text forms, in order, are the key.
    """

    def __init__(self, size: int, *key: object) -> None:
        if not 1 <= size < 1 << 62:
            raise ValueError(f"a permutation needs 1 <= size < 2**62, got {size}")
        self.size = size
        half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._half = np.uint64(half)
        self._mask = np.uint64((1 << half) - 1)
        material = "\x1f".join(str(part) for part in key).encode()
        stream = hashlib.blake2b(
            material, digest_size=8 * _ROUNDS, person=b"cuvee.permute"
        ).digest()
        self._keys = np.frombuffer(stream, dtype="<u8").astype(np.uint64)

    def __call__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Images of positions in ``[0, size)``, shape kept."""
        values = self._network(positions.astype(np.uint64))
        while (outside := values >= self.size).any():
            values[outside] = self._network(values[outside])
        return values.astype(np.int64)

    def _network(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._mask)
        return (left << self._half) | right


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64: every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_A
    values = (values ^ (values >> np.uint64(27))) * _MIX_B
    return values ^ (values >> np.uint64(31))
