"""What is run: every protocol at the settings of the quick and of the full benchmark."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.replay.objectives import OBJECTIVES
from benchmarks.replay.outliers import outliers
from benchmarks.replay.record import Record
from benchmarks.replay.regression import AGGREGATE, regression
from benchmarks.replay.search import LADDERS, search
from benchmarks.replay.spent import Spent
from benchmarks.replay.tables import Tables, read_tables
from benchmarks.replay.timing import time_ax, time_ax_domains, time_domains, time_proposal
from benchmarks.replay.transfer import transfer
from benchmarks.work import THREADS, Done
from cuvee.engine.surrogates.registry import SURROGATES

__all__ = ["THREADS", "Task", "full", "quick", "run_task"]


@dataclass(frozen=True)
class Task:
    """A call of one protocol."""

    protocol: Callable[..., list[Record]]
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return " ".join([self.protocol.__name__, *map(str, self.arguments)])


@lru_cache(maxsize=1)
def _tables(folder: Path) -> Tables:
    return read_tables(folder)


def run_task(folder: Path, task: Task) -> Done:
    """Run in a worker process, with one thread; its records, and what it took."""
    import torch

    torch.set_num_threads(1)
    assert all(os.environ.get(name) == "1" for name in THREADS)
    given = () if task.protocol in (time_domains, time_ax_domains) else (_tables(folder),)
    begin, used = time.perf_counter(), time.process_time()
    records = task.protocol(*given, *task.arguments)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - used
    what = (records[0].protocol, records[0].method) if records else ("nothing", "nothing")
    return records, Spent(*what, str(task), round(seconds, 3), round(cpu_seconds, 3))


def quick() -> Iterator[Task]:
    """Minutes: the default surrogate and strategy, and RegMix beside them, longest first."""
    yield Task(time_ax, (500, 1, 0))
    for repeat in range(3):
        yield Task(time_proposal, (500, repeat))
    yield Task(time_domains, (100, (300, 20), 0))
    for seed in range(10):
        for method in ("multi_fidelity", "regmix"):
            yield Task(search, ("B2", method, "mean", seed))
    for n in (24, 32, 64):
        for repeat in range(6):
            yield Task(regression, ("default", n, repeat, "random"))
            yield Task(regression, ("default", n, repeat, "designed"))
    for repeat in range(3):
        yield Task(regression, ("default", 128, repeat, "random"))
    for repeat in range(5):
        yield Task(outliers, ("default", repeat))
    for repeat in range(4):
        yield Task(transfer, ("default", 512, "1b", 4, repeat))
        yield Task(transfer, ("default", 512, "1b", 8, repeat))
        yield Task(transfer, ("default", 128, "60m", 8, repeat))


_SLOW = ("admire", "multi_fidelity", "regmix")
"""Strategies whose searches take longest, longest first."""


def full() -> Iterator[Task]:
    """Every surrogate, every strategy, every setting; longest tasks first.

    So both workers end together. What repeats is as many as its figure needs: ten seeds of every
    search, and of the regressions six repeats where few runs are given and the draw of the rows
    decides.
    """
    for runs in (1000, 500, 250, 125, 62):
        yield Task(time_ax, (runs, 1, 0))
    for domains in (30, 10, 3):  # with 100 domains, or with 13 metrics, Ax takes over 20 minutes
        yield Task(time_ax_domains, (domains, (300, 20), 0))
    for method in sorted(LADDERS, key=lambda m: _SLOW.index(m) if m in _SLOW else len(_SLOW)):
        for protocol in ("B2", "B1"):
            for seed in range(10):
                for objective in OBJECTIVES:
                    yield Task(search, (protocol, method, objective, seed))
    for repeat in range(3):
        for runs in (1000, 500, 250, 125, 62):
            yield Task(time_proposal, (runs, repeat))
        for domains in (100, 30, 10, 3):
            yield Task(time_domains, (domains, (300, 20), repeat))
    for surrogate in ("default", "multi_fidelity_gp", "log_linear"):
        for k in (16, 8, 4, 0):
            for repeat in range((10 if surrogate == "default" else 6) if k else 1):
                yield Task(transfer, (surrogate, 512, "1b", k, repeat))
        for repeat in range(4):
            for low, k in ((128, 8), (64, 4)):
                yield Task(transfer, (surrogate, low, "60m", k, repeat))
    for n, repeats in ((512, 1), (256, 3), (128, 6), (64, 6), (32, 6), (24, 6)):
        for surrogate in (*SURROGATES, AGGREGATE):
            for repeat in range(repeats):
                yield Task(regression, (surrogate, n, repeat, "random"))
                if n <= 64 and surrogate in ("default", "gp"):
                    yield Task(regression, (surrogate, n, repeat, "designed"))
    for surrogate in SURROGATES:
        for repeat in range(5):
            yield Task(outliers, (surrogate, repeat))
