"""``cuvee version``: what runs here and there."""

from __future__ import annotations

import typer

import cuvee
from cuvee.cli.context import UrlOption, connect
from cuvee.errors import CuveeError

__all__ = ["version"]


def version(ctx: typer.Context, url: UrlOption = None) -> None:
    """Show the version of this client and of the server, if one answers.

    Example:

        cuvee version --url http://cuvee.internal
    """
    typer.echo(f"client  {cuvee.__version__}")
    with connect(ctx, url) as client:
        try:
            server = client.version()
        except CuveeError as error:
            typer.echo(f"server  none: {error}")
        else:
            typer.echo(f"server  {server.version} at {client.url} (API {server.api})")
