"""What every strategy does: choose the next mixture and its rung, and answer with a mixture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cuvee.engine.acquisition.cloud import apart
from cuvee.engine.evidence.anchors import next_anchor
from cuvee.engine.evidence.table import Table, same
from cuvee.engine.space import design
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Surrogate
from cuvee.records import Explanation

if TYPE_CHECKING:  # the fits of a table ask its strategy for the surrogate
    from cuvee.engine.surrogates.fitted import Fits

__all__ = [
    "Point",
    "Strategy",
    "best_or_unseen",
    "best_verified",
    "crowded",
    "drawn",
    "fill",
    "opening",
    "unseen",
    "verified",
]


@dataclass(frozen=True)
class Point:
    """A mixture that a strategy wants run.

    Attributes:
        p: The mixture, shape ``(m,)``.
        rung: Where.
        reason: Why, in words for people.
        label: The reference that it is, if any.
        acquisition: What it was chosen by, bits per byte.
        predicted: Mean and standard error of the losses at the rung, shape ``(E, 2)``.
        explanation: Why, in numbers.
    """

    p: Array
    rung: int
    reason: str
    label: str | None = None
    acquisition: float | None = None
    predicted: Array | None = None
    explanation: Explanation | None = None


class Strategy(ABC):
    """Chooses points, and the answer's mixture.

    Implementations are stateless and pure: everything they may know is in the table, its fits and
    the generator. A point returned must be feasible, or a row of the table's pool where it has
    one, and differ from every mixture that was tried or is pending at its rung. Where the
    constraints allow too few for that, ``finite`` says what is run instead. The first runs at a
    rung (references, the repeat; see ``opening``) are the same for every strategy.
    """

    name: str

    @abstractmethod
    def surrogate(self, table: Table) -> Surrogate:
        """What the belief behind the answer is fitted with."""

    def rungs(self, table: Table) -> tuple[int, ...]:
        """The rungs that it uses, cheapest first: all of them."""
        return tuple(range(table.target + 1))

    def spent(self, table: Table) -> bool:
        """Whether its budget has nothing left to ask for: the target has no runs left."""
        return table.left(table.target) == 0

    @abstractmethod
    def next_point(self, table: Table, fits: Fits, rng: np.random.Generator) -> Point | None:
        """The next point, at a rung that has runs left; None when nothing is left to run."""

    @abstractmethod
    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        """The mixture to recommend, shape ``(m,)``: feasible, or a row of the target's pool."""


def opening(table: Table, rung: int) -> Point | None:
    """The next reference mixture not yet tried at a rung, then its anchors; None when all were.

    References are run even where the constraints forbid them: they are what the answer is
    compared with. A pool of finished runs holds no references.
    """
    if table.pool is not None:
        return None
    taken = table.taken(rung)
    for label, p in table.references().items():
        if not np.any(same(p, taken)):
            allowed = bool(table.region.contains(p, slack=1e-6)[0])
            reason = f"{label} mixture, a reference" + (
                "" if allowed else " (outside the constraints, for comparison only)"
            )
            return Point(p, rung, reason, label=label)
    anchor = next_anchor(table, rung)
    if anchor is None:
        return None
    p, label, reason = anchor
    return Point(p, rung, reason, label=label)


def crowded(p: Array, taken: Array, least: float) -> bool:
    """Whether a mixture is within a total variation of ``least`` of one that is taken."""
    return bool(len(taken) and np.min(0.5 * np.abs(taken - p).sum(axis=1)) < least)


def verified(table: Table) -> tuple[Array, Array]:
    """The target runs whose mixtures satisfy the constraints (references need not).

    Returns:
        Mixtures ``(K, m)`` and losses ``(K, E)``.
    """
    x, y = table.at(table.target)
    if table.pool is not None:
        return x, y
    allowed = table.region.contains(x, slack=1e-5)
    return x[allowed], y[allowed]


def unseen(table: Table, rng: np.random.Generator) -> Array:
    """An answer for want of any run: a row of the pool at random, or the region's middle."""
    if table.pool is not None:
        rows = table.pool[table.target]
        return np.asarray(rows[rng.integers(len(rows))])
    return design.centre(table)


def best_verified(table: Table) -> Array | None:
    """The feasible mixture with the least objective measured at the target, repeats averaged."""
    x, y = verified(table)
    if len(x) == 0:
        return None
    _, which = np.unique(np.round(x, 5), axis=0, return_inverse=True)
    which = which.reshape(-1)
    mean = np.bincount(which, table.goal.value(y)) / np.bincount(which)
    return np.asarray(x[np.flatnonzero(which == np.argmin(mean))[0]])


def best_or_unseen(table: Table, rng: np.random.Generator) -> Array:
    """The best measured mixture; an answer for want of any run where there is none."""
    best = best_verified(table)
    return unseen(table, rng) if best is None else best


def drawn(
    table: Table, rung: int, rng: np.random.Generator, draw: Callable[[], Array], reason: str
) -> Point:
    """The first of some draws that is apart from every run at a rung; of a pool, any row left."""
    if table.pool is not None:
        rows = table.untaken(rung)
        return Point(rows[rng.integers(len(rows))], rung, reason)
    rows = apart(table, draw(), rung)
    return Point(rows[0], rung, reason) if len(rows) else fill(table, rung, rng)


def fill(table: Table, rung: int, rng: np.random.Generator) -> Point:
    """A point that fills the space at a rung, with its explanation."""
    among = None if table.pool is None else table.untaken(rung)
    found = design.fill(table, rung, rng, among)
    why = Explanation(method="design", cost=float(table.cost[rung]))
    return Point(found.p, rung, found.reason, explanation=why)
