"""What the Gaussian processes see of a mixture: powers of its shares, scaled to the runs' range.

Losses fall steeply when a share leaves zero and hardly when it grows further, as ``share^a`` does
with ``a`` well below one. The exponent is learned per evaluation set. At one half, the features
map the simplex to a sphere, on which Euclidean distance is Hellinger distance; on runs of language
models smaller exponents fit better (``docs/math.md``). A share of zero is nothing special. Each
feature is scaled to the range that the runs span, so that one prior for lengths fits narrow and
wide regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cuvee.engine.space.simplex import Array

__all__ = ["Features"]

_TINY = 1e-12


@dataclass(frozen=True)
class Features:
    """The range of the shares that the features are scaled by.

    Attributes:
        low: Least share of each domain among the runs, shape ``(m,)``.
        high: Greatest share, shape ``(m,)``; above ``low`` even where a share was held fixed.
    """

    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, x: Array) -> Features:
        """The range of the mixtures ``(K, m)``."""
        low, high = np.maximum(x.min(axis=0), 0.0), x.max(axis=0)
        wide = np.maximum(high, low + 0.01 + 0.1 * low)
        return cls(torch.from_numpy(low), torch.from_numpy(wide))

    def __call__(self, p: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
        """Features ``(E, n, m)`` of mixtures ``(n, m)`` or ``(E, n, m)`` by exponents ``(E,)``."""
        a = exponent[:, None, None]
        low = _power(self.low, a)
        return (_power(p, a) - low) / (_power(self.high, a) - low)


def _power(p: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """``p^exponent`` with a gradient by the exponent also at zero, where the power stays zero."""
    power = torch.exp(exponent * torch.log(p.clamp_min(_TINY)))
    return torch.where(p > 0, power, torch.zeros((), dtype=p.dtype))
