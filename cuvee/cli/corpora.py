"""``cuvee corpus``: register text, and look at what is registered."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cuvee.cli.console import err, out, print_json
from cuvee.cli.context import FAILED, JsonOption, UrlOption, connect
from cuvee.cli.specs import load_corpus
from cuvee.cli.tables import census_table, corpus_table
from cuvee.cli.watch import wait_for_corpus
from cuvee.client import Client
from cuvee.errors import ConflictError
from cuvee.records import Corpus
from cuvee.spec import CorpusSpec
from cuvee.states import CorpusState

__all__ = ["add", "list_corpora", "register_or_reuse", "show"]

CorpusArgument = Annotated[
    str, typer.Argument(metavar="CORPUS", help="Id or name of a corpus.", show_default=False)
]


def add(
    ctx: typer.Context,
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS.YAML", help="YAML or JSON.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is prepared.")] = False,
    json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Register a corpus; the server counts, tokenizes and packs it in the background.

    Relative paths start at the file's folder, and the server must be able to read them:

        name: my-corpus
        domains:
          - name: code
            paths:
              - data/code
          - name: prose
            paths:
              - data/prose/*.jsonl.gz
            text_field: body
        tokenizer: {kind: train, vocab_size: 4096}

    Examples:

        cuvee corpus add corpus.yaml
        cuvee corpus add corpus.yaml --wait
    """
    spec = load_corpus(corpus)
    with connect(ctx, url) as client:
        registered = client.register_corpus(spec)
        if wait:
            registered = wait_for_corpus(client, registered.id, _say)
    if json:
        print_json(registered)
    else:
        _describe(registered)
    if registered.state == CorpusState.FAILED:
        raise typer.Exit(FAILED)


def list_corpora(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 20,
    json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List corpora, newest first.

    Example:

        cuvee corpus list
    """
    with connect(ctx, url) as client:
        found = client.list_corpora(limit=limit).items
    if json:
        print_json([corpus.model_dump(mode="json") for corpus in found])
    elif not found:
        out().print("No corpora yet. Register one with `cuvee corpus add corpus.yaml`.")
    else:
        out().print(corpus_table(found, datetime.now(UTC)))


def show(
    ctx: typer.Context, corpus: CorpusArgument, json: JsonOption = False, url: UrlOption = None
) -> None:
    """Show a corpus: documents, bytes and tokens of each domain.

    Example:

        cuvee corpus show my-corpus
    """
    with connect(ctx, url) as client:
        found = client.get_corpus(corpus)
    if json:
        print_json(found)
    else:
        _describe(found)


def _say(line: str) -> None:
    err().print(line, soft_wrap=True)


def register_or_reuse(client: Client, spec: CorpusSpec) -> tuple[Corpus, bool]:
    """Register a corpus, or find the one of the same name and specification; was it registered now?

    Raises:
        ConflictError: If the name belongs to another specification, or to one that failed.
    """
    try:
        return client.register_corpus(spec), True
    except ConflictError as error:
        known = error.details
        if not known.get("same_spec") or known.get("state") == CorpusState.FAILED:
            raise
        return client.get_corpus(known["id"]), False


def _describe(corpus: Corpus) -> None:
    console = out()
    doing = f" ({corpus.progress})" if corpus.progress else ""
    console.print(f"Corpus {corpus.name or corpus.id} is {corpus.state}{doing}.", soft_wrap=True)
    if corpus.name:
        console.print(f"Id: {corpus.id}", soft_wrap=True)
    if corpus.error is not None:
        console.print(f"Why: {corpus.error.message}", soft_wrap=True)
    if corpus.manifest is not None:
        console.print(f"Digest: {corpus.manifest.digest}", soft_wrap=True)
        console.print(census_table(corpus.manifest))
