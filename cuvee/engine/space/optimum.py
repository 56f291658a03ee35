"""Minimise a weighted sum of log-linear laws over a region: convex, so one start is enough.

Spectral projected gradient (Birgin, Martinez & Raydan 2000) with a monotone Armijo search, on many
laws at once: bootstrap replicates are rows. Floors do not move the minimum, so only ``t`` enters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cuvee.engine.space.simplex import Array, Region

__all__ = ["minimise", "total"]

_T_LIMIT = 50.0


def total(t: Array, w: Array, p: Array) -> Array:
    """``sum_e w_e exp(t_e . p)`` for ``t (N, E, m)`` and ``p (N, m)``, shape ``(N,)``."""
    return np.asarray(np.exp(np.minimum(np.einsum("nej,nj->ne", t, p), _T_LIMIT)) @ w)


def minimise(
    t: Array, w: Array, region: Region, start: Array, *, steps: int = 200, tolerance: float = 1e-9
) -> Array:
    """The minimisers over ``region``.

    Args:
        t: Log-slopes, shape ``(N, E, m)``.
        w: Non-negative weights of the evaluation sets, shape ``(E,)``.
        region: Where to look.
        start: A mixture, shape ``(m,)``; projected onto the region first.
        steps: Most iterations.
        tolerance: Stop when no projected gradient step of unit length, in units of the objective,
            moves a share by more than this.

    Returns:
        Shape ``(N, m)``.
    """
    if region.max_active is None:
        first = np.tile(region.project(start), (len(t), 1))
        return _descend(t, w, region.project, first, steps, tolerance)
    # Which domains are active: the greatest shares of the optimum without that limit. Then the
    # optimum among them, exact as the objective is convex.
    free = minimise(t, w, replace(region, max_active=None), start, steps=steps, tolerance=tolerance)
    first = region.project(free)
    active = first > 0
    return _descend(t, w, lambda y: region.project_among(y, active), first, steps, tolerance)


def _descend(
    t: Array,
    w: Array,
    project: Callable[[Array], Array],
    p: Array,
    steps: int,
    tolerance: float,
) -> Array:
    def slope(at: Array) -> Array:
        rise = np.exp(np.minimum(np.einsum("nej,nj->ne", t, at), _T_LIMIT))
        return np.asarray(np.einsum("ne,nej->nj", rise * w, t))

    value, gradient = total(t, w, p), slope(p)
    size = np.maximum(np.abs(gradient).max(axis=1), 1e-12)
    length = 1.0 / size
    for _ in range(steps):
        reach = project(p - gradient / size[:, None]) - p
        active = np.abs(reach).max(axis=1) > tolerance
        if not np.any(active):
            break
        direction = project(p - length[:, None] * gradient) - p
        fall = np.sum(gradient * direction, axis=1)
        share = np.where(active, 1.0, 0.0)
        for _ in range(30):
            moved = p + share[:, None] * direction
            new = total(t, w, moved)
            short = new > value + 1e-4 * share * fall + 1e-15 * np.abs(value)
            if not np.any(short):
                break
            share = np.where(short, share / 2, share)
        share = np.where(short, 0.0, share)
        step = share[:, None] * direction
        p = p + step
        new_gradient = slope(p)
        change = np.sum(step * (new_gradient - gradient), axis=1)
        square = np.sum(step**2, axis=1)
        length = np.where(
            change > 1e-30, np.clip(square / np.maximum(change, 1e-30), 1e-6, 1e6), 1.0 / size
        )
        value, gradient = total(t, w, p), new_gradient
    p = project(p)
    return np.where(p < 1e-12, 0.0, p)  # rounding is not a share
