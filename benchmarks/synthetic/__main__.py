"""Regret against cost on problems whose optimum is known, for every strategy.

    python -m benchmarks.synthetic [--corpora DIR] [--quick] [--json FILE] [--jobs N] [--seeds N]

Regret is ``(f(answer) - f(optimum)) / (median f - f(optimum))`` with the median over 256 uniform
mixtures: 0 the best there is, 1 a mixture drawn blindly. ``f`` is the true objective. DIR holds one
prepared corpus, for the n-gram models of real text; without it that case is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.loop import spend
from benchmarks.provenance import provenance
from benchmarks.replay.plan import THREADS
from benchmarks.replay.record import Record
from benchmarks.replay.summary import by_n
from benchmarks.synthetic.cases import CASES, TEXT, with_text
from cuvee.spec import StrategyName

Task = tuple[str, StrategyName, int]
"""Case, strategy, seed."""

_QUICK = ("optimum on a face, 8 domains", "steep faces, 6 domains", "useless low rung, 6 domains")


def search(corpora: Path | None, task: Task) -> list[Record]:
    """One search in a worker process, judged at every budget."""
    import torch

    torch.set_num_threads(1)
    name, strategy, seed = task
    case = (CASES if corpora is None else with_text(corpora))[name]
    world = case.build(seed)
    problem = world.problem(case.runs, strategy=strategy, seed=seed, costs=case.costs)
    blind = np.random.default_rng(seed).dirichlet(np.ones(len(world.names)), size=256)
    best = world.objective(world.optimum)
    scale = float(np.median([world.objective(p) for p in blind])) - best
    found = []
    for answer in spend(problem, case.costs, case.budgets, seed, world.observe):
        above = world.objective(np.array(answer.mixture.shares(world.names))) - best
        values = {"regret": above / scale, "bits_per_byte": above, "spent": answer.spent}
        values |= {f"runs_{rung}": float(n) for rung, n in enumerate(answer.runs)}
        found.append(Record("synthetic", name, strategy, answer.budget, seed, values))
    return found


def run(corpora: Path | None, tasks: Sequence[Task], jobs: int) -> list[Record]:
    """Searches in worker processes of one thread each; records in the order of the tasks."""
    os.environ.update(dict.fromkeys(THREADS, "1"))
    begin = time.monotonic()
    found: dict[int, list[Record]] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started = {pool.submit(search, corpora, task): i for i, task in enumerate(tasks)}
        for future in as_completed(started):
            found[started[future]] = future.result()
            passed = time.monotonic() - begin
            line = f"{len(found)}/{len(tasks)} searches, {passed:.0f} s"
            print(f"\r{line:<60}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [record for _, records in sorted(found.items()) for record in records]


def main(argv: list[str] | None = None) -> None:
    """Run every search and print a table per problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, help="folder that holds one prepared corpus")
    parser.add_argument("--quick", action="store_true", help="three problems, three strategies")
    parser.add_argument("--json", type=Path, help="write every record to this file")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, one thread each")
    parser.add_argument("--seeds", type=int, help="searches per problem and strategy")
    parser.add_argument("--only", help="only the problems whose name holds this text")
    args = parser.parse_args(argv)
    names = _QUICK if args.quick else tuple(CASES) + ((TEXT,) if args.corpora else ())
    strategies = ("multi_fidelity", "regmix", "random") if args.quick else get_args(StrategyName)
    tasks = [
        (name, strategy, seed)
        for seed in range(args.seeds or (5 if args.quick else 20))
        for name in names
        for strategy in strategies
        if args.only is None or args.only in name
    ]
    begin = time.monotonic()
    records = run(args.corpora, tasks, args.jobs)
    seconds = time.monotonic() - begin
    if args.json:
        content = {
            "benchmark": "synthetic",
            **provenance(),
            "seconds": round(seconds, 1),
            "records": [asdict(record) for record in records],
        }
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    for name in dict.fromkeys(task[0] for task in tasks):
        here = [r for r in records if r.objective == name]
        print(f"## {name}: median / mean regret by budget\n")
        print(by_n(here, ("regret", "regret"), (np.median, np.mean)))
    print(f"{len(tasks)} searches in {seconds:.0f} s with {args.jobs} workers of one thread each")
    if not args.corpora and not args.quick:
        print(f"Left out, for want of --corpora: {TEXT}")


if __name__ == "__main__":
    main()
