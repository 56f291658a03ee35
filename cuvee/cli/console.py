"""Where output goes.

Without a terminal there are no colours, no cursor movements and no wrapping at 80 columns.
"""

from __future__ import annotations

import json
import os
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console

__all__ = ["err", "out", "print_json"]

_PLAIN_WIDTH = 160
"""Columns of a table in a file or a pipe, where rich would assume 80 and cut cells short."""


def out() -> Console:
    """Standard output, as it is now."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error, as it is now."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    # Names of domains and messages of servers are text, never rich's markup.
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PLAIN_WIDTH
    return console


def print_json(value: BaseModel | list[Any] | dict[str, Any]) -> None:
    """One JSON document on standard output, for programs to read."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json(indent=2))
    else:
        typer.echo(json.dumps(value, indent=2))
