"""Bounds on a tree of groups: whether a mixture satisfies them, and which of them clash.

Domains are the leaves of a tree, groups its inner nodes, and the root holds all domains with total
one. What a node can reach is an interval. Its lower end is ``max(L, sum of the children's lower
ends)`` and does not depend on how many domains are active, as long as they suffice. Its upper end
as a function of that number is concave from the least sufficient number on: this holds for a
domain, sums keep it (the sum takes the children's increments in falling order), and so do a cap
and a new starting point. One merge per node therefore decides feasibility exactly.

Without a limit on active domains, bounds clash at one node: disjoint minima below it exceed a cap
on it, or caps that cover it fall short of a minimum on it. Both are found with the fewest
constraints by a max-plus (min-plus) convolution over the tree, so the conflict is one of minimum
cardinality. With the limit, constraints are dropped one after another while the rest still clash
(QuickXplain): no constraint of the result can be spared, but a smaller set may exist.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["SLACK", "Clash", "Limit", "Tree", "active_needed", "smallest_clash"]

SLACK = 1e-9
"""Bounds that miss each other by no more than this meet: supply caps are quotients."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Groups over ``size`` domains.

    Attributes:
        size: Number of domains; they are the nodes ``0 .. size - 1``.
        children: Of each inner node, whose number is ``size`` plus its position. Children come
            before their parents; the last node is the root.
    """

    size: int
    children: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, size: int, groups: Sequence[Iterable[int]]) -> Tree:
        """The tree of a family of groups, smallest first, each two nested or disjoint."""
        top = list(range(size))  # the outermost node so far that holds each domain
        children = []
        for i, members in enumerate([*groups, range(size)]):
            children.append(tuple(sorted({top[j] for j in members})))
            for j in members:
                top[j] = size + i
        return cls(size, tuple(children))

    @property
    def root(self) -> int:
        return self.size + len(self.children) - 1


@dataclass(frozen=True, slots=True)
class Limit:
    """One constraint: a least or greatest total of a node, or, without a node, the greatest number
    of active domains. ``text`` is what the user wrote, or what follows from the supply.
    """

    text: str
    node: int | None
    value: float
    least: bool = False


@dataclass(frozen=True, slots=True)
class Clash:
    """Constraints that no mixture satisfies together.

    Attributes:
        limits: The constraints; none can be spared.
        node: Where minima and caps clash; None when the limit on active domains is involved.
        least: The total that ``node`` needs.
        most: The total that ``node`` can have.
    """

    limits: tuple[Limit, ...]
    node: int | None
    least: float
    most: float


def active_needed(tree: Tree, limits: Iterable[Limit]) -> float:
    """Least number of active domains with which a mixture satisfies the bounds on totals.

    A domain with a positive minimum is always active. Infinite where no number is enough.
    """
    nodes = tree.root + 1
    low, high = [0.0] * nodes, [1.0] * nodes
    for limit in limits:
        if limit.node is None:
            continue
        if limit.least:
            low[limit.node] = max(low[limit.node], limit.value)
        else:
            high[limit.node] = min(high[limit.node], limit.value)
    low[tree.root] = 1.0
    need, base, rises = [0] * nodes, [0.0] * nodes, [[0.0]] * nodes
    for j in range(tree.size):
        if low[j] > high[j] + SLACK:
            return math.inf
        need[j], base[j], rises[j] = (1, high[j], []) if low[j] > 0 else (0, 0.0, [high[j]])
    for i, children in enumerate(tree.children):
        node = tree.size + i
        low[node] = max(low[node], math.fsum(low[c] for c in children))
        if low[node] > high[node] + SLACK:
            return math.inf
        count = sum(need[c] for c in children)
        total = math.fsum(base[c] for c in children)
        falling = sorted((rise for c in children for rise in rises[c]), reverse=True)
        used = 0
        while total < low[node] - SLACK:
            if used == len(falling) or falling[used] <= 0:
                return math.inf
            total += falling[used]
            used += 1
        need[node] = count + used
        base[node] = total = min(total, high[node])
        rises[node] = []
        for rise in falling[used:]:
            rise = min(rise, high[node] - total)
            if rise <= 0:
                break
            total += rise
            rises[node].append(rise)
    return need[tree.root]


def smallest_clash(tree: Tree, limits: Sequence[Limit]) -> Clash | None:
    """A small set of constraints that clash, or None if a mixture satisfies all of them.

    Where bounds clash without the limit on active domains, no smaller set of bounds does.
    Otherwise the set is irreducible.
    """
    if math.isinf(active_needed(tree, limits)):
        return _fewest(tree, limits)
    if not _clash(tree, limits):
        return None
    # Of each half of a list the later part is dropped first, so strong constraints lead. Which
    # kind goes first decides what remains: both ways are tried.
    number = [limit for limit in limits if limit.node is None]
    strong = sorted(
        (limit for limit in limits if limit.node is not None),
        key=lambda limit: -limit.value if limit.least else limit.value,
    )
    orders = [sorted(strong, key=lambda limit: limit.least == last) for last in (True, False)]
    found = min((_needed(tree, order, number) for order in orders), key=len)
    most = min(limit.value for limit in number)
    return Clash((*number, *found), None, active_needed(tree, limits), most)


def _clash(tree: Tree, limits: Sequence[Limit]) -> bool:
    most = min((limit.value for limit in limits if limit.node is None), default=math.inf)
    need = active_needed(tree, limits)
    return math.isinf(need) or need > most


def _needed(tree: Tree, candidates: Sequence[Limit], kept: Sequence[Limit]) -> list[Limit]:
    """What of ``candidates``, which clash with ``kept``, must stay (QuickXplain, Junker 2004)."""
    if _clash(tree, kept):
        return []
    if len(candidates) == 1:
        return list(candidates)
    half = len(candidates) // 2
    first, second = candidates[:half], candidates[half:]
    later = _needed(tree, second, [*kept, *first])
    return [*_needed(tree, first, [*kept, *later]), *later]


def _fewest(tree: Tree, limits: Sequence[Limit]) -> Clash:
    """The clash of minima and caps with the fewest constraints."""
    minimum: dict[int, Limit] = {}
    cap: dict[int, Limit] = {}
    for limit in limits:
        if limit.node is None:
            continue
        held = minimum if limit.least else cap
        known = held.get(limit.node)
        if known is None or (limit.value > known.value) == limit.least:
            held[limit.node] = limit
    found: list[Clash] = []
    minima: list[_Sums] = []
    caps: list[_Sums] = []
    for node in range(tree.root + 1):
        children = tree.children[node - tree.size] if node >= tree.size else ()
        more, less = _sums(minima, children), _sums(caps, children)
        if node < tree.size:
            less = [(-math.inf, ())]  # nothing covers it yet
        # With at most n constraints: a node's own may do better than those below it.
        if node in minimum:
            more = _with_own(more, minimum[node], 1.0)
        if node in cap:
            less = _with_own(less, cap[node], -1.0)
        minima.append(more)
        caps.append(less)
        at_root = node == tree.root
        most = 1.0 if at_root else cap[node].value if node in cap else math.inf
        least = 1.0 if at_root else minimum[node].value if node in minimum else -math.inf
        for total, chosen in more:
            if total > most + SLACK:
                own = () if at_root else (cap[node],)
                found.append(Clash((*own, *chosen), node, total, most))
                break
        for total, chosen in less:
            if -total < least - SLACK:
                own = () if at_root else (minimum[node],)
                found.append(Clash((*own, *chosen), node, least, -total))
                break
    return min(found, key=lambda clash: len(clash.limits))


_Sums = list[tuple[float, tuple[Limit, ...]]]  # by number of constraints: best total, and which


def _sums(known: Sequence[_Sums], children: Sequence[int]) -> _Sums:
    """Best totals over the children: greatest sum of minima, or least sum of caps negated."""
    total: _Sums = [(0.0, ())]
    for child in children:
        merged: _Sums = [(-math.inf, ())] * (len(total) + len(known[child]) - 1)
        for i, (a, chosen) in enumerate(total):
            for j, (b, more) in enumerate(known[child]):
                if a + b > merged[i + j][0]:
                    merged[i + j] = (a + b, chosen + more)
        total = merged
    return total


def _with_own(sums: _Sums, own: Limit, sign: float) -> _Sums:
    value = sign * own.value
    padded = sums if len(sums) > 1 else [*sums, sums[0]]
    return [padded[0], *((value, (own,)) if value > s[0] else s for s in padded[1:])]
