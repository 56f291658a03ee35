"""``cuvee watch``: follow a job until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

from cuvee.cli.console import err, out
from cuvee.cli.context import INTERRUPTED, JobArgument, UrlOption, connect, exit_code
from cuvee.cli.progress import follow, show
from cuvee.client import Client
from cuvee.records import Corpus
from cuvee.states import JobState

__all__ = ["wait_for_corpus", "watch", "watch_job"]

_CORPUS_INTERVAL = 0.5


def watch(
    ctx: typer.Context,
    job: JobArgument,
    interval: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks at the server.")
    ] = 1.0,
    url: UrlOption = None,
) -> None:
    """Follow a job: runs done, best loss so far against the baseline, time left.

    In a terminal the display is redrawn; elsewhere a line is written for every change. Warnings of
    the objective doctor are shown once its runs are in. Ctrl-C stops watching and leaves the job
    running.

    Exit codes: 0 the job succeeded, 1 it failed, 3 it was cancelled, 130 watching was interrupted.

    Examples:

        cuvee watch 0199b3a2-7c1e-7a55-b1f0-1c9e2f3a4b5c
        cuvee watch nightly && cuvee report nightly
    """
    with connect(ctx, url) as client:
        raise typer.Exit(watch_job(client, job, interval))


def watch_job(client: Client, job_id: str, interval: float = 1.0) -> int:
    """Show a job until it ends; the exit code says how it ended."""
    try:
        job = show(follow(client, job_id, interval=interval), out())
    except KeyboardInterrupt:
        err().print(
            f"Stopped watching; the job goes on. Watch it again with `cuvee watch {job_id}`, "
            f"or end it with `cuvee cancel {job_id}`.",
            soft_wrap=True,
        )
        return INTERRUPTED
    if job.state == JobState.SUCCEEDED:
        out().print(f"Job succeeded. Read the answer with `cuvee report {job_id}`.", soft_wrap=True)
    else:
        reason = job.error.message if job.error else job.stop_reason
        why = f": {reason}" if reason else "."
        err().print(f"Job {job.state}{why}", soft_wrap=True)
    return exit_code(job.state)


def wait_for_corpus(client: Client, corpus_id: str, say: Callable[[str], None]) -> Corpus:
    """Wait until a corpus is ready or has failed, telling every change in a line."""
    said = ""
    while True:
        corpus = client.get_corpus(corpus_id)
        line = f"corpus {corpus.state}" + (f": {corpus.progress}" if corpus.progress else "")
        if line != said:
            say(line)
            said = line
        if corpus.state.terminal:
            return corpus
        time.sleep(_CORPUS_INTERVAL)
