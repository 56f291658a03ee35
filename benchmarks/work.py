"""The tasks of a benchmark in worker processes, each kept on disk as soon as it is done.

A full run takes most of an hour, so one that was cut short goes on where it stopped:
``FILE.partial`` has a line of JSON for every task done, and before them the commit that they were
measured at. It is removed once the whole is written.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from benchmarks.provenance import provenance
from benchmarks.replay.record import Record
from benchmarks.replay.spent import Spent

__all__ = ["THREADS", "Done", "do_all", "kept", "write"]

T = TypeVar("T")
Done = tuple[list[Record], Spent]
"""What a task measured, and what it took."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Set to one before a worker starts: two workers would fight over two cores otherwise."""


class Partial:
    """The tasks done so far, by their words; ``path`` None keeps nothing.

    Raises:
        SystemExit: If the file was measured at another commit.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.done: dict[str, Done] = {}
        here = provenance()["commit"]
        if path is None:
            return
        if path.exists():
            text = path.read_text(encoding="utf-8")
            if not text.endswith("\n"):  # the next line must not join one that was cut short
                path.write_text(text + "\n", encoding="utf-8")
            first, *lines = text.splitlines()
            if (there := json.loads(first)["commit"]) != here:
                sys.exit(
                    f"{path} was begun at commit {there}, this is {here}: "
                    "check that one out to go on, or remove the file to begin anew"
                )
            for line in lines:
                self._read(line)
        else:
            path.write_text(json.dumps({"commit": here}) + "\n", encoding="utf-8")

    def _read(self, line: str) -> None:
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            return  # cut short while it was written
        spent = Spent(**found["spent"])
        self.done[spent.task] = [Record(**record) for record in found["records"]], spent

    def add(self, done: Done) -> None:
        """Keep a task that is done."""
        records, spent = done
        self.done[spent.task] = done
        if self.path is not None:
            content = {"spent": asdict(spent), "records": [asdict(record) for record in records]}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(content, allow_nan=False) + "\n")


@contextmanager
def kept(path: Path | None) -> Iterator[Partial]:
    """What is kept beside ``path`` while it is not written; removed when all went well."""
    beside = None if path is None else path.with_name(path.name + ".partial")
    partial = Partial(beside)
    yield partial
    if beside is not None:
        beside.unlink()


def do_all(
    call: Callable[[T], Done], tasks: Sequence[T], words: Sequence[str], jobs: int, partial: Partial
) -> list[Done]:
    """Do tasks in worker processes of one thread each, with progress on the standard error.

    Args:
        call: Does one; can be pickled.
        tasks: In the order in which they start.
        words: Of each task, those of its ``Spent``.
        jobs: Worker processes.
        partial: What was done before is not done again.

    Returns:
        What each gave, in the order of the tasks.
    """
    os.environ.update(dict.fromkeys(THREADS, "1"))
    begin = time.monotonic()
    before = len(partial.done)
    if before:
        print(f"{before} tasks were done before", file=sys.stderr)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started = {
            pool.submit(call, task): said
            for task, said in zip(tasks, words, strict=True)
            if said not in partial.done
        }
        for future in as_completed(started):
            try:
                partial.add(future.result())
            except BaseException as error:
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(f"{started[future]}: {error}") from error
            passed = time.monotonic() - begin
            line = f"{len(partial.done)}/{len(tasks)} tasks, {passed:.0f} s, {started[future]}"
            print(f"\r{line:<100.100}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [partial.done[said] for said in words]


def write(path: Path, name: str, done: Sequence[Done], **values: object) -> None:
    """One JSON object: provenance, ``values``, every record, and what every task took.

    ``seconds`` is what all tasks took by the clock, one after the other.
    """
    content = {
        "benchmark": name,
        **provenance(),
        "seconds": round(sum(spent.seconds for _, spent in done), 1),
        **values,
        "records": [asdict(record) for records, _ in done for record in records],
        "tasks": [asdict(spent) for _, spent in done],
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
