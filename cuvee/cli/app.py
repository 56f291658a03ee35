"""The ``cuvee`` command: its commands in the order of its help, and what becomes of errors."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

import cuvee
from cuvee.cli.console import err
from cuvee.cli.context import FAILED, INTERRUPTED, UNREACHABLE, WRONG_INPUT, UrlOption
from cuvee.cli.corpora import add, list_corpora, show
from cuvee.cli.explain import explain
from cuvee.cli.jobs import cancel, list_jobs, pause, resume, runs
from cuvee.cli.merge import merge
from cuvee.cli.report import report
from cuvee.cli.submit import submit
from cuvee.cli.up import up
from cuvee.cli.version import version
from cuvee.cli.watch import watch
from cuvee.errors import CorpusError, CuveeError, SpecError, UnavailableError

__all__ = ["app"]

_EPILOG = (
    "Exit codes: 0 done; 1 failed; 2 wrong input; 3 the job was cancelled; "
    "4 the server cannot be reached; 130 interrupted."
)


class _Commands(TyperGroup):
    """Turns errors into a message and an exit code: a traceback helps no user of a command.

    ``CUVEE_DEBUG=1`` lets the traceback through, for those who report a bug.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except (CuveeError, OSError) as error:
            # A closed pipe (`cuvee list | head`) is the reader's choice; typer ends quietly on it.
            if isinstance(error, BrokenPipeError) or os.environ.get("CUVEE_DEBUG"):
                raise
            message = Text("Error: ", style="bold red")
            message.append(str(error), style="not bold default")
            err().print(message, soft_wrap=True)
            raise typer.Exit(_code_of(error)) from None


def _code_of(error: CuveeError | OSError) -> int:
    if isinstance(error, UnavailableError):
        return UNREACHABLE
    return WRONG_INPUT if isinstance(error, SpecError | CorpusError) else FAILED


app = typer.Typer(
    name="cuvee",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cuvee {cuvee.__version__}")
        raise typer.Exit


@app.callback()
def start(
    ctx: typer.Context,
    url: UrlOption = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """Find the data mixture for training a language model.

    Start a server on this machine, or talk to one anywhere:

        cuvee up
        cuvee submit job.yaml --corpus corpus.yaml --watch
        cuvee report JOB --output report/

    Every command has --help with examples.
    """
    ctx.meta["url"] = url


_corpus = typer.Typer(
    no_args_is_help=True,
    help="""Register text to search mixtures of, and look at what is registered.

    Example:

        cuvee corpus add corpus.yaml
    """,
)
_corpus.command("add")(add)
_corpus.command("list")(list_corpora)
_corpus.command("show")(show)

app.command("submit", rich_help_panel="Search")(submit)
app.command("watch", rich_help_panel="Search")(watch)
app.command("report", rich_help_panel="Search")(report)
app.command("list", rich_help_panel="Search")(list_jobs)
app.command("runs", rich_help_panel="Search")(runs)
app.command("explain", rich_help_panel="Search")(explain)
app.command("cancel", rich_help_panel="Search")(cancel)
app.command("pause", rich_help_panel="Search")(pause)
app.command("resume", rich_help_panel="Search")(resume)
app.add_typer(_corpus, name="corpus", rich_help_panel="Text")
app.command("merge", rich_help_panel="Models")(merge)
app.command("up", rich_help_panel="Server")(up)
app.command("version", rich_help_panel="Server")(version)
