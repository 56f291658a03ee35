"""Which mixture to run next: strategies behind one interface.

``propose`` is a pure function. It sees the whole history, pending and failed runs included, and a
seed; it keeps nothing. Each proposal draws from its own generator, seeded by the seed, the rung and
the number of runs issued so far, so a retry after a crash proposes the same mixture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from cuvee.engine import design, stopping
from cuvee.engine.bootstrap import Draws
from cuvee.engine.design import Point
from cuvee.engine.fitted import Fits, Fitted
from cuvee.engine.optimum import minimise
from cuvee.engine.simplex import Array
from cuvee.engine.table import Table
from cuvee.records import History, Prediction, Proposal, SearchProblem

__all__ = ["STRATEGIES", "MixingLaw", "RandomSearch", "Strategy", "propose"]

DISTINCT = 0.02
"""Least total variation between a law's proposal and any other run at the rung: nearer
mixtures hardly differ in loss, and a run there would only repeat the other."""

_REPLICATES = 32  # enough to rank candidates; intervals, which need tails, use many more


class Strategy(ABC):
    """Chooses points at the target rung, and the answer's mixture.

    Implementations are stateless and pure: everything they may know is in the table and the
    generator. The points that every strategy runs first (references, the repeat) and the lower
    rungs' budget are not theirs to choose. A point returned must be feasible and differ from every
    mixture that was tried or is pending at the rung.
    """

    @abstractmethod
    def next_point(self, table: Table, fits: Fits, rung: int, rng: np.random.Generator) -> Point:
        """The next point at a rung that has budget left."""

    @abstractmethod
    def answer(self, table: Table, fitted: Fitted) -> Array:
        """The mixture to recommend, shape ``(m,)``: feasible, and within the shares seen."""

    @abstractmethod
    def answers(self, table: Table, fitted: Fitted, draws: Draws) -> Array:
        """The answer under each replicate of the laws, shape ``(B, m)``."""


class RandomSearch(Strategy):
    """Uniform draws from the feasible region: the yardstick."""

    def next_point(self, table: Table, fits: Fits, rung: int, rng: np.random.Generator) -> Point:
        for p in table.region.sample(rng, 16):
            if not _crowded(p, table.taken(rung), 1e-6):
                return Point(p, "drawn at random from the feasible region")
        return design.fill(table, rung, rng)

    def answer(self, table: Table, fitted: Fitted) -> Array:
        x, y = _feasible(table)
        return np.asarray(x[np.argmin(y @ table.w)])

    def answers(self, table: Table, fitted: Fitted, draws: Draws) -> Array:
        x, _ = _feasible(table)
        return np.asarray(x[np.argmin(draws.at(x) @ table.w, axis=1)])


class MixingLaw(Strategy):
    """Fills the space, then follows the laws: alternately their optimum and what could beat it."""

    def next_point(self, table: Table, fits: Fits, rung: int, rng: np.random.Generator) -> Point:
        if rung != table.target:
            return design.fill(table, rung, rng)
        issued = table.issued(rung)
        first = self.design_size(table)
        if issued < first:
            return self._design_point(table, fits, rng, last=issued == first - 1)
        fitted = fits.at(rung)
        if fitted is None:
            return design.fill(table, rung, rng)
        if (issued - first) % 2 == 0:
            return self._exploit(table, fitted, rng)
        return self._explore(table, fitted, rng)

    def answer(self, table: Table, fitted: Fitted) -> Array:
        region = fitted.reach(table.region, stretch=False)
        return fitted.optimum(region, design.centre(table))

    def answers(self, table: Table, fitted: Fitted, draws: Draws) -> Array:
        region = fitted.reach(table.region, stretch=False)
        return minimise(draws.t, table.w, region, self.answer(table, fitted), steps=100)

    @staticmethod
    def design_size(table: Table) -> int:
        """Runs at the target before the laws lead: as many as a law has parameters, and two."""
        budget = table.problem.rungs[table.target].runs
        return min(budget, table.region.dimension + 3)

    @staticmethod
    def _design_point(table: Table, fits: Fits, rng: np.random.Generator, *, last: bool) -> Point:
        lower = None
        if last and table.target > 0:
            lower = fits.at(table.target - 1)
        if lower is not None:
            middle = design.centre(table)
            best = lower.optimum(table.region, middle)
            p = (1 - design.INWARD) * best + design.INWARD * middle
            if not _crowded(p, table.taken(table.target), DISTINCT):
                return Point(p, "near the optimum of the rung below")
        if table.target == 0 or table.issued(table.target) % 2 == 0:
            return design.fill(table, table.target, rng)
        # Every other point has been measured by the rung below, to show how well the rungs agree.
        # Not every point: the fewer candidates fill the space less evenly (docs/math.md).
        x, _ = table.at(table.target - 1)
        shared = x[table.region.contains(x, slack=1e-6)]
        shared = shared[[not _crowded(p, table.taken(table.target), DISTINCT) for p in shared]]
        return design.fill(table, table.target, rng, shared if len(shared) else None)

    @staticmethod
    def _exploit(table: Table, fitted: Fitted, rng: np.random.Generator) -> Point:
        """The laws' optimum, or a neighbour of it once it has been run."""
        taken = table.taken(table.target)
        best = fitted.optimum(fitted.reach(table.region, stretch=True), design.centre(table))
        near = table.region.sample_around(rng, best, np.full(64, 100.0))
        for p in np.concatenate([best[None], near]):
            if not _crowded(p, taken, DISTINCT):
                reason = "optimum of the laws fitted so far"
                return Point(p, reason, predicted=fitted.predicted(p))
        return design.fill(table, table.target, rng)

    @staticmethod
    def _explore(table: Table, fitted: Fitted, rng: np.random.Generator) -> Point:
        """The candidate expected to improve most over the laws' optimum, by their uncertainty."""
        region = fitted.reach(table.region, stretch=True)
        best = fitted.optimum(region, design.centre(table))
        strengths = np.exp(rng.uniform(np.log(10.0), np.log(200.0), size=256))
        near = region.sample_around(rng, best, strengths)
        candidates = np.concatenate([near, region.project(design.cloud(table, rng))])
        draws = fitted.draws(rng, _REPLICATES)
        here = draws.at(candidates) @ table.w  # (B, n)
        there = draws.at(best) @ table.w  # (B, 1)
        gain = np.maximum(there - here, 0).mean(axis=0)
        # Ties (no replicate improves) go to where the runs support a prediction least.
        gain = gain + 1e-6 * (table.w @ fitted.laws.leverages_at(candidates))
        taken = table.taken(table.target)
        for i in np.argsort(-gain, kind="stable"):
            if not _crowded(candidates[i], taken, DISTINCT):
                reason = "could beat the laws' optimum, by their uncertainty"
                p = candidates[i]
                return Point(p, reason, acquisition=float(gain[i]), predicted=fitted.predicted(p))
        return design.fill(table, table.target, rng)


