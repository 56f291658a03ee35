"""Runs that are under way: what they will tell is known to come, not what it will be.

Conditioning a Gaussian belief on a measurement moves its mean by a random amount with mean zero
and shrinks its covariance by a known one. So a pending run is conditioned on with the mean held
where it is (Ginsbourger, Le Riche & Carraro 2010, the kriging believer): exact for the covariance,
and no straggler is ever waited for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model
from cuvee.errors import EngineError

__all__ = ["Awaiting", "awaiting"]

_MOST = 256  # pending runs conditioned on; a few hundred already hold every other candidate away
_JITTER = 1e-8


def awaiting(model: Model, q: Array, rung: npt.NDArray[np.intp]) -> Model:
    """The model with runs under way; itself where it knows nothing of their rungs.

    Args:
        model: What was fitted.
        q: Mixtures that are being run, shape ``(B, m)``.
        rung: Their rungs, shape ``(B,)``.
    """
    groups: list[tuple[Array, int]] = []
    room = _MOST
    for r in sorted(set(rung.tolist()), reverse=True):
        here = q[rung == r][:room]
        if len(here) and _knows(model, here, r):
            groups.append((here, r))
            room -= len(here)
    return Awaiting(model, tuple(groups)) if groups else model


def _knows(model: Model, q: Array, rung: int) -> bool:
    try:
        model.mean(q[:1], rung)
    except EngineError:
        return False
    return True


class Awaiting(Model):
    """A model conditioned on measurements whose values are not known yet.

    Args:
        model: The model before them.
        groups: Mixtures ``(B, m)`` and the rung at which they are being measured.
    """

    def __init__(self, model: Model, groups: tuple[tuple[Array, int], ...]) -> None:
        self.runs = model.runs
        self._model = model
        self._groups = groups
        blocks = [[model.cov(p, r, q, s) for q, s in groups] for p, r in groups]
        among = np.concatenate([np.concatenate(row, axis=2) for row in blocks], axis=1)
        noise = np.concatenate([np.tile(model.noise(r), (len(p), 1)) for p, r in groups]).T
        scale = np.maximum(np.einsum("enn->en", among), 0.0).mean(axis=1)
        diagonal = noise + (_JITTER * scale + 1e-18)[:, None]
        among = (among + np.swapaxes(among, 1, 2)) / 2 + diagonal[:, :, None] * np.eye(len(noise.T))
        # By eigenvalues: a stack of surrogates is positive definite up to rounding only.
        values, vectors = np.linalg.eigh(among)
        self._root = vectors / np.sqrt(np.maximum(values, 1e-12 * values[:, -1:]))[:, None, :]

    def _told(self, p: Array, rung: int) -> Array:
        """What each whitened pending measurement shares with the losses, shape ``(E, n, B)``."""
        cross = [self._model.cov(p, rung, q, r) for q, r in self._groups]
        return np.asarray(np.concatenate(cross, axis=2) @ self._root)

    def mean(self, p: Array, rung: int) -> Array:
        return self._model.mean(p, rung)

    def var(self, p: Array, rung: int) -> Array:
        shrunk = self._model.var(p, rung) - np.sum(self._told(p, rung) ** 2, axis=2).T
        return np.asarray(np.maximum(shrunk, 0.0))

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        told = self._told(p, rung) @ np.swapaxes(self._told(q, other), 1, 2)
        return np.asarray(self._model.cov(p, rung, q, other) - told)

    def loo(self) -> Loo:
        return self._model.loo()

    def noise(self, rung: int) -> Array:
        return self._model.noise(rung)
