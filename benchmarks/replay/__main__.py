"""The replay benchmark: regression and search on finished runs, ours beside every peer.

    python -m benchmarks.replay --data DIR [--quick] [--json FILE] [--jobs N]

DIR holds RegMix's eight public tables. Prints the bars and the tables behind them in Markdown;
``--quick`` runs what decides the bars and exits with 1 when one that is asserted fails.
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

from benchmarks.provenance import provenance
from benchmarks.replay import plan, summary
from benchmarks.replay.goals import goals_json
from benchmarks.replay.plan import Task
from benchmarks.replay.record import Record
from benchmarks.replay.spent import Spent, spent_table
from benchmarks.replay.tables import TablesError, read_tables


def run(folder: Path, tasks: Sequence[Task], jobs: int) -> tuple[list[Record], list[Spent]]:
    """Run tasks in worker processes of one thread each.

    Returns:
        Records, and what every task took, both in the order of the tasks.
    """
    os.environ.update(dict.fromkeys(plan.THREADS, "1"))
    begin = time.monotonic()
    found: dict[int, tuple[list[Record], Spent]] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started = {pool.submit(plan.run_task, folder, t): i for i, t in enumerate(tasks)}
        for future in as_completed(started):
            task = tasks[started[future]]
            try:
                found[started[future]] = future.result()
            except BaseException as error:
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(f"{task}: {error}") from error
            passed = time.monotonic() - begin
            line = f"{len(found)}/{len(tasks)} tasks, {passed:.0f} s, {task}"
            print(f"\r{line:<100.100}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    done = [found[i] for i in range(len(tasks))]
    return [record for records, _ in done for record in records], [spent for _, spent in done]


def write(path: Path, records: Sequence[Record], spent: Sequence[Spent], seconds: float) -> None:
    """One JSON object: provenance, the bars and goals, every record, and what every task took."""
    content = {
        "benchmark": "replay",
        **provenance(),
        "seconds": round(seconds, 1),
        "bars": summary.judged(records),
        "goals": goals_json(records),
        "records": [asdict(record) for record in records],
        "tasks": [asdict(one) for one in spent],
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run and print; 1 when an asserted bar fails under ``--quick``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of RegMix's tables")
    parser.add_argument("--quick", action="store_true", help="minutes, and assert the bars")
    parser.add_argument("--json", type=Path, help="write every record to this file")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, one thread each")
    parser.add_argument("--only", help="only the tasks whose description holds this text")
    args = parser.parse_args(argv)
    try:
        read_tables(args.data)
    except TablesError as error:
        parser.error(str(error))
    tasks = list(plan.quick() if args.quick else plan.full())
    if args.only:
        tasks = [task for task in tasks if args.only in str(task)]
    begin = time.monotonic()
    records, spent = run(args.data, tasks, args.jobs)
    seconds = time.monotonic() - begin
    if args.json:
        write(args.json, records, spent, seconds)
    print(summary.bars_table(records))
    print(summary.tables(records))
    print(spent_table(spent))
    failed = summary.failed(records) if args.quick else []
    print(f"{len(tasks)} tasks in {seconds:.0f} s with {args.jobs} workers of one thread each")
    if failed:
        print("below the asserted bar: " + "; ".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
