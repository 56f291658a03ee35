"""What is run: every protocol at the settings of the quick and of the full benchmark."""

from __future__ import annotations

import os
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
from benchmarks.replay.tables import Tables, read_tables
from benchmarks.replay.timing import time_ax, time_domains, time_proposal
from benchmarks.replay.transfer import transfer
from cuvee.engine.surrogates.registry import SURROGATES

__all__ = ["THREADS", "Task", "full", "quick", "run_task"]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Set to one before a worker starts: two workers would fight over two cores otherwise."""


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


def run_task(folder: Path, task: Task) -> list[Record]:
    """Run in a worker process, with one thread."""
    import torch

    torch.set_num_threads(1)
    assert all(os.environ.get(name) == "1" for name in THREADS)
    if task.protocol is time_domains:
        return task.protocol(*task.arguments)
    return task.protocol(_tables(folder), *task.arguments)


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


def full() -> Iterator[Task]:
    """Every surrogate, every strategy, every setting."""
    yield Task(time_ax, (500, 13, 0))
    for repeat in range(3):
        yield Task(time_ax, (500, 1, repeat))
        for runs in (62, 125, 250, 500, 1000):
            yield Task(time_proposal, (runs, repeat))
        for domains in (3, 10, 30, 100):
            yield Task(time_domains, (domains, (300, 20), repeat))
    for surrogate in (*SURROGATES, AGGREGATE):
        for n, repeats in ((24, 6), (32, 6), (64, 6), (128, 6), (256, 3), (512, 1)):
            for repeat in range(repeats):
                yield Task(regression, (surrogate, n, repeat, "random"))
                if n <= 64 and surrogate in ("default", "gp"):
                    yield Task(regression, (surrogate, n, repeat, "designed"))
    for surrogate in SURROGATES:
        for repeat in range(5):
            yield Task(outliers, (surrogate, repeat))
    for surrogate in ("default", "multi_fidelity_gp", "log_linear"):
        for repeat in range(4):
            for low, k in ((64, 4), (128, 8)):
                yield Task(transfer, (surrogate, low, "60m", k, repeat))
        for k in (0, 4, 8, 16):
            for repeat in range((20 if surrogate == "default" else 6) if k else 1):
                yield Task(transfer, (surrogate, 512, "1b", k, repeat))
    for seed in range(10):
        for protocol in ("B1", "B2"):
            for objective in OBJECTIVES:
                for method in LADDERS:
                    yield Task(search, (protocol, method, objective, seed))
