"""``cuvee submit``: start a search described in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cuvee.cli.console import err, out, print_json
from cuvee.cli.context import JsonOption, UrlOption, connect
from cuvee.cli.corpora import register_or_reuse
from cuvee.cli.example import EXAMPLE
from cuvee.cli.specs import load_corpus, load_job, load_job_for
from cuvee.cli.watch import watch_job
from cuvee.errors import SpecError

__all__ = ["submit"]


def _print_example(wanted: bool) -> None:
    if wanted:
        typer.echo(EXAMPLE, nl=False)
        raise typer.Exit


def submit(
    ctx: typer.Context,
    job: Annotated[Path, typer.Argument(metavar="JOB.YAML", help="The search, YAML or JSON.")],
    corpus: Annotated[
        Path | None,
        typer.Option(
            metavar="CORPUS.YAML",
            help="Register this corpus first and search in it; paths in it start at its folder.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Replace a value of the file; repeatable."
        ),
    ] = None,
    example: Annotated[
        bool,
        typer.Option(
            "--example",
            callback=_print_example,
            is_eager=True,
            help="Print a job file with every choice explained, and exit.",
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job until it ends.")] = False,
    json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Submit a search.

    The file names a corpus, the rungs to climb and what to minimise:

        corpus: my-corpus
        rungs:
          - {kind: ngram, runs: 48}
          - {kind: proxy, runs: 24, parameters: 1000000, tokens: 20000000}
        objective:
          weights: {code: 2, prose: 1}

    It may also set guardrails, constraints (bounds, groups, max_active,
    supply), another kind of objective (worst_excess, pareto), a strategy,
    and jobs to start from (warm_start); --example explains them all. With
    --watch, the objective doctor's warnings are shown when its runs are in.

    Examples:

        cuvee submit --example > job.yaml
        cuvee submit job.yaml
        cuvee submit job.yaml --corpus corpus.yaml --watch
        cuvee submit job.yaml --set seed=7 --set rungs.1.tokens=300000 --json
    """
    if json and watch:
        raise SpecError("give --json or --watch, not both; follow with `cuvee watch JOB`")
    with connect(ctx, url) as client:
        if corpus is None:
            spec = load_job(job, settings)
        else:
            corpus_spec = load_corpus(corpus)
            spec = load_job_for(job, corpus_spec, settings)
            registered, fresh = register_or_reuse(client, corpus_spec)
            if not fresh:
                err().print(
                    f"Corpus {registered.name} is registered already; its text is used as it was "
                    "then. Give it another name to read changed files again.",
                    soft_wrap=True,
                )
            spec = spec.model_copy(update={"corpus": registered.id})
        submitted = client.submit(spec)
        if json:
            print_json(submitted)
            return
        out().print(f"Submitted job {submitted.id}.", soft_wrap=True)
        if watch:
            raise typer.Exit(watch_job(client, submitted.id))
        out().print(
            f"Follow it with `cuvee watch {submitted.id}`, or at {client.url}/jobs/{submitted.id}",
            soft_wrap=True,
        )
