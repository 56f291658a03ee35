"""What the commands share: options, the connection, exit codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

import typer

from cuvee.client import Client
from cuvee.states import JobState

__all__ = [
    "CANCELLED",
    "FAILED",
    "INTERRUPTED",
    "UNREACHABLE",
    "WRONG_INPUT",
    "JobArgument",
    "JsonOption",
    "UrlOption",
    "connect",
    "exit_code",
]

FAILED = 1
WRONG_INPUT = 2
CANCELLED = 3
UNREACHABLE = 4
INTERRUPTED = 130

Connect: TypeAlias = Callable[[str | None], Client]
"""What opens a client for an address; tests put one over an application in the same process."""

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The server's address; CUVEE_URL, else http://127.0.0.1:8321.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs to read.")]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Id or name of a job.", show_default=False)
]


def connect(ctx: typer.Context, url: str | None) -> Client:
    """A client for the address given to the command, or before it, or by ``CUVEE_URL``."""
    opened: Connect = ctx.obj or Client
    return opened(url or ctx.meta.get("url"))


def exit_code(state: JobState) -> int:
    """What a command that waited for a job ends with."""
    return {JobState.SUCCEEDED: 0, JobState.CANCELLED: CANCELLED}.get(state, FAILED)
