"""The feasible region as arrays: membership, projections, sampling.

A region is ``{p : l <= p <= u, sum(p) = 1, L_g <= sum of group g <= U_g}``, where of two groups one
contains the other or they are disjoint, and possibly at most ``max_active`` shares above zero.

Without that limit both projections reduce to scalar equations, one per group. For the Euclidean
projection of ``y`` every node of the tree of groups has a shift: the root's makes the total one,
and a group's is its parent's, clipped to ``[a_g, b_g]``, the shifts at which the group meets its
own bounds (the multiplier of a bound is zero unless the bound holds with equality). A domain's
share is ``clip(y_j + shift, l_j, u_j)``. A clip of a clip is a clip, so groups are solved from the
smallest to the largest and each is folded into the bounds of its domains. For the
Kullback-Leibler projection the shift becomes a factor. The totals are piecewise linear in shift
or factor, so each root is found exactly between two neighbouring breakpoints (Held, Wolfe &
Crowder 1974 for the plain simplex with bounds).

With the limit, a projection first chooses the active domains (``cuvee.engine.space.supports``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cuvee.conflicts import Tree
from cuvee.engine.space import supports, walks
from cuvee.engine.space.roots import Array, Indices, Move, moved, root
from cuvee.errors import InfeasibleError
from cuvee.feasible import ACTIVE, FeasibleSet

__all__ = ["Array", "Bools", "Node", "Region"]

Bools = npt.NDArray[np.bool_]

_TINY = 1e-9  # a zero entry can not grow by a factor; KL projection starts from at least this
_SLACK = 1e-9


@dataclass(frozen=True)
class Node:
    """A group, or all domains together: its own domains, the nodes in it, everything in it."""

    leaves: Indices
    inner: tuple[int, ...]
    members: Indices
    lower: float
    upper: float


@dataclass(frozen=True)
class Region:
    """Bounds on shares and on groups of shares, over the simplex.

    Attributes:
        lower: Least shares, shape ``(m,)``.
        upper: Greatest shares, shape ``(m,)``.
        groups: Index arrays of the groups' members.
        group_lower: Least group totals, shape ``(G,)``.
        group_upper: Greatest group totals, shape ``(G,)``.
        max_active: Most shares above zero; None without a limit.
    """

    lower: Array
    upper: Array
    groups: tuple[Indices, ...]
    group_lower: Array
    group_upper: Array
    max_active: int | None = None

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
            feasible.max_active,
        )

    @property
    def dimension(self) -> int:
        return len(self.lower)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The groups, what they contain first, then the root."""
        m = self.dimension
        by_size = sorted(range(len(self.groups)), key=lambda g: len(self.groups[g]))
        tree = Tree.of(m, [[int(j) for j in self.groups[g]] for g in by_size])
        sets = [self.groups[g] for g in by_size] + [np.arange(m)]
        lower = [float(self.group_lower[g]) for g in by_size] + [1.0]
        upper = [float(self.group_upper[g]) for g in by_size] + [1.0]
        return tuple(
            Node(
                np.array([c for c in children if c < m], dtype=np.intp),
                tuple(c - m for c in children if c >= m),
                members,
                low,
                high,
            )
            for children, members, low, high in zip(tree.children, sets, lower, upper, strict=True)
        )

    def contains(self, p: Array, slack: float = 1e-9) -> Bools:
        """Which rows of ``p`` (shape ``(n, m)``) lie in the region."""
        p = np.atleast_2d(p)
        inside = np.all((p >= self.lower - slack) & (p <= self.upper + slack), axis=1)
        inside &= np.abs(p.sum(axis=1) - 1) <= max(slack, 1e-9)
        for g, members in enumerate(self.groups):
            total = p[:, members].sum(axis=1)
            inside &= (total >= self.group_lower[g] - slack) & (
                total <= self.group_upper[g] + slack
            )
        if self.max_active is not None:
            inside &= np.sum(p > ACTIVE, axis=1) <= self.max_active
        return np.asarray(inside)

    def within(self, lower: Array, upper: Array) -> Region:
        """This region cut by a box, or this region itself where the cut would be empty."""
        low = np.clip(lower, self.lower, self.upper)
        high = np.clip(upper, self.lower, self.upper)
        low, high = np.minimum(low, high), np.maximum(low, high)
        cut = replace(self, lower=low, upper=high)
        return self if cut.empty else cut

    def reach(self, upper: Array, chosen: Bools) -> tuple[Array, Bools]:
        """Least number of active domains of a mixture whose shares are at most ``upper``.

        The numerical twin of ``cuvee.conflicts.active_needed``, for many rows at once.

        Args:
            upper: Greatest shares, zero for domains that may not be active, shape ``(n, m)``.
            chosen: Domains that count as active in any case, shape ``(n, m)``.

        Returns:
            The number, shape ``(n,)``, infinite where no mixture exists; and the active domains of
            such a mixture, shape ``(n, m)``, where one exists: of several, those with high caps.
        """
        active = chosen | (self.lower > 0)
        need = np.sum(active, axis=1).astype(np.float64)
        rows = np.arange(len(upper))
        bases: list[Array] = []
        rises: list[Array] = []  # what the next active domain adds to a node, and which it is
        which: list[Indices] = []
        least: list[float] = []
        for node in self.nodes:
            top, on = upper[:, node.leaves], active[:, node.leaves]
            base = np.sum(np.where(on, top, 0.0), axis=1) + sum(bases[i] for i in node.inner)
            steps = np.concatenate(
                [np.where(on, 0.0, top), *(rises[i] for i in node.inner)], axis=1
            )
            names = np.concatenate(
                [np.tile(node.leaves, (len(top), 1)), *(which[i] for i in node.inner)], axis=1
            )
            order = np.argsort(-steps, axis=1, kind="stable")
            steps, names = steps[rows[:, None], order], names[rows[:, None], order]
            total = np.cumsum(np.concatenate([base[:, None], steps], axis=1), axis=1)
            total = np.minimum(total, node.upper)
            low = max(
                node.lower, float(self.lower[node.leaves].sum()) + sum(least[i] for i in node.inner)
            )
            enough = total >= low - _SLACK
            used = np.argmax(enough, axis=1)
            possible = enough.any(axis=1) & (low <= node.upper + _SLACK)
            need = np.where(possible, need + used, np.inf)
            later = np.arange(steps.shape[1]) >= used[:, None]
            np.put_along_axis(
                active, names, np.take_along_axis(active, names, axis=1) | ~later, axis=1
            )
            bases.append(total[rows, used])
            rises.append(np.where(later, np.diff(total, axis=1), 0.0))
            which.append(names)
            least.append(low)
        return need, active

    @cached_property
    def empty(self) -> bool:
        """Whether no mixture satisfies the constraints."""
        if np.any(self.lower > self.upper + _SLACK):
            return True
        need, _ = self.reach(self.upper[None], np.zeros((1, self.dimension), dtype=bool))
        return bool(need[0] > (self.dimension if self.max_active is None else self.max_active))

    @cached_property
    def ranges(self) -> Array:
        """The least and the greatest value of every share, shape ``(2, m)``.

        Exact without ``max_active``, which is not looked at. What a node can have follows from
        what the others in its parent can have, from the root down.
        """
        low = [0.0] * len(self.nodes)
        high = [0.0] * len(self.nodes)
        for i, node in enumerate(self.nodes):
            low[i] = max(
                node.lower, self.lower[node.leaves].sum() + sum(low[k] for k in node.inner)
            )
            high[i] = min(
                node.upper, self.upper[node.leaves].sum() + sum(high[k] for k in node.inner)
            )
        found = np.stack([self.lower, self.upper])
        for i in reversed(range(len(self.nodes))):
            node = self.nodes[i]
            inner = list(node.inner)
            lows = np.concatenate([self.lower[node.leaves], [low[k] for k in inner]])
            highs = np.concatenate([self.upper[node.leaves], [high[k] for k in inner]])
            least = np.maximum(lows, low[i] - (highs.sum() - highs))
            most = np.minimum(highs, high[i] - (lows.sum() - lows))
            count = len(node.leaves)
            found[:, node.leaves] = least[:count], most[:count]
            for k, a, b in zip(inner, least[count:], most[count:], strict=True):
                low[k], high[k] = float(a), float(b)
        return found

    @cached_property
    def width(self) -> float:
        """The greatest range that any share has, 0 for a region of one mixture.

        With ``max_active`` a lower bound: the range over the mixtures furthest in 32 directions.
        Of two mixtures either is furthest in half of all directions.
        """
        if self.max_active is None:
            return float(np.ptp(self.ranges, axis=0).max())
        ways = np.random.default_rng(0).normal(scale=10.0, size=(32, self.dimension))
        return float(np.ptp(self.project(ways), axis=0).max())

    def project(self, y: Array) -> Array:
        """The nearest point of the region in Euclidean distance.

        Exact without ``max_active``; with it, see ``supports.choose``.

        Args:
            y: Finite points, shape ``(m,)`` or ``(n, m)``.

        Raises:
            InfeasibleError: If the region is empty.
        """
        rows = np.atleast_2d(y)
        p = self._project(rows, "shift", np.broadcast_to(self.upper, rows.shape))
        return p if np.ndim(y) == 2 else p[0]

    def project_among(self, y: Array, active: Bools) -> Array:
        """The nearest points whose active domains are among given ones, all shapes ``(n, m)``."""
        return self.onto(y, "shift", np.where(active, self.upper, 0.0))

    def project_kl(self, y: Array) -> Array:
        """The point ``p`` of the region with least ``KL(p || y)``: shares keep their ratios.

        Zeros stay exact zeros where the region allows it. Exact without ``max_active``; with it,
        see ``supports.choose``.

        Args:
            y: Non-negative points, any positive scale, shape ``(m,)`` or ``(n, m)``.

        Raises:
            InfeasibleError: If the region is empty.
        """
        rows = np.atleast_2d(y)
        top = np.broadcast_to(self.upper, rows.shape)
        zero = (rows <= 0) & (self.lower == 0)
        if np.any(zero):
            cut = np.where(zero, 0.0, top)
            need, _ = self.reach(cut, np.zeros(rows.shape, dtype=bool))
            most = self.dimension if self.max_active is None else self.max_active
            top = np.where((need <= most)[:, None], cut, top)
        p = self._project(np.maximum(rows, _TINY), "scale", top)
        return p if np.ndim(y) == 2 else p[0]

    def _project(self, rows: Array, move: Move, top: Array) -> Array:
        if self.empty:
            raise InfeasibleError("the region is empty: no mixture satisfies the constraints")
        p = self.onto(rows, move, top)
        if self.max_active is None:
            return p
        dense = np.sum(p > 0, axis=1) > self.max_active
        if np.any(dense):
            p[dense] = supports.project(self, rows[dense], move, top[dense], p[dense])
        return p

    def onto(self, rows: Array, move: Move, top: Array) -> Array:
        """The projection with greatest shares ``top``, ``max_active`` disregarded.

        Args:
            rows: Points, shape ``(n, m)``, positive for ``move`` "scale" (Kullback-Leibler).
            move: Which projection.
            top: Greatest shares, shape ``(n, m)``; a mixture within them must exist.
        """
        return self.solve(rows, move, top)[0]

    def solve(self, rows: Array, move: Move, top: Array) -> tuple[Array, Array]:
        """``onto``, and the shift (or factor) of each domain, shapes ``(n, m)``."""
        low = np.tile(self.lower, (len(rows), 1))
        high = np.minimum(top, self.upper)
        limits: list[tuple[Indices, Array, Array]] = []
        for node in self.nodes[:-1]:
            q = node.members
            part, least, most = rows[:, q], low[:, q], high[:, q]
            a, b = np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
            if node.lower > 0:
                a = root(part, least, most, move, node.lower)
                low[:, q] = np.clip(moved(part, a, move), least, most)
            if node.upper < 1:
                b = np.maximum(a, root(part, least, most, move, node.upper))
                high[:, q] = np.clip(moved(part, b, move), least, most)
            limits.append((q, a, b))
        s = root(rows, low, high, move, 1.0)
        p = np.clip(moved(rows, s, move), low, high)
        shift = np.tile(s[:, None], (1, self.dimension))
        for q, a, b in reversed(limits):
            shift[:, q] = np.clip(shift[:, q], a[:, None], b[:, None])
        return p, shift

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """``n`` points, uniform over the region, shape ``(n, m)``.

        Draws that are uniform over ``{p >= lower}`` (and over its sets of ``max_active`` domains)
        are kept where they are feasible. When too few are, random walks (``walks``) start at
        projected draws. With ``max_active`` they keep their active domains, which are
        then drawn one after another and not in proportion to the volume that they leave.
        """
        draws = self._draws(rng, 8 * n)
        kept = draws[self.contains(draws)]
        if len(kept) >= n:
            return np.asarray(kept[:n])
        start = np.maximum(rng.standard_exponential((n, self.dimension)), _TINY)
        top = np.broadcast_to(self.upper, start.shape)
        if self.max_active is not None:
            active = supports.complete(self, rng.random(start.shape), top)
            top = np.where(active, top, 0.0)
        start = self.onto(start, "scale", top)
        return self.onto(walks.walk(self, rng, start, top), "shift", top)  # removes rounding only

    def _draws(self, rng: np.random.Generator, n: int) -> Array:
        """Uniform over ``{p >= lower, sum(p) = 1}``, fixed shares fixed, and over active sets."""
        weight = np.where(self.upper > self.lower, rng.standard_exponential((n, self.dimension)), 0)
        if self.max_active is not None:
            forced = self.lower > 0
            luck = np.where(forced, 2.0, rng.random(weight.shape) * (self.upper > 0))
            rank = np.argsort(np.argsort(-luck, axis=1), axis=1)
            weight = np.where(rank < self.max_active, weight, 0.0)
        total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
        return np.asarray(self.lower + (1.0 - self.lower.sum()) * weight / total)

    def sample_around(
        self,
        rng: np.random.Generator,
        centre: Array,
        strength: Array,
        power: float = 1.0,
        least: float = 0.0,
    ) -> Array:
        """Dirichlet draws around ``centre``, moved into the region by the KL projection.

        Args:
            rng: Source of randomness.
            centre: A mixture, shape ``(m,)``.
            strength: Total concentration of each draw, shape ``(n,)``: small gives sparse and far
                mixtures, large gives near ones.
            power: Tempers the centre (``centre ** power``, renormalised); 0 is uniform.
            least: Smaller shares become zero.

        Returns:
            Mixtures, shape ``(n, m)``.
        """
        mean = np.maximum(centre, 1e-4) ** power
        mean /= mean.sum()
        shape = np.maximum(strength[:, None] * mean, 1e-2)
        # A gamma variate of shape a is one of shape a + 1 times U^(1/a): in logarithms, because
        # those of small shape underflow, and draws of nothing but such would come out uniform.
        logs = np.log(rng.standard_gamma(shape + 1)) + np.log1p(-rng.random(shape.shape)) / shape
        draws = np.exp(logs - logs.max(axis=1, keepdims=True))
        draws /= draws.sum(axis=1, keepdims=True)
        return self.project_kl(np.where(draws < least, 0.0, draws))
