"""Expected improvement, in closed form and in logarithms.

``EI = E[max(d + s z, 0)]`` for an improvement with mean ``d`` and standard deviation ``s``, both in
bits per byte, ``z`` standard normal: ``s h(d / s)`` with ``h(u) = phi(u) + u Phi(u)`` (Mockus 1978;
Jones, Schonlau & Welch 1998). Far from the incumbent ``h`` underflows and all candidates tie at
nothing; its logarithm does not (Ament et al. 2023, arXiv 2310.20708, eq. 8 and appendix A).
"""

from __future__ import annotations

import numpy as np
from scipy.special import erfcx, ndtr

from cuvee.engine.space.simplex import Array

__all__ = ["expected_improvement", "log_expected_improvement"]

_LOG_ROOT = 0.5 * np.log(2 * np.pi)
_FAR = -1e6  # beyond, one minus Mills' ratio loses every digit; its leading term is exact there
_LEAST = 1e-300
_MOST = 1e150  # deviations: the greatest whose square is a float


def expected_improvement(gain: Array, sd: Array) -> Array:
    """``E[max(gain + sd z, 0)]``; shapes broadcast, ``sd`` may be zero."""
    known = sd <= 0
    safe = np.where(known, 1.0, sd)
    u = np.clip(gain / safe, -1e8, 1e8)
    value = safe * (np.exp(-0.5 * u**2 - _LOG_ROOT) + u * ndtr(u))
    return np.asarray(np.where(known, np.maximum(gain, 0.0), np.maximum(value, 0.0)))


def log_expected_improvement(gain: Array, sd: Array) -> Array:
    """Its logarithm, finite down to improvements that no float could hold, ``sd`` above zero."""
    sd = np.maximum(sd, _LEAST)
    u = np.clip(gain / sd, -_MOST, _MOST)
    near = np.maximum(u, -1.0)
    direct = np.log(np.exp(-0.5 * near**2 - _LOG_ROOT) + near * ndtr(near))
    far = np.clip(u, _FAR, -1.0)
    mills = np.sqrt(np.pi / 2) * erfcx(-far / np.sqrt(2.0))
    tail = np.log(np.maximum(1.0 + far * mills, _LEAST))
    beyond = -2.0 * np.log(np.maximum(-u, 1.0))
    minor = np.where(u < _FAR, beyond, tail)
    below = -0.5 * u**2 - _LOG_ROOT + minor
    return np.asarray(np.log(sd) + np.where(u > -1.0, direct, below))
