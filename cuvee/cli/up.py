"""``cuvee up``: the whole stack on this machine, in the foreground."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cuvee.cli.console import out
from cuvee.errors import MissingExtraError

__all__ = ["embedded_command", "up"]


def up(
    data_dir: Annotated[
        Path, typer.Option(help="Where the database, corpora and checkpoints are kept.")
    ] = Path(".cuvee"),
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 8321,
    train_workers: Annotated[
        int, typer.Option(min=1, help="Processes that train proxies at the same time.")
    ] = 2,
) -> None:
    """Start a server here: PostgreSQL, Valkey, API, dashboard and workers. Ctrl-C stops it.

    Nothing else needs to be installed or running. What was computed is kept in the data
    directory, and the next start goes on from there.

    Examples:

        cuvee up
        cuvee up --data-dir /data/cuvee --port 8400 --train-workers 4
    """
    command = embedded_command(data_dir, port, train_workers)
    out().print(f"Starting the server on {data_dir}; the first start takes a little longer.")
    sys.stdout.flush()
    # In place of this process, so that signals reach the stack and it alone decides how it ends.
    os.execv(command[0], command)


def embedded_command(data_dir: Path, port: int, train_workers: int) -> list[str]:
    """What to execute.

    Raises:
        MissingExtraError: If the server's code is not there: the wheel holds only the library.
    """
    try:
        found = importlib.util.find_spec("service.embedded")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise MissingExtraError(
            "the server is not part of the installed package: run `cuvee up` from a checkout "
            "installed with `scripts/setup`, or start the server from its container image and "
            "name it with --url or CUVEE_URL"
        )
    return [
        sys.executable, "-m", "service.embedded",
        "--data-dir", str(data_dir),
        "--port", str(port),
        "--train-workers", str(train_workers),
    ]  # fmt: skip
