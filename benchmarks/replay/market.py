"""Finished runs as a market: which can be bought, at which rung and cost, and the job over them.

B2, three sizes: 512 training rows at 1M, 256 at 60M, and 32 of the 64 at 1B, ``C =
RandomState(seed).permutation(64)[:32]``; costs 0.001, 0.06 and 1. B1, two sizes: 60M is the target,
``C = RandomState(seed).permutation(256)[:64]`` its rows, which can also be bought at 1M beside the
512; costs 1/60 and 1. Random weights are drawn after ``C`` from the same generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.replay.objectives import weights_of
from benchmarks.replay.tables import DOMAINS, SETS, RunTable, Tables
from cuvee.engine.space.simplex import Array
from cuvee.mixture import Mixture
from cuvee.records import EvalLoss, History, Observation, Proposal, SearchProblem
from cuvee.spec import JobSpec, Objective, ProxyRung, Stopping, StrategyName

__all__ = ["Market", "history_of", "market_of", "problem_of"]

_COSTS = {"B1": (1 / 60, 1.0), "B2": (0.001, 0.06, 1.0)}
_SIZES = {"B1": ("1m", "60m"), "B2": ("1m", "60m", "1b")}
_NEVER = Stopping(least_gain=1e-9, certainty=0.999)
"""Regret is compared at equal budgets, so a strategy that would stop sooner spends on."""

_SHAPES = {"1m": (1e6, 1e9), "60m": (6e7, 1e9), "1b": (1e9, 2.5e10)}  # parameters, tokens


@dataclass(frozen=True)
class Market:
    """The runs that can be bought: tables, costs and sizes by rung, the last the target."""

    problem: SearchProblem
    tables: tuple[RunTable, ...]
    costs: tuple[float, ...]
    sizes: tuple[str, ...]
    w: Array

    @property
    def pool(self) -> tuple[Array, ...]:
        return tuple(table.x for table in self.tables)

    def row(self, rung: int, mixture: Mixture) -> int:
        """The row that a mixture is; shares are rounded to six decimals on their way."""
        away = np.abs(self.tables[rung].x - np.array(mixture.shares(DOMAINS))).max(axis=1)
        nearest = int(np.argmin(away))
        if away[nearest] > 1e-5:
            raise AssertionError(f"not a row of rung {rung}: {mixture.root}")
        return nearest

    def buy(self, proposal: Proposal, run_id: str) -> Observation:
        losses = self.tables[proposal.rung].y[self.row(proposal.rung, proposal.mixture)]
        return _observation(run_id, proposal.rung, proposal.mixture, proposal.seed, losses)

    def regret(self, answer: Mixture) -> dict[str, float]:
        """Normalised regret, and the rank among the rows (0 = best)."""
        y = self.tables[-1].y @ self.w
        own = float(y[self.row(len(self.tables) - 1, answer)])
        scale = float(np.median(y) - y.min())
        return {"regret": (own - float(y.min())) / scale, "rank": float(np.sum(y < own))}


def market_of(
    tables: Tables,
    protocol: str,
    strategy: StrategyName,
    budget: tuple[int, int, int],
    objective: str,
    seed: int,
) -> Market:
    rng = np.random.RandomState(seed)
    large = tables.test_1b if protocol == "B2" else tables.test_60m
    rows = rng.permutation(len(large))[: len(large) // (2 if protocol == "B2" else 4)]
    w = weights_of(objective, rng)
    if protocol == "B2":
        levels = [tables.train, tables.test_60m, large.rows(rows)]
        runs = list(budget)
    else:
        both = (tables.train, tables.test_1m.rows(rows))
        cheap = RunTable(*(np.concatenate([getattr(t, f) for t in both]) for f in ("x", "y")))
        levels = [cheap, large.rows(rows)]
        runs = [budget[0], 2 * budget[2]]
    kept = [r for r, n in enumerate(runs) if n]
    return Market(
        problem_of(protocol, strategy, kept, runs, w, tables, seed),
        tuple(levels[r] for r in kept),
        tuple(_COSTS[protocol][r] for r in kept),
        tuple(_SIZES[protocol][r] for r in kept),
        w,
    )


def problem_of(
    protocol: str,
    strategy: StrategyName,
    kept: list[int],
    runs: list[int],
    w: Array,
    tables: Tables,
    seed: int,
) -> SearchProblem:
    """The job over the rungs ``kept``, with at most ``runs`` at each.

    Supply is not published: natural shares are the mean of the training mixtures.
    """
    rungs = []
    for r in kept:
        parameters, tokens = _SHAPES[_SIZES[protocol][r]]
        rungs.append(
            ProxyRung(
                runs=runs[r],
                parameters=int(parameters),
                tokens=int(tokens),
                cost=_COSTS[protocol][r],
            )
        )
    supply = np.maximum(np.round(1e12 * tables.train.x.mean(axis=0)), 1).astype(int).tolist()
    natural = Mixture.from_weights(dict(zip(DOMAINS, map(float, supply), strict=True)))
    spec = JobSpec(
        corpus="regmix",
        rungs=tuple(rungs),
        objective=Objective(weights=dict(zip(SETS, w.tolist(), strict=True))),
        strategy=strategy,
        seed=seed,
        stopping=_NEVER,
    )
    return SearchProblem(
        names=DOMAINS,
        tokens=tuple(supply),
        eval_sets=SETS,
        weights=tuple(w.tolist()),
        natural=natural,
        uniform=Mixture.uniform(DOMAINS),
        baseline=natural,
        spec=spec,
    )


def history_of(levels: Sequence[RunTable]) -> History:
    """Runs of every rung, measured, as a search would have them."""
    rows = [
        (rung, Mixture.from_shares(DOMAINS, p), losses)
        for rung, table in enumerate(levels)
        for p, losses in zip(table.x.tolist(), table.y, strict=True)
    ]
    return History(
        observations=tuple(
            _observation(f"r{i:05d}", rung, mixture, i, losses)
            for i, (rung, mixture, losses) in enumerate(rows)
        )
    )


def _observation(run_id: str, rung: int, mixture: Mixture, seed: int, losses: Array) -> Observation:
    return Observation(
        run_id=run_id,
        rung=rung,
        mixture=mixture,
        seed=seed,
        losses={name: _loss(v) for name, v in zip(SETS, losses.tolist(), strict=True)},
    )


def _loss(value: float) -> EvalLoss:
    """A loss whose bits per byte are the table's nats per token: it does not say the bytes."""
    return EvalLoss(nats=value * float(np.log(2)) * 1e6, nats_se=0.0, tokens=10**6, bytes=10**6)