STRATEGIES: dict[str, Strategy] = {
    "multi_fidelity": MixingLaw(),
    "mixing_law": MixingLaw(),
    "random": RandomSearch(),
}
"""By the name that a job's ``strategy`` gives."""


def _crowded(p: Array, taken: Array, least: float) -> bool:
    return bool(len(taken) and np.min(0.5 * np.abs(taken - p).sum(axis=1)) < least)


def _feasible(table: Table) -> tuple[Array, Array]:
    """The target runs whose mixtures satisfy the constraints (references need not)."""
    x, y = table.at(table.target)
    allowed = table.region.contains(x, slack=1e-5)
    return x[allowed], y[allowed]


def propose(
    problem: SearchProblem, history: History, seed: int, count: int = 1
) -> tuple[Proposal, ...]:
    """The next runs; fewer than ``count``, or none, when the search has nothing left to ask.

    All rungs below the target spend their runs first. Nothing is awaited: with runs pending, the
    next point is chosen from what is known.

    Args:
        problem: What is searched.
        history: Every run so far, in any order.
        seed: The job's seed.
        count: Most proposals to return.

    Raises:
        EngineError: If an observation lacks an evaluation set.
    """
    table = Table.build(problem, history)
    fits = Fits(table)
    strategy = STRATEGIES[problem.spec.strategy]
    proposals: list[Proposal] = []
    while len(proposals) < count:
        rung = stopping.open_rung(table, fits)
        if rung is None:
            break
        rng = np.random.default_rng([seed, rung, table.issued(rung)])
        run_seed = int(rng.integers(2**31))
        point = design.opening(table, rung) or strategy.next_point(table, fits, rung, rng)
        proposals.append(_proposal(table, point, rung, run_seed))
        table = table.with_pending(point.p, rung)
    return tuple(proposals)


def _proposal(table: Table, point: Point, rung: int, run_seed: int) -> Proposal:
    predicted = {}
    if point.predicted is not None:
        predicted = {
            name: Prediction(mean=float(mean), se=float(se))
            for name, (mean, se) in zip(table.eval_sets, point.predicted, strict=True)
        }
    return Proposal(
        mixture=table.mixture(point.p),
        rung=rung,
        seed=run_seed,
        reason=point.reason,
        label=point.label,
        predicted=predicted,
        acquisition=point.acquisition,
    )
