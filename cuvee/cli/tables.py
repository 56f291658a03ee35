"""Lists as tables: jobs, runs, corpora."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.table import Table

from cuvee.cli.words import ago, bits, percent, plain_table
from cuvee.records import Corpus, CorpusManifest, Job, Run

__all__ = ["census_table", "corpus_table", "job_table", "run_table"]


def _table(*columns: str, right: Iterable[str] = ()) -> Table:
    table = plain_table(*columns, right=right)
    for column in table.columns:
        if column.header == "Id":
            # An id that is cut short cannot be copied into the next command.
            column.no_wrap, column.min_width = True, 36
    return table


def job_table(jobs: Iterable[Job], now: datetime) -> Table:
    table = _table(
        "Id", "Name", "State", "Runs", "Best", "Baseline", "Created",
        right=("Runs", "Best", "Baseline"),
    )  # fmt: skip
    for job in jobs:
        p = job.progress
        table.add_row(
            job.id,
            job.name or "",
            str(job.state),
            f"{p.runs_done}/{p.runs_planned}",
            bits(p.best),
            bits(p.baseline),
            ago(job.created_at, now),
        )
    return table


def run_table(runs: Iterable[Run]) -> Table:
    table = _table(
        "Id", "Rung", "For", "State", "Objective", "Seconds", "Mixture",
        right=("Objective", "Seconds"),
    )  # fmt: skip
    for run in runs:
        largest = sorted(run.mixture.root.items(), key=lambda item: -item[1])[:3]
        mixture = ", ".join(f"{name} {share:.0%}" for name, share in largest if share > 0)
        rest = sum(share > 0 for share in run.mixture.root.values()) - len(largest)
        table.add_row(
            run.id,
            f"{run.rung} {run.kind}",
            run.label or run.purpose,
            f"{run.state} {percent(run.progress)}"
            if run.state == "running" and run.progress is not None
            else str(run.state),
            bits(run.objective),
            "" if run.seconds is None else f"{run.seconds:.1f}",
            mixture + (f", {rest} more" if rest > 0 else ""),
        )
    return table


def corpus_table(corpora: Iterable[Corpus], now: datetime) -> Table:
    table = _table(
        "Id", "Name", "State", "Domains", "Tokens", "Created", right=("Domains", "Tokens")
    )
    for corpus in corpora:
        manifest = corpus.manifest
        table.add_row(
            corpus.id,
            corpus.name or "",
            str(corpus.state),
            str(len(corpus.spec.domains)),
            f"{sum(d.tokens for d in manifest.domains):,}" if manifest else "",
            ago(corpus.created_at, now),
        )
    return table


def census_table(manifest: CorpusManifest) -> Table:
    table = _table(
        "Domain", "Share", "Documents", "Bytes", "Tokens", "Tokens/doc", "Held out", "Duplicates",
        right=("Share", "Documents", "Bytes", "Tokens", "Tokens/doc", "Held out", "Duplicates"),
    )  # fmt: skip
    natural = manifest.natural
    for domain in manifest.domains:
        table.add_row(
            domain.name,
            percent(natural[domain.name]),
            f"{domain.documents:,}",
            f"{domain.bytes:,}",
            f"{domain.tokens:,}",
            f"{domain.mean_tokens:,.0f}",
            f"{domain.heldout_tokens:,}",
            f"{domain.duplicates:,}",
        )
    for domain in manifest.evaluation_only:
        table.add_row(domain.name, "", "", "", "", "", f"{domain.heldout_tokens:,}", "")
    return table
