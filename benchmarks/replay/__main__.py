"""The replay benchmark: regression and search on finished runs, ours beside every peer.

    python -m benchmarks.replay --data DIR [--quick] [--json FILE] [--jobs N]

DIR holds RegMix's eight public tables. Prints the bars and the tables behind them in Markdown;
``--quick`` runs what decides the bars and exits with 1 when one that is asserted fails. With
``--json`` a run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.replay import plan, summary
from benchmarks.replay.goals import goals_json
from benchmarks.replay.spent import spent_table
from benchmarks.replay.tables import TablesError, read_tables
from benchmarks.work import do_all, kept, write


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
    with kept(args.json) as before:
        call = partial(plan.run_task, args.data)
        done = do_all(call, tasks, [str(task) for task in tasks], args.jobs, before)
        records = [record for found, _ in done for record in found]
        if args.json:
            judged, goals = summary.judged(records), goals_json(records)
            write(args.json, "replay", done, bars=judged, goals=goals)
    seconds = time.monotonic() - begin
    print(summary.bars_table(records))
    print(summary.tables(records))
    print(spent_table([spent for _, spent in done]))
    failed = summary.failed(records) if args.quick else []
    print(f"{len(tasks)} tasks in {seconds:.0f} s with {args.jobs} workers of one thread each")
    if failed:
        print("below the asserted bar: " + "; ".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
