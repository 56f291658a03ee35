"""The tasks: an id in, a use case called. What may be lost or repeated is the message, never work.

A message says that there may be something to do; the database says whether there is.
"""

from __future__ import annotations

from typing import Any

from service.queue import ADVANCE, EXECUTE, PREPARE
from workers import execution
from workers.advancing import advance_job
from workers.app import app
from workers.runtime import runtime


@app.task(name=PREPARE)  # type: ignore[untyped-decorator]
def prepare(corpus_id: str) -> None:
    rt = runtime()
    with rt.busy:
        execution.prepare(rt, corpus_id)


@app.task(name=ADVANCE)  # type: ignore[untyped-decorator]
def advance(job_id: str) -> None:
    rt = runtime()
    with rt.busy:
        advance_job(rt, job_id)


@app.task(name=EXECUTE, bind=True)  # type: ignore[untyped-decorator]
def execute(self: Any, run_id: str) -> None:
    """Any run of the queue's pool may be taken, the announced one or an older one."""
    rt = runtime()
    pool = self.request.delivery_info["routing_key"]
    with rt.busy:
        execution.execute_runs(rt, pool)
