"""Random walks that leave the uniform distribution over a region unchanged.

Each move takes from one share and gives to another, by an amount that is uniform over what the
bounds allow: hit-and-run along ``e_i - e_j``. The edges of a region with nested groups have these
directions, so no walk gets stuck, and on the plain simplex shares must be moved about ``log m``
times each to forget their start (Smith 2014, "A Gibbs sampler on the n-simplex").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cuvee.engine.space.simplex import Array, Region

__all__ = ["walk"]

_SWEEPS = 40


def walk(region: Region, rng: np.random.Generator, start: Array, upper: Array) -> Array:
    """Independent walks, one per row; shares with ``upper`` zero stay zero.

    A sweep pairs the shares of each group at random and moves all pairs at once, which leaves every
    group's total as it is; then single moves across groups follow, a quarter as many as shares.

    Args:
        region: Its bounds; ``max_active`` is not looked at.
        rng: Source of randomness.
        start: Points of the region, shape ``(n, m)``.
        upper: Greatest shares; each row has the same number of positive ones. Shape ``(n, m)``.

    Returns:
        Shape ``(n, m)``.
    """
    n = len(start)
    k = int(np.sum(upper[0] > 0))
    if k < 2:
        return start
    # Only what can move: each row's active domains.
    index = np.argsort(upper <= 0, axis=1, kind="stable")[:, :k]
    p, high = (np.take_along_axis(a, index, axis=1) for a in (start, upper))
    low = region.lower[index]
    group_lower, group_upper = region.group_lower, region.group_upper
    member = np.zeros((region.dimension, len(region.groups)))
    owner = np.full(region.dimension, len(region.groups))
    for g in sorted(range(len(region.groups)), key=lambda g: -len(region.groups[g])):
        member[region.groups[g], g] = 1.0
        owner[region.groups[g]] = g
    inside, owner = member[index], owner[index]
    rows = np.arange(n)
    for sweep in range(_SWEEPS):
        order = np.argsort(owner + rng.random((n, k)), axis=1)
        pairs = (k - sweep % 2) // 2
        i = order[:, sweep % 2 :: 2][:, :pairs]
        j = order[:, sweep % 2 + 1 :: 2][:, :pairs]
        at = rows[:, None]
        room = np.minimum(high[at, i] - p[at, i], p[at, j] - low[at, j])
        back = np.minimum(p[at, i] - low[at, i], high[at, j] - p[at, j])
        step = _step(rng, room, back) * (owner[at, i] == owner[at, j])
        p[at, i] += step
        p[at, j] -= step
        if not region.groups:
            continue
        totals = np.einsum("nk,nkg->ng", p, inside)
        for _ in range(-(-k // 4)):
            a = rng.integers(k, size=n)
            b = (a + rng.integers(1, k, size=n)) % k
            turn = inside[rows, a] - inside[rows, b]  # 1, 0 or -1: how the groups' totals move
            up, down = group_upper - totals, totals - group_lower
            rising = np.where(turn > 0, up, np.where(turn < 0, down, np.inf)).min(axis=1)
            falling = np.where(turn > 0, down, np.where(turn < 0, up, np.inf)).min(axis=1)
            room = np.minimum(high[rows, a] - p[rows, a], p[rows, b] - low[rows, b])
            back = np.minimum(p[rows, a] - low[rows, a], high[rows, b] - p[rows, b])
            step = _step(rng, np.minimum(room, rising), np.minimum(back, falling))
            p[rows, a] += step
            p[rows, b] -= step
            totals += turn * step[:, None]
    found = np.zeros_like(start)
    np.put_along_axis(found, index, p, axis=1)
    return found


def _step(rng: np.random.Generator, room: Array, back: Array) -> Array:
    room, back = np.maximum(room, 0.0), np.maximum(back, 0.0)
    return np.asarray(rng.random(room.shape) * (room + back) - back)
