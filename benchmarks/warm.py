"""Does a search that starts from an earlier job's runs need fewer of its own?

    python -m benchmarks.warm [--json FILE] [--jobs N] [--seeds N] [--first N] [--only TEXT]

A finished job of 40 cheap and 16 target runs comes first. Then its data changes, and a new job
searches: *cold*, and *warm* from the old one's runs. Every world is a power law (``problems.py``)
with noise 0.01, and regret is ``(f(answer) - f(optimum)) / (median f - f(optimum))``, the median
over 256 uniform mixtures. *Short* jobs have 15 cheap and 6 target runs, three eighths.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from benchmarks.loop import spend
from benchmarks.provenance import provenance
from benchmarks.replay.plan import THREADS
from benchmarks.replay.record import Record
from benchmarks.replay.summary import by_n
from cuvee.engine.answer.fit_records import reuse_summaries
from cuvee.engine.evidence.reuse import alarms
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import World, power_world, run_search
from cuvee.engine.surrogates.fitted import Fits
from cuvee.records import EarlierRun, History, Observation, Proposal, SearchProblem
from cuvee.spec import WarmStart

__all__ = ["CASES", "Change", "earlier_runs", "search"]

_COSTS = (0.01, 1.0)
_FULL, _SHORT = (40, 16), (15, 6)
_BUDGETS = (2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 13.0, 16.4)
_SHORT_COST = 6.15
_NOISE = (0.01, 0.01)
_DOMAINS = 6  # of the new job
_SHARE = 0.6  # of the domain that is split, which its first half has
_APART = 0.3  # how much more than the whole a half is worth to a set, at most
_BLIND = 256

Task = tuple[str, str, int]
"""Case, method, seed."""

METHODS = ("cold", "warm", "short cold", "short warm")


@dataclass(frozen=True)
class Change:
    """What there was, what there is, and what became of the domains.

    Attributes:
        before: The earlier job's world.
        now: The new job's.
        splits: As in ``WarmStart``.
    """

    before: World
    now: World
    splits: dict[str, dict[str, float]] = field(default_factory=dict)


def _same(rng: np.random.Generator) -> Change:
    world = power_world(rng, _DOMAINS, noise=_NOISE)
    return Change(world, world)


def _split(rng: np.random.Generator) -> Change:
    """``d0`` is cut up; its halves together are worth to each set what the whole was."""
    old = power_world(rng, _DOMAINS - 1, noise=_NOISE)
    last, rest = len(old.names), _SHARE / (1 - _SHARE)
    sets = [*range(last), 0]  # the second half has a set like the whole's
    more = rng.uniform(-_APART, _APART, size=len(sets))
    more[0], more[last] = _APART, -_APART  # each half is worth most to its own set
    t = old.t[:, sets]
    halves = t[:, :, :1] * (1 + more[:, None]), t[:, :, :1] * (1 - rest * more[:, None])
    w = np.append(old.weights, old.weights[0] * (1 - _SHARE))
    w[0] *= _SHARE
    tokens = (int(old.tokens[0] * _SHARE), *old.tokens[1:], int(old.tokens[0] * (1 - _SHARE)))
    now = replace(
        old,
        names=(*old.names, f"d{last}"),
        c=old.c[:, sets],
        t=np.concatenate([halves[0], t[:, :, 1:], halves[1]], axis=2),
        exponent=old.exponent[:, sets],
        weights=w,
        tokens=tokens,
    )
    return Change(old, _solved(now), {"d0": {"d0": _SHARE, f"d{last}": 1 - _SHARE}})


def _added(rng: np.random.Generator) -> Change:
    now = power_world(rng, _DOMAINS, noise=_NOISE)
    return Change(_without_last(now), now)


def _removed(rng: np.random.Generator) -> Change:
    old = power_world(rng, _DOMAINS + 1, noise=_NOISE)
    return Change(old, _solved(_without_last(old)))


def _altered(rng: np.random.Generator) -> Change:
    """The text of the domain that matters most is other text now, under the same name."""
    now = power_world(rng, _DOMAINS, noise=_NOISE)
    return _with_other_text(now, int(np.argmax(now.optimum)))


def _another_altered(rng: np.random.Generator) -> Change:
    """The same of the domain that matters least: a search gives it little and hardly tries it."""
    now = power_world(rng, _DOMAINS, noise=_NOISE)
    return _with_other_text(now, int(np.argmin(now.optimum)))


def _with_other_text(now: World, j: int) -> Change:
    """Domain ``j`` helped each set before as much as it now helps another."""
    t = now.t.copy()
    t[:, :, j] = np.roll(t[:, :, j], 1, axis=1)
    return Change(replace(now, t=t), now)


CASES: dict[str, Callable[[np.random.Generator], Change]] = {
    "same corpus": _same,
    "one domain split": _split,
    "one domain added": _added,
    "one domain removed": _removed,
    "one domain altered": _altered,
    "another altered": _another_altered,
}


def _without_last(world: World) -> World:
    """The world without its last domain and that domain's evaluation set."""
    w = world.weights[:-1] / world.weights[:-1].sum()
    return replace(
        world,
        names=world.names[:-1],
        c=world.c[:, :-1],
        t=world.t[:, :-1, :-1],
        exponent=world.exponent[:, :-1],
        weights=w,
        tokens=world.tokens[:-1],
    )


