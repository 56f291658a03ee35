"""The ``cuvee`` command, over the client: everything here can be done over HTTP as well."""

from cuvee.cli.app import app as app

__all__ = ["app", "main"]


def main() -> None:
    """The console script."""
    app(prog_name="cuvee")
