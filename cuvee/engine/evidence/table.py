"""A problem and its history as arrays in one canonical order.

Two histories that hold the same runs must give the same bits, and renaming or reordering domains
must not change the answer. So domains are ordered by their properties before their names, and runs
by what they measured before their ids; floating-point sums then add the same numbers in the same
order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from cuvee.engine.cost import relative
from cuvee.engine.evidence.reuse import Earlier, express
from cuvee.engine.goal import Goal
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.surrogates.base import Runs
from cuvee.errors import EngineError
from cuvee.mixture import Mixture, largest_remainder
from cuvee.records import History, Observation, PendingRun, SearchProblem

__all__ = ["SAME", "Table", "same"]

SAME = 2e-6
"""Shares closer than this are one share: proposals are rounded to six decimals."""

_LEAST_LOSS = 1e-6  # bits per byte, below any measurement: a loss of zero has no logarithm
_SINGLE = 1e-6  # a region narrower than this is one mixture


@dataclass(frozen=True)
class Table:
    """Arrays over domains (canonical order), evaluation sets (canonical order) and runs.

    Attributes:
        problem: What is searched.
        domains: Domain names in canonical order, ``m`` of them.
        eval_sets: Evaluation sets in canonical order, ``E`` of them.
        goal: The objective over ``eval_sets``.
        region: The feasible region, domains in canonical order.
        shares: Mixtures of the search's observations, shape ``(K, m)``, all rungs.
        losses: What they measured, bits per byte, shape ``(K, E)``.
        rung: Their rungs, shape ``(K,)``.
        ids: Their ids, to name them by; nothing depends on them.
        busy: Mixtures pending or failed, shape ``(B, m)``.
        busy_rung: Their rungs, shape ``(B,)``.
        waits: Which of them are pending, shape ``(B,)``.
        cost: Of one run at each rung, in units of a target run, shape ``(R,)``.
        pool: By rung, the only mixtures that may be run, shapes ``(n, m)``: a replay over finished
            runs; None for a search, which may run any feasible mixture.
        earlier: Runs of earlier jobs, told in this job's domains, where the job starts warm.
    """

    problem: SearchProblem
    domains: tuple[str, ...]
    eval_sets: tuple[str, ...]
    goal: Goal
    region: Region
    shares: Array
    losses: Array
    rung: npt.NDArray[np.intp]
    ids: tuple[str, ...]
    busy: Array
    busy_rung: npt.NDArray[np.intp]
    waits: npt.NDArray[np.bool_]
    cost: Array
    pool: tuple[Array, ...] | None = None
    earlier: Earlier | None = None

    @classmethod
    def build(
        cls, problem: SearchProblem, history: History, pool: Sequence[Array] | None = None
    ) -> Table:
        """Arrange the search runs of a history (verification runs are not the search's business).

        Args:
            problem: What is searched.
            history: Every run so far.
            pool: By rung, the only mixtures that may be run, shapes ``(n, m)``, domains in the
                problem's order.

        Raises:
            EngineError: If an observation lacks an evaluation set or has a rung that is not there.
            SpecError: If a run's mixture has a domain that is not the problem's.
        """
        feasible = problem.feasible()
        count = len(problem.names)
        order = sorted(
            range(count),
            key=lambda j: (
                problem.tokens[j],
                problem.baseline.root.get(problem.names[j], 0.0),
                feasible.lower[j],
                feasible.upper[j],
                problem.names[j],
            ),
        )
        domains = tuple(problem.names[j] for j in order)
        sets = sorted(zip(problem.weights, problem.eval_sets, strict=True))
        eval_sets = tuple(name for _, name in sets)
        goal = _goal(problem, eval_sets, np.array([w for w, _ in sets], dtype=np.float64))

        def row(mixture: Mixture) -> tuple[float, ...]:
            return tuple(mixture.shares(domains))

        def measured(observation: Observation) -> tuple[float, ...]:
            missing = sorted(set(eval_sets) - set(observation.losses))
            if missing:
                raise EngineError(f"run {observation.run_id} has no loss for {missing}")
            return tuple(max(observation.losses[e].bits_per_byte, _LEAST_LOSS) for e in eval_sets)

        rungs = len(problem.rungs)
        every: tuple[Observation | PendingRun, ...]
        every = (*history.observations, *history.pending, *history.failed)
        strange = sorted({run.run_id for run in every if not 0 <= run.rung < rungs})
        if strange:
            raise EngineError(f"runs {strange} are at a rung that the job does not have")
        counts = Counter(run.run_id for run in every)
        twice = sorted(run for run, count in counts.items() if count > 1)
        if twice:
            raise EngineError(f"runs {twice} are in the history more than once")
        seen = sorted(
            (o.rung, row(o.mixture), o.seed, measured(o), o.run_id)
            for o in history.observations
            if o.purpose == "search"
        )
        busy = sorted(
            (r.rung, row(r.mixture), r.seed, waits)
            for runs, waits in ((history.pending, True), (history.failed, False))
            for r in runs
            if r.purpose == "search"
        )
        return cls(
            problem,
            domains,
            eval_sets,
            goal,
            Region.of(feasible, order),
            np.array([s[1] for s in seen], dtype=np.float64).reshape(-1, count),
            np.array([s[3] for s in seen], dtype=np.float64).reshape(-1, len(eval_sets)),
            np.array([s[0] for s in seen], dtype=np.intp),
            tuple(s[4] for s in seen),
            np.array([b[1] for b in busy], dtype=np.float64).reshape(-1, count),
            np.array([b[0] for b in busy], dtype=np.intp),
            np.array([b[3] for b in busy], dtype=bool),
            relative(problem, history),
            None if pool is None else tuple(_sorted_rows(rows[:, order]) for rows in pool),
            express(problem, history, domains, eval_sets) if history.earlier else None,
        )

    @property
    def w(self) -> Array:
        """Linear weights of the objective, shape ``(E,)``, sum 1."""
        return self.goal.w

    @property
    def runs(self) -> Runs:
        """Every measured run of the search, and those of earlier jobs, for a surrogate.

        The error of the held-out sample is no noise of these runs: all of a rung are scored on the
        same text, so it moves every loss alike and no difference.
        """
        own = Runs.of(self.shares, self.losses, self.rung, rungs=len(self.problem.rungs))
        return own if self.earlier is None else self.earlier.after(own)

    @property
    def pending(self) -> npt.NDArray[np.intp]:
        """How many runs of each rung are pending, shape ``(R,)``."""
        return np.bincount(self.busy_rung[self.waits], minlength=len(self.problem.rungs))

    @property
    def target(self) -> int:
        return self.problem.target

    @property
    def single(self) -> bool:
        """Whether the constraints allow a single mixture."""
        return self.pool is None and self.region.width < _SINGLE

    def issued(self, rung: int) -> int:
        """Runs spent at a rung: measured, pending or failed."""
        return int(np.sum(self.rung == rung) + np.sum(self.busy_rung == rung))

    def left(self, rung: int) -> int:
        """Runs that the search may still start at a rung."""
        allowed = max(0, self.problem.rungs[rung].runs - self.issued(rung))
        return allowed if self.pool is None else min(allowed, len(self.untaken(rung)))

    def untaken(self, rung: int) -> Array:
        """The pool's mixtures that were not yet tried at a rung, shape ``(n, m)``.

        Raises:
            EngineError: If there is no pool.
        """
        if self.pool is None:
            raise EngineError("only a replay has a pool of mixtures")
        rows, taken = self.pool[rung], self.taken(rung)
        if len(taken) == 0:
            return rows
        near, _ = cKDTree(taken).query(rows, p=np.inf, distance_upper_bound=2 * SAME)
        return np.asarray(rows[near > SAME])

    def at(self, rung: int) -> tuple[Array, Array]:
        """Mixtures ``(K, m)`` and losses ``(K, E)`` measured at a rung."""
        here = self.rung == rung
        return self.shares[here], self.losses[here]

    def taken(self, rung: int) -> Array:
        """Every mixture already tried or waiting at a rung, shape ``(n, m)``."""
        return np.concatenate([self.shares[self.rung == rung], self.busy[self.busy_rung == rung]])

    def vector(self, mixture: Mixture) -> Array:
        """A mixture as shares in canonical order, shape ``(m,)``."""
        return np.array(mixture.shares(self.domains), dtype=np.float64)

    def mixture(self, p: Array) -> Mixture:
        """Shares in canonical order as a mixture over the problem's names, in their order.

        Shares are rounded to six decimals when that keeps them feasible, for people read them.
        """
        for label in ("baseline", "natural", "uniform"):
            reference = self.problem.reference(label)
            if np.all(np.abs(self.vector(reference) - p) <= SAME):
                return reference  # exactly, so that it is recognised by its digest
        exact = np.maximum(p, 0.0).tolist()
        rounded = [n / 1e6 for n in largest_remainder(exact, 1_000_000)]
        for shares in (rounded, exact):
            by_name = dict(zip(self.domains, shares, strict=True))
            found = Mixture.from_shares(
                self.problem.names, [by_name[name] for name in self.problem.names]
            )
            if not self.problem.feasible().violations(found):
                break
        return found

    def with_pending(self, p: Array, rung: int) -> Table:
        """This table with one more run waiting."""
        return replace(
            self,
            busy=np.concatenate([self.busy, p[None, :]]),
            busy_rung=np.append(self.busy_rung, rung),
            waits=np.append(self.waits, True),
        )

    def references(self) -> dict[str, Array]:
        """Baseline, natural and uniform, each once: equal mixtures keep their first name."""
        found: dict[str, Array] = {}
        digests: set[str] = set()
        for label in ("baseline", "natural", "uniform"):
            mixture = self.problem.reference(label)
            if mixture.digest() not in digests:
                digests.add(mixture.digest())
                found[label] = self.vector(mixture)
        return found


def _goal(problem: SearchProblem, eval_sets: tuple[str, ...], w: Array) -> Goal:
    objective = problem.spec.objective
    reference = parts = None
    if objective.reference is not None:
        reference = np.array([objective.reference.get(e, np.inf) for e in eval_sets])
    if objective.parts is not None:
        scaled = [Mixture.from_weights(objective.parts[name]).root for name in objective.parts]
        parts = np.array([[part.get(e, 0.0) for e in eval_sets] for part in scaled])
    return Goal(w, reference, parts)


def _sorted_rows(rows: Array) -> Array:
    return np.asarray(rows[np.lexsort(rows.T[::-1])], dtype=np.float64)


def same(p: Array, others: Array) -> npt.NDArray[np.bool_]:
    """Which rows of ``others`` are the mixture ``p``."""
    return np.asarray(np.all(np.abs(others - p) <= SAME, axis=1), dtype=bool)
