"""Which domains are active when only a few may be.

The nearest mixture with at most ``k`` active domains is easy once they are chosen: a projection
with the other shares capped at zero. To choose them is as hard as a knapsack in general. Where
there are few sets, all are tried. Otherwise the greatest shares of the unrestricted projection are
taken, which is exact on the plain simplex for both distances (Kyrillidis, Becker, Cevher & Koch
2013), and improved by exchanges. The problem is separable but for its sums, so Lagrange duality
gives a certificate: if, at the multipliers of its own projection, every chosen domain gains at
least as much by being active as every other, no other set is better. It ends most searches at once.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cuvee.engine.space.roots import Array, Indices, Move
    from cuvee.engine.space.simplex import Bools, Region

__all__ = ["complete", "distance", "project"]

_ALL = 64
"""Most sets of active domains that are all tried."""

_ROUNDS = 4  # improvements of one mixture's set
_OUT, _IN = 3, 4  # domains considered for leaving and for entering
_EXCHANGED = 32
"""Most domains with which exchanges are tried; with more they take seconds and gain little."""

_ROWS = 256  # mixtures whose sets are held at once


def complete(region: Region, preference: Array, upper: Array) -> Bools:
    """Sets of active domains in each of which a mixture exists, greedy in ``preference``.

    Args:
        region: Its ``max_active`` is the size of the sets.
        preference: Greater is taken earlier, shape ``(n, m)``.
        upper: Greatest shares, shape ``(n, m)``; a mixture within them must exist.

    Returns:
        Shape ``(n, m)``; each row has ``max_active`` domains, or all with a positive ``upper``.
    """
    most = _limit(region)
    forced = np.broadcast_to(region.lower > 0, upper.shape)
    free = (upper > 0) & ~forced
    rank = _rank(np.where(free, preference, -np.inf))
    chosen = forced | (free & (rank < most - forced.sum(axis=1, keepdims=True)))
    stuck = np.flatnonzero(~_possible(region, chosen, upper))
    if len(stuck):
        chosen[stuck] = _step_by_step(region, preference[stuck], upper[stuck], free[stuck])
    return np.asarray(chosen)


def _step_by_step(region: Region, preference: Array, upper: Array, free: Bools) -> Bools:
    """Preferred domains while more may be active than must be; then, one at a time, the preferred
    of those that reach furthest, until the preferred of all will do for the rest."""
    most = _limit(region)
    m = upper.shape[1]
    chosen = np.zeros(upper.shape, dtype=bool) | (region.lower > 0)
    count = np.minimum(most, chosen.sum(axis=1) + free.sum(axis=1))
    while np.any(unfinished := chosen.sum(axis=1) < count):
        need, reaching = region.reach(upper, chosen)
        missing = count - chosen.sum(axis=1)
        spare = count - need
        rank = _rank(np.where(free & ~chosen, preference, -np.inf))
        rest = chosen | (free & (rank < missing[:, None]))
        best = np.argmin(np.where(reaching & ~chosen, rank, m), axis=1)
        more = np.where(
            (spare > 0)[:, None], free & (rank < spare[:, None]), np.arange(m) == best[:, None]
        )
        more = np.where(_possible(region, rest, upper)[:, None], rest, more)
        chosen |= more & unfinished[:, None]
    return chosen


def project(region: Region, rows: Array, move: Move, upper: Array, relaxed: Array) -> Array:
    """The nearest points found with at most ``max_active`` positive shares.

    Args:
        region: A region that is not empty.
        rows: Points to project, shape ``(n, m)``; positive for ``move`` "scale".
        move: "shift" for the Euclidean distance, "scale" for Kullback-Leibler.
        upper: Greatest shares, shape ``(n, m)``.
        relaxed: The projections without ``max_active``, shape ``(n, m)``.
    """
    forced = region.lower > 0
    open_ = np.flatnonzero(~forced & (region.upper > 0))
    free = min(_limit(region) - int(forced.sum()), len(open_))
    every = None
    if math.comb(len(open_), free) <= _ALL:
        every = np.tile(forced, (math.comb(len(open_), free), 1))
        for mask, extra in zip(every, combinations(open_, free), strict=True):
            mask[list(extra)] = True
    found = np.empty_like(relaxed)
    for start in range(0, len(rows), _ROWS):
        s = slice(start, start + _ROWS)
        if every is None:
            found[s] = _searched(region, rows[s], move, upper[s], relaxed[s])
        else:
            sets = np.broadcast_to(every, (len(rows[s]), *every.shape))
            found[s] = _nearest(region, rows[s], move, upper[s], sets)[0]
    return found


def _searched(region: Region, rows: Array, move: Move, upper: Array, relaxed: Array) -> Array:
    forced = region.lower > 0
    # Equal shares of the relaxed projection (zeros, or caps) are told apart by the point itself.
    order = np.lexsort((-rows, -relaxed), axis=1)
    chosen = complete(region, -np.argsort(order, axis=1).astype(np.float64), upper)
    best, shift = region.solve(rows, move, np.where(chosen, upper, 0.0))
    gain = _gain(region, rows, move, upper, shift)
    left = np.arange(len(rows))  # rows whose set may still be improved
    for _ in range(_ROUNDS):
        least = np.where(chosen & ~forced, gain, np.inf)[left].min(axis=1)
        left = left[least < np.where(chosen, -np.inf, gain)[left].max(axis=1) - 1e-12]
        if not len(left):
            break
        here, top, now = rows[left], upper[left], chosen[left]
        sets = [now[:, None], complete(region, gain[left], top)[:, None]]
        if region.dimension <= _EXCHANGED:
            sets.append(_swaps(now, best[left], gain[left], top, forced))
        moved, sets_moved = _nearest(region, here, move, top, np.concatenate(sets, axis=1))
        better = distance(moved, here, move) < distance(best[left], here, move) - 1e-12
        left = left[better]
        chosen[left] = sets_moved[better]
        best[left], shift = region.solve(rows[left], move, np.where(chosen[left], upper[left], 0.0))
        gain[left] = _gain(region, rows[left], move, upper[left], shift)
    return best


def _gain(region: Region, rows: Array, move: Move, upper: Array, shift: Array) -> Array:
    """How much each domain lowers the Lagrangian by being active, shape ``(n, m)``.

    With ``d_j`` the distance in one share and ``s_j`` the multiplier of the sums it is in (the
    shift, or the logarithm of the factor), it is ``d_j(0) - min_p (d_j(p) - s_j p)``.
    """
    if move == "shift":
        moved = rows + shift
        p = np.clip(moved, region.lower, upper)
        with np.errstate(invalid="ignore"):  # zero times infinity: no reason to be active
            gain = p * moved - 0.5 * p**2
    else:
        moved = rows * np.maximum(shift, 0.0)
        p = np.clip(moved, region.lower, upper)
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = p * (1.0 + np.log(moved / p))
    return np.nan_to_num(gain, nan=0.0)


def _swaps(chosen: Bools, p: Array, gain: Array, upper: Array, forced: Bools) -> Bools:
    """Sets with one domain exchanged, shape ``(n, S, m)``: small shares leave; domains that gain
    most enter, or the one with the greatest cap."""
    leaving = np.argsort(np.where(chosen & ~forced, p, np.inf), axis=1, kind="stable")[:, :_OUT]
    wanted = np.where(chosen | (upper <= 0), -np.inf, gain)
    entering = np.argsort(-wanted, axis=1, kind="stable")[:, : _IN - 1]
    widest = np.argmax(np.where(chosen, -1.0, upper), axis=1)
    entering = np.concatenate([entering, widest[:, None]], axis=1)
    sets = np.repeat(chosen[:, None], leaving.shape[1] * entering.shape[1], axis=1)
    row, place = np.arange(len(p))[:, None], np.arange(sets.shape[1])[None]
    sets[row, place, np.repeat(leaving, entering.shape[1], axis=1)] = False
    sets[row, place, np.tile(entering, (1, leaving.shape[1]))] = True
    return np.asarray(sets | forced)


def _nearest(
    region: Region, rows: Array, move: Move, upper: Array, sets: Bools
) -> tuple[Array, Bools]:
    """Of the projections onto several sets of active domains per row, the nearest, and its set.

    Sets (shape ``(n, S, m)``) that are too large or hold no mixture are passed over; each row needs
    one that is neither.
    """
    n, count, m = sets.shape
    flat = sets.reshape(-1, m)
    top = np.repeat(upper, count, axis=0)
    many = np.repeat(rows, count, axis=0)
    fine = _possible(region, flat, top)
    p = np.zeros_like(top)
    p[fine] = region.solve(many[fine], move, np.where(flat, top, 0.0)[fine])[0]
    far = np.where(fine, distance(p, many, move), np.inf).reshape(n, count)
    best = np.arange(n), np.argmin(far, axis=1)
    return p.reshape(n, count, m)[best], sets[best]


def _possible(region: Region, chosen: Bools, upper: Array) -> Bools:
    """Whether a mixture exists whose active domains are all among the chosen, and these few."""
    need = region.reach(np.where(chosen, upper, 0.0), chosen)[0]
    return np.asarray(need <= _limit(region))


def distance(p: Array, rows: Array, move: Move) -> Array:
    """Half the squared Euclidean distance, or ``KL(p || row)`` up to a constant, shape ``(n,)``."""
    if move == "shift":
        return np.asarray(0.5 * np.sum((p - rows) ** 2, axis=1))
    return np.asarray(np.sum(p * np.log(np.where(p > 0, p / rows, 1.0)), axis=1))


def _rank(preference: Array) -> Indices:
    """Place of each entry of a row from the greatest down."""
    return np.argsort(np.argsort(-preference, axis=1, kind="stable"), axis=1)


def _limit(region: Region) -> int:
    assert region.max_active is not None
    return region.max_active
