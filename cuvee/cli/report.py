"""``cuvee report``: the answer of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cuvee.answer import Report
from cuvee.cli.console import out, print_json
from cuvee.cli.context import JobArgument, JsonOption, UrlOption, connect
from cuvee.cli.render import report_view

__all__ = ["report", "save_report"]


def report(
    ctx: typer.Context,
    job: JobArgument,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save report.json and report.html in this folder too."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the page with plots as this file too.")
    ] = None,
    json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show the report of a job that succeeded.

    A table has each domain's natural and recommended share with its interval, and the predicted
    and measured loss. Below it stand how much better the recommendation is than the baseline, in
    bits per byte, and how sure that is; guardrails; mixtures that are as good; what limits the
    shares; how far the predictions can be trusted; and why the search stopped.

    Examples:

        cuvee report JOB
        cuvee report JOB --output reports/
        cuvee report JOB --json | jq .recommended
    """
    with connect(ctx, url) as client:
        found = client.report(job)
        page = client.report_html(job) if output is not None or html is not None else ""
    saved = save_report(found, page, output) if output is not None else []
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page, encoding="utf-8")
        saved.append(html)
    if json:
        print_json(found)
        return
    console = out()
    console.print(report_view(found))
    for path in saved:
        console.print(f"Saved {path}", soft_wrap=True)


def save_report(report: Report, page: str, folder: Path) -> list[Path]:
    """Write ``report.json`` and ``report.html`` into ``folder``; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_html = folder / "report.json", folder / "report.html"
    as_json.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    as_html.write_text(page, encoding="utf-8")
    return [as_json, as_html]