def _solved(world: World) -> World:
    """The world with its optimum: a power law's objective is convex."""
    m = len(world.names)
    found = minimize(
        world.objective,
        np.full(m, 1 / m),
        jac=world.gradient,
        bounds=[(0.0, 1.0)] * m,
        constraints=[{"type": "eq", "fun": lambda p: p.sum() - 1, "jac": lambda p: np.ones(m)}],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    best = np.clip(found.x, 0, None)
    return replace(world, optimum=np.asarray(best / best.sum()))


def earlier_runs(change: Change, seed: int) -> tuple[EarlierRun, ...]:
    """The runs of a finished job on the data as it was."""
    problem = change.before.problem(_FULL, strategy="multi_fidelity", seed=seed, costs=_COSTS)
    return tuple(
        EarlierRun(
            source="before",
            run_id=run.run_id,
            rung=problem.rungs[run.rung],
            same_corpus=change.before is change.now,
            mixture=run.mixture,
            seed=run.seed,
            losses=run.losses,
        )
        for run in run_search(change.before, problem, seed).observations
    )


def _job(change: Change, runs: tuple[int, ...], seed: int) -> SearchProblem:
    problem = change.now.problem(runs, strategy="multi_fidelity", seed=seed, costs=_COSTS)
    warm = WarmStart(jobs=("before",), splits=change.splits)
    spec = problem.spec.model_copy(update={"warm_start": warm})
    return problem.model_copy(update={"spec": spec})


@dataclass
class _Market:
    """Sells runs of a world, and keeps what was bought."""

    world: World
    bought: list[Observation] = field(default_factory=list)

    def buy(self, proposal: Proposal, run_id: str) -> Observation:
        """What a run measures."""
        self.bought.append(self.world.observe(proposal, run_id))
        return self.bought[-1]


def search(name: str, seed: int, methods: Sequence[str] = METHODS) -> list[Record]:
    """The searches of one case and seed, each judged at every budget."""
    import torch

    torch.set_num_threads(1)
    change = CASES[name](np.random.default_rng(seed))
    world = change.now
    blind = np.random.default_rng(seed).dirichlet(np.ones(len(world.names)), size=_BLIND)
    best = world.objective(world.optimum)
    scale = float(np.median([world.objective(p) for p in blind])) - best
    before = earlier_runs(change, seed + 50_000)
    found = []
    for method in methods:
        short = method.startswith("short")
        problem = _job(change, _SHORT if short else _FULL, seed)
        earlier = before if method.endswith("warm") else ()
        market = _Market(world)
        begin = time.monotonic()
        budgets = (_SHORT_COST,) if short else _BUDGETS
        answers = spend(problem, _COSTS, budgets, seed, market.buy, earlier=earlier)
        for answer in answers:
            above = world.objective(np.array(answer.mixture.shares(world.names))) - best
            values = {"regret": above / scale, "bits_per_byte": above, "spent": answer.spent}
            values |= {f"runs_{rung}": float(n) for rung, n in enumerate(answer.runs)}
            found.append(Record("warm", name, method, answer.budget, seed, values))
        values = {"seconds": time.monotonic() - begin}
        if earlier:
            values |= _reuse(problem, History(observations=tuple(market.bought), earlier=earlier))
        found[-1].values.update(values)
    return found


def _reuse(problem: SearchProblem, history: History) -> dict[str, float]:
    """How many earlier runs were used at the end, which part as own, how far they were trusted."""
    table = Table.build(problem, history)
    model = Fits(table).model
    assert model is not None
    (summary,) = reuse_summaries(table, model)
    values = {"used": float(summary.used), "dropped": float(summary.dropped)}
    values["alarms"] = float(len(alarms((summary,))))
    values["joined"] = float(np.mean(model.runs.task[len(table.shares) :] == 0))
    if summary.trust is not None:
        values["trust"] = summary.trust
    return values


def run(tasks: Sequence[tuple[str, int]], jobs: int) -> list[Record]:
    """Cases and seeds in worker processes of one thread each."""
    os.environ.update(dict.fromkeys(THREADS, "1"))
    found: list[Record] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started = [pool.submit(search, *task) for task in tasks]
        for done, future in enumerate(as_completed(started), 1):
            found += future.result()
            print(f"\r{done}/{len(tasks)} cases", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return sorted(found, key=lambda r: (list(CASES).index(r.objective), r.seed))


def summary(records: Sequence[Record]) -> str:
    """A row per case: regret at the end of each job, and what was learned of the earlier one."""
    head = [
        "",
        "seeds",
        *(f"{m}, regret" for m in METHODS),
        "warm reaches cold at",
        "trust",
        "alarms",
    ]
    lines = [head, ["---"] * len(head)]
    for case in dict.fromkeys(r.objective for r in records):
        here = [r for r in records if r.objective == case]
        row = [case, str(len({r.seed for r in here}))]
        for method in METHODS:
            ends = [r.values for r in here if r.method == method and "seconds" in r.values]
            if not ends:
                row.append("–")
                continue
            regret = [v["regret"] for v in ends]
            runs = np.mean([v["runs_0"] + v["runs_1"] for v in ends])
            row.append(f"{np.median(regret):.3f} / {np.mean(regret):.3f} ({runs:.0f} runs)")
        row.append(_reached(here))
        trust = [r.values["trust"] for r in here if "trust" in r.values]
        row.append(f"{np.median(trust):.2f}" if trust else "–")
        alarm = [r.values["alarms"] for r in here if "alarms" in r.values]
        row.append(f"{np.sum(alarm):.0f} of {len(alarm)}")
        lines.append(row)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _reached(records: Sequence[Record]) -> str:
    """The share of the cold search's cost from which the warm one's mean regret is no greater."""

    def at(method: str, budget: float, value: str) -> float:
        found = [r.values[value] for r in records if (r.method, r.n) == (method, budget)]
        return float(np.mean(found)) if found else np.inf

    last = _BUDGETS[-1]
    goal, cost = at("cold", last, "regret"), at("cold", last, "spent")
    reached = None
    for budget in reversed(_BUDGETS):
        if not at("warm", budget, "regret") <= goal < np.inf:
            break
        reached = f"{at('warm', budget, 'spent') / cost:.0%}"
    return reached or "–"


def main(argv: list[str] | None = None) -> None:
    """Run every case and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write every record to this file")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, one thread each")
    parser.add_argument("--seeds", type=int, default=10, help="worlds per case")
    parser.add_argument("--first", type=int, default=100, help="the first seed")
    parser.add_argument("--only", help="only the cases whose name holds this text")
    args = parser.parse_args(argv)
    seeds = range(args.first, args.first + args.seeds)
    tasks = [(c, s) for s in seeds for c in CASES if args.only is None or args.only in c]
    begin = time.monotonic()
    records = run(tasks, args.jobs)
    seconds = time.monotonic() - begin
    if args.json:
        content = {
            "benchmark": "warm",
            **provenance(),
            "seconds": round(seconds, 1),
            "records": [asdict(record) for record in records],
        }
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    print("## Regret when a job ends: median / mean\n")
    print(summary(records))
    for case in dict.fromkeys(r.objective for r in records):
        here = [r for r in records if r.objective == case]
        print(f"## {case}: median / mean regret by cost, in target runs\n")
        print(by_n(here, ("regret", "regret"), (np.median, np.mean)))
    print(f"{len(tasks)} cases in {seconds:.0f} s with {args.jobs} workers of one thread each")


if __name__ == "__main__":
    main()
