"""Regret against cost on problems whose optimum is known, for every strategy.

    python -m benchmarks.synthetic [--corpora DIR] [--quick] [--json FILE] [--jobs N] [--seeds N]

Regret is ``(f(answer) - f(optimum)) / (median f - f(optimum))`` with the median over 256 uniform
mixtures: 0 the best there is, 1 a mixture drawn blindly. ``f`` is the true objective. DIR holds one
prepared corpus, for the n-gram models of real text; without it that case is left out. With
``--json`` a run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import get_args

from benchmarks.synthetic.cases import CASES, TEXT
from benchmarks.synthetic.search import Task, run_task
from benchmarks.synthetic.summary import overview, problem_table, seconds_table
from benchmarks.work import do_all, kept, write
from cuvee.spec import StrategyName

_QUICK = ("optimum on a face, 8 domains", "steep faces, 3 domains", "useless low rung, 6 domains")
_SLOW: tuple[StrategyName, ...] = ("multi_fidelity", "admire", "regmix")  # longest first


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
    every: tuple[StrategyName, ...] = get_args(StrategyName)
    strategies = (*_SLOW, *(s for s in every if s not in _SLOW))
    if args.quick:
        strategies = ("multi_fidelity", "regmix", "random")
    tasks: list[Task] = [
        (name, strategy, seed)
        for strategy in strategies
        for name in names
        for seed in range(args.seeds or (5 if args.quick else 20))
        if args.only is None or args.only in name
    ]
    begin = time.monotonic()
    with kept(args.json) as before:
        call, words = partial(run_task, args.corpora), [", ".join(map(str, t)) for t in tasks]
        done = do_all(call, tasks, words, args.jobs, before)
        if args.json:
            write(args.json, "synthetic", done)
    seconds = time.monotonic() - begin
    records = [record for found, _ in done for record in found]
    print(overview(records))
    for name in dict.fromkeys(task[0] for task in tasks):
        print(problem_table([r for r in records if r.objective == name]))
    print(seconds_table([spent for _, spent in done]))
    print(f"{len(tasks)} searches in {seconds:.0f} s with {args.jobs} workers of one thread each")
    if not args.corpora and not args.quick:
        print(f"Left out, for want of --corpora: {TEXT}")


if __name__ == "__main__":
    main()
