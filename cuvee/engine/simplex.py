"""The feasible region as arrays: membership, projections, sampling.

A region is ``{p : l <= p <= u, sum(p) = 1, L_g <= sum of group g <= U_g}`` with disjoint groups.
Because groups do not overlap, both projections reduce to one scalar equation. For the Euclidean
projection of ``y`` the solution is ``p_j = clip(y_j + s_g, l_j, u_j)`` with
``s_g = clip(s, a_g, b_g)``, where ``a_g`` and ``b_g`` are the shifts at which group ``g`` meets its
own bounds and ``s`` makes the total one. For the Kullback-Leibler projection the shift becomes a
factor: ``p_j = clip(y_j * s_g, l_j, u_j)``. Both totals are piecewise linear in ``s``, so the root
is found exactly between two neighbouring breakpoints (Held, Wolfe & Crowder 1974 for the plain
simplex with bounds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cuvee.errors import InfeasibleError
from cuvee.feasible import FeasibleSet

__all__ = ["Array", "Region"]

Array = npt.NDArray[np.float64]
_TINY = 1e-9  # a zero entry can not grow by a factor; KL projection starts from at least this


@dataclass(frozen=True)
class Region:
    """Bounds on shares and on disjoint groups of shares, over the simplex.

    Attributes:
        lower: Least shares, shape ``(m,)``.
        upper: Greatest shares, shape ``(m,)``.
        groups: Index arrays of the groups' members.
        group_lower: Least group totals, shape ``(G,)``.
        group_upper: Greatest group totals, shape ``(G,)``.
    """

    lower: Array
    upper: Array
    groups: tuple[npt.NDArray[np.intp], ...]
    group_lower: Array
    group_upper: Array

    @classmethod
    def of(cls, feasible: FeasibleSet, order: Sequence[int] | None = None) -> Region:
        """The region of a feasible set, with its domains taken in ``order``."""
        m = len(feasible.names)
        order = range(m) if order is None else order
        place = {j: i for i, j in enumerate(order)}
        groups = sorted(
            (sorted(place[j] for j in g.members), g.lower, g.upper) for g in feasible.groups
        )
        return cls(
            np.array([feasible.lower[j] for j in order], dtype=np.float64),
            np.minimum(np.array([feasible.upper[j] for j in order], dtype=np.float64), 1.0),
            tuple(np.array(members, dtype=np.intp) for members, _, _ in groups),
            np.array([low for _, low, _ in groups], dtype=np.float64),
            np.array([high for _, _, high in groups], dtype=np.float64),
        )

    @property
    def dimension(self) -> int:
        return len(self.lower)

    def contains(self, p: Array, slack: float = 1e-9) -> npt.NDArray[np.bool_]:
        """Which rows of ``p`` (shape ``(n, m)``) lie in the region."""
        p = np.atleast_2d(p)
        inside = np.all((p >= self.lower - slack) & (p <= self.upper + slack), axis=1)
        inside &= np.abs(p.sum(axis=1) - 1) <= max(slack, 1e-9)
        for g, members in enumerate(self.groups):
            total = p[:, members].sum(axis=1)
            inside &= (total >= self.group_lower[g] - slack) & (
                total <= self.group_upper[g] + slack
            )
        return np.asarray(inside)

    def within(self, lower: Array, upper: Array) -> Region:
        """This region cut by a box, or this region itself where the cut would be empty."""
        low = np.clip(lower, self.lower, self.upper)
        high = np.clip(upper, self.lower, self.upper)
        low, high = np.minimum(low, high), np.maximum(low, high)
        cut = Region(low, high, self.groups, self.group_lower, self.group_upper)
        return cut if cut._nonempty() else self

    def _nonempty(self) -> bool:
        grouped = np.zeros(self.dimension, dtype=bool)
        least = most = 0.0
        for g, members in enumerate(self.groups):
            grouped[members] = True
            low = max(self.group_lower[g], self.lower[members].sum())
            high = min(self.group_upper[g], self.upper[members].sum())
            if low > high + 1e-12:
                return False
            least, most = least + low, most + high
        least += self.lower[~grouped].sum()
        most += self.upper[~grouped].sum()
        return bool(least <= 1 + 1e-12 and most >= 1 - 1e-12)

    @property
    def width(self) -> float:
        """The greatest range that any share has, 0 for a region of one mixture."""
        corners = self.project(
            10.0
            * np.concatenate([np.eye(self.dimension)] * 2)
            * np.repeat([1.0, -1.0], self.dimension)[:, None]
        )
        return float(np.ptp(corners, axis=0).max())

    def project(self, y: Array) -> Array:
        """The nearest point of the region in Euclidean distance.

        Args:
            y: Finite points, shape ``(m,)`` or ``(n, m)``.

        Raises:
            InfeasibleError: If the region is empty.
        """
        return self._project(y, "shift")

    def project_kl(self, y: Array) -> Array:
        """The point ``p`` of the region with least ``KL(p || y)``: shares keep their ratios.

        Args:
            y: Non-negative points, any positive scale, shape ``(m,)`` or ``(n, m)``.

        Raises:
            InfeasibleError: If the region is empty.
        """
        return self._project(np.maximum(y, _TINY), "scale")

    def _project(self, y: Array, move: Literal["shift", "scale"]) -> Array:
        if not self._nonempty():
            raise InfeasibleError("the region is empty: no mixture satisfies the constraints")
        rows = np.atleast_2d(y)
        low, high = self.lower, self.upper
        if move == "shift":
            marks = np.concatenate([low - rows, high - rows], axis=1)
        else:
            marks = np.concatenate([low / rows, high / rows], axis=1)
        n, m = rows.shape
        least = np.full((n, m), -np.inf)
        most = np.full((n, m), np.inf)
        extra = [marks]
        for g, members in enumerate(self.groups):
            part = rows[:, members]
            own = marks[:, np.concatenate([members, members + m])]
            args = (part, low[members], high[members], own, move)
            a = _root(*args, target=self.group_lower[g])
            b = _root(*args, target=self.group_upper[g])
            least[:, members], most[:, members] = a[:, None], np.maximum(a, b)[:, None]
            extra += [a[:, None], b[:, None]]
        # The clip of s to [a_g, b_g] is a clip of the coordinate, so it folds into its bounds.
        bottom = np.clip(_moved(rows, least, move), low, high)
        top = np.clip(_moved(rows, most, move), low, high)
        s = _root(rows, bottom, top, np.concatenate(extra, axis=1), move, target=1.0)
        p = np.clip(_moved(rows, s[:, None], move), bottom, top)
        return p if np.ndim(y) == 2 else p[0]

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """``n`` points, uniform over the region, shape ``(n, m)``.

        Plain simplex draws are kept where they are feasible. When too few are, random walks along
        ``e_i - e_j`` (hit-and-run on the simplex's edge directions, whose stationary distribution
        is uniform) start at projected draws.
        """
        m = self.dimension
        draws = rng.dirichlet(np.ones(m), size=8 * n)
        kept = draws[self.contains(draws)]
        if len(kept) >= n:
            return np.asarray(kept[:n])
        p = self.project_kl(draws[:n])
        rows = np.arange(n)
        group_of = np.full(m, -1)
        for g, members in enumerate(self.groups):
            group_of[members] = g
        totals = np.stack([p[:, q].sum(axis=1) for q in self.groups], axis=1) if self.groups else p
        for _ in range(20 * m):  # each coordinate is moved about 40 times
            i = rng.integers(m, size=n)
            j = (i + rng.integers(1, m, size=n)) % m
            room = np.minimum(self.upper[i] - p[rows, i], p[rows, j] - self.lower[j])
            back = np.minimum(p[rows, i] - self.lower[i], self.upper[j] - p[rows, j])
            if self.groups:
                across = group_of[i] != group_of[j]
                for k, sign in ((i, 1), (j, -1)):
                    own = group_of[k]  # -1 outside every group; the index is harmless, see bound
                    bound = across & (own >= 0)
                    total = totals[rows, own]
                    up, down = self.group_upper[own] - total, total - self.group_lower[own]
                    room = np.where(bound, np.minimum(room, up if sign > 0 else down), room)
                    back = np.where(bound, np.minimum(back, down if sign > 0 else up), back)
            room, back = np.maximum(room, 0), np.maximum(back, 0)
            step = rng.random(n) * (room + back) - back
            p[rows, i] += step
            p[rows, j] -= step
            if self.groups:
                totals = np.stack([p[:, q].sum(axis=1) for q in self.groups], axis=1)
        return self.project(p)  # removes rounding only

    def sample_around(
        self, rng: np.random.Generator, centre: Array, strength: Array, power: float = 1.0
    ) -> Array:
        """Dirichlet draws around ``centre``, moved into the region by the KL projection.

        Args:
            rng: Source of randomness.
            centre: A mixture, shape ``(m,)``.
            strength: Total concentration of each draw, shape ``(n,)``: small gives sparse and far
                mixtures, large gives near ones.
            power: Tempers the centre (``centre ** power``, renormalised); 0 is uniform.

        Returns:
            Mixtures, shape ``(n, m)``.
        """
        mean = np.maximum(centre, 1e-4) ** power
        mean /= mean.sum()
        shape = np.maximum(strength[:, None] * mean, 1e-2)
        gamma = rng.standard_gamma(shape) + 1e-12
        return self.project_kl(gamma / gamma.sum(axis=1, keepdims=True))


def _moved(y: Array, s: Array, move: Literal["shift", "scale"]) -> Array:
    return y + s if move == "shift" else y * np.maximum(s, 0.0)


def _root(
    y: Array,
    low: Array,
    high: Array,
    marks: Array,
    move: Literal["shift", "scale"],
    *,
    target: float,
) -> Array:
    """The ``s`` of each row with ``sum(clip(moved(y, s), low, high)) = target``, shape ``(n,)``.

    ``marks`` holds every breakpoint of the sum. A target out of reach gives minus or plus infinity.
    """
    marks = np.sort(np.where(np.isfinite(marks), marks, 0.0), axis=1)
    low3 = low[:, None, :] if low.ndim == 2 else low
    high3 = high[:, None, :] if high.ndim == 2 else high
    totals = np.clip(_moved(y[:, None, :], marks[:, :, None], move), low3, high3).sum(axis=2)
    rows = np.arange(len(y))
    right = np.sum(totals < target, axis=1)  # first breakpoint at or above the target
    last = marks.shape[1] - 1
    r, q = np.clip(right, 0, last), np.clip(right - 1, 0, last)
    left_total, right_total = totals[rows, q], totals[rows, r]
    rise = right_total - left_total
    part = np.where(rise > 0, (target - left_total) / np.where(rise > 0, rise, 1.0), 0.0)
    s = marks[rows, q] + np.clip(part, 0, 1) * (marks[rows, r] - marks[rows, q])
    s = np.where((right == 0) & (totals[:, 0] > target + 1e-12), -np.inf, s)
    return np.where((right > last) & (totals[:, -1] < target - 1e-12), np.inf, s)
