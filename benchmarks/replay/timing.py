"""How long one proposal takes: ours on growing histories, and Ax's on the same one.

Measured with one thread, from records to proposal, nothing fitted before. The history of 500 runs
is 412, 60 and 28 rows of the tables at 1M, 60M and 1B, ``RandomState(40000 + repeat)``; others take
the same parts of what they ask for. More or fewer domains are those of a synthetic log-linear
world with 13 evaluation sets. Ax (``ax-platform``) is given the same runs through its ``Client``:
all shares but one, whose sum is at most one, the size as an ordered choice, and either the
objective as one metric (which is the cheaper for it) or all 13 losses with their mean as objective.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np

from benchmarks.replay.market import history_of, problem_of
from benchmarks.replay.record import Record
from benchmarks.replay.tables import DOMAINS, SETS, RunTable, Tables
from cuvee.engine.problems import World, log_linear_world
from cuvee.engine.propose import propose
from cuvee.engine.space.simplex import Array
from cuvee.mixture import Mixture
from cuvee.records import History, Observation, Proposal

__all__ = ["REAL", "time_ax", "time_ax_domains", "time_domains", "time_proposal"]

REAL = f"{len(DOMAINS)} domains"
"""What is timed on the tables, in the records."""

_PARTS = (412, 60, 28)  # of 500


def parts_of(tables: Tables, runs: int, repeat: int) -> list[RunTable]:
    """Rows at 1M, 60M and 1B, ``runs`` in all; others for every repeat, for fits are remembered."""
    counts = [round(runs * part / sum(_PARTS)) for part in _PARTS]
    counts[0] = runs - sum(counts[1:])
    both = (tables.train, tables.test_1m)
    cheap = RunTable(*(np.concatenate([getattr(t, f) for t in both]) for f in ("x", "y")))
    rng = np.random.RandomState(40_000 + repeat)
    return [
        table.rows(rng.permutation(len(table))[:count])
        for table, count in zip((cheap, tables.test_60m, tables.test_1b), counts, strict=True)
    ]


def time_proposal(tables: Tables, runs: int, repeat: int) -> list[Record]:
    """Seconds of one proposal of the default strategy after ``runs`` runs."""
    levels = parts_of(tables, runs, repeat)
    w = np.full(len(SETS), 1 / len(SETS))
    # Room for one more run everywhere, so that the choice of the rung is part of the work.
    problem = problem_of(
        "B2", "multi_fidelity", [0, 1, 2], [2 * len(t) + 1 for t in levels], w, tables, repeat
    )
    history = history_of(levels)
    spent = _timed(lambda: propose(problem, history, seed=repeat))
    return [Record("time", REAL, "multi_fidelity", runs, repeat, spent)]


def time_domains(domains: int, runs: tuple[int, int], repeat: int) -> list[Record]:
    """Seconds of one proposal in a synthetic world with many domains and 13 evaluation sets."""
    world, observations = _measured(domains, runs, repeat)
    problem = world.problem(
        (runs[0] + 1, runs[1] + 9), strategy="multi_fidelity", costs=(0.01, 1.0)
    )
    history = History(observations=tuple(observations))
    spent = _timed(lambda: propose(problem, history, seed=repeat))
    return [Record("time", f"{domains} domains", "multi_fidelity", sum(runs), repeat, spent)]


def time_ax(tables: Tables, runs: int, metrics: int, repeat: int) -> list[Record]:
    """Seconds of Ax's next trial after the same runs; nothing where Ax is not installed.

    Args:
        tables: The run tables.
        runs: How many runs it is given.
        metrics: 1 for the mean of the losses, 13 for each loss (over 20 minutes for 500 runs).
        repeat: Seed.
    """
    trials = [
        (rung, p, np.array([y.mean()]) if metrics == 1 else y)
        for rung, table in enumerate(parts_of(tables, runs, repeat))
        for p, y in zip(table.x, table.y, strict=True)
    ]
    return _ax(REAL, DOMAINS, trials, repeat)


def time_ax_domains(domains: int, runs: tuple[int, int], repeat: int) -> list[Record]:
    """The same in the world of ``time_domains``, with the objective as one metric."""
    world, observations = _measured(domains, runs, repeat)
    trials = []
    for run in observations:
        losses = [run.losses[name].bits_per_byte for name in world.sets]
        shares = np.array(run.mixture.shares(world.names))
        trials.append((run.rung, shares, np.array([world.weights @ losses])))
    return _ax(f"{domains} domains", world.names, trials, repeat)


def _measured(domains: int, runs: tuple[int, int], repeat: int) -> tuple[World, list[Observation]]:
    """A log-linear world with 13 evaluation sets, fewer where it has fewer domains, and runs."""
    rng = np.random.default_rng(repeat)
    optimum = rng.dirichlet(np.full(domains, 0.3))
    sets = np.ones(min(13, domains))
    world = log_linear_world(rng, optimum, noise=(0.01, 0.01), weights=sets)
    observations: list[Observation] = []
    for rung, count in enumerate(runs):
        for shares in rng.dirichlet(np.full(domains, 0.5), size=count):
            mixture = Mixture.from_shares(world.names, shares.tolist())
            run = Proposal(mixture=mixture, rung=rung, seed=0, reason="given")
            observations.append(world.observe(run, f"r{len(observations):05d}"))
    return world, observations


def _ax(
    what: str, domains: Sequence[str], trials: Sequence[tuple[int, Array, Array]], repeat: int
) -> list[Record]:
    """Seconds of Ax's next trial after runs given as rung, shares and losses."""
    if find_spec("ax") is None:
        return []
    metrics = len(trials[0][2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spent = _next_trial(domains, trials, repeat)
    method = f"Ax, {metrics} metric{'s' * (metrics > 1)}"
    return [Record("time", what, method, len(trials), repeat, spent)]


def _next_trial(
    domains: Sequence[str], trials: Sequence[tuple[int, Array, Array]], repeat: int
) -> dict[str, float]:
    logging.disable(logging.WARNING)  # Ax logs every trial, at levels that it sets itself
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    free = domains[:-1]
    rungs = sorted({rung for rung, _, _ in trials})
    client = Client(random_seed=repeat)
    client.configure_experiment(
        parameters=[
            *(
                RangeParameterConfig(name=d, bounds=(0.0, 1.0), parameter_type="float")
                for d in free
            ),
            ChoiceParameterConfig(name="rung", values=rungs, parameter_type="int", is_ordered=True),
        ],
        parameter_constraints=[f"{' + '.join(free)} <= 1"],
    )
    names = [f"loss{i}" for i in range(len(trials[0][2]))]
    client.configure_optimization(" ".join(f"- {1 / len(names)}*{name}" for name in names))
    client.configure_generation_strategy(initialization_budget=0)
    for rung, p, losses in trials:
        shares = dict(zip(free, p[:-1].tolist(), strict=True))
        trial = client.attach_trial({**shares, "rung": rung})
        client.complete_trial(trial, raw_data=dict(zip(names, losses.tolist(), strict=True)))
    try:
        return _timed(lambda: client.get_next_trials(max_trials=1))
    finally:
        logging.disable(logging.NOTSET)


def _timed(call: Callable[[], object]) -> dict[str, float]:
    """Seconds by the clock, and of the processor: the fairer figure on a machine that is shared."""
    begin, used = time.perf_counter(), time.process_time()
    call()
    return {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - used}
