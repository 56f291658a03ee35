"""The report as one HTML file that needs nothing else: no network, no server, no script to read.

Run ``python -m service.dashboard.report REPORT.json -o REPORT.html`` to render a saved report.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cuvee.answer import Report
from service.dashboard.health import report_headline, report_tone
from service.dashboard.recipe import Recipe
from service.dashboard.report_figures import report_figures
from service.dashboard.sections.gains import PLAN_HEADER, plan_rows
from service.dashboard.sections.ladder import bridge_sentence
from service.dashboard.sections.mixtures import named_mixtures
from service.dashboard.sections.models import LawMatrix, ModelTable
from service.dashboard.sections.supply import PRICES_HEADER, price_rows, supply_sentence
from service.dashboard.sections.trust import COVERAGE_HEADER, coverage_rows
from service.dashboard.templating import environment, static_text

__all__ = ["render_report", "report_csp"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n', re.MULTILINE)
_COLOURS = 8
"""Domains that have a colour of their own."""


@cache
def _style() -> str:
    return static_text("theme.css") + static_text("report.css")


@cache
def _scripts() -> tuple[str, str]:
    """The chart library, and our module with its one call."""
    library = static_text("vendor/echarts.min.js")
    # As one module: a self-contained page has no second file to import.
    parts = [_IMPORT.sub("", static_text(f"{name}.js")) for name in ("axes", "plots", "charts")]
    return library, "\n".join([*parts, "drawAll(document);\n"])


@cache
def report_csp() -> str:
    """The policy that the page states for itself, and that a server should send with it.

    It allows the page's own script and style by hash, and no request to anywhere. The two scripts
    and the style are the same for every report, so this is a constant of the program.
    """
    scripts = " ".join(_hash(script) for script in _scripts())
    return (
        f"default-src 'none'; script-src {scripts}; style-src {_hash(_style())}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def render_report(report: Report) -> str:
    """The defended answer as a self-contained page.

    Args:
        report: A report, with a recommendation or with the reason why there is none.

    Returns:
        HTML. Every value from the report is escaped; the numbers behind each chart stand in a
        table next to it. Parts for which the report has nothing are left out.
    """
    library, module = _scripts()
    context: dict[str, Any] = {
        "report": report,
        "saved": json.loads(report.model_dump_json()),
        "tone": report_tone(report),
        "headline": report_headline(report),
        "recipe": Recipe.from_report(report) if report.domains and not report.refused else None,
        "names": _coloured(report),
        "figures": report_figures(report),
        "models": ModelTable.build(report.fits),
        "matrix": LawMatrix.build(report.fits),
        "prices": (PRICES_HEADER, price_rows(report.shadow_prices), supply_sentence(report)),
        "plan": (PLAN_HEADER, plan_rows(report.plan)),
        "coverage": (COVERAGE_HEADER, coverage_rows(report.calibration)),
        "bridges": bridge_sentence(report.bridges),
        "mixtures": named_mixtures(report.equivalents, report.front, report.recommended),
        "csp": report_csp(),
        # Ours, not the report's: the only text that is not escaped.
        "style": Markup(_style()),
        "library": Markup(library),
        "module": Markup(module),
    }
    context["contents"] = _contents(context)
    return environment().get_template("report.html").render(context)


def _coloured(report: Report) -> list[str]:
    """Domains in the order of their colours; with more of them than colours, the largest first."""
    largest = sorted(report.domains, key=lambda domain: -domain.recommended.mean)
    return [d.name for d in (report.domains if len(report.domains) <= _COLOURS else largest)]


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """Anchors and words of the parts that the page has."""
    report, figures = context["report"], context["figures"]
    there = (
        ("missing", "What is missing", report.refused),
        ("recipe", "Shares", context["recipe"]),
        ("gain", "Gain", "gains" in figures),
        ("verification", "Pairs", "verification" in figures),
        ("losses", "Losses", "losses" in figures),
        ("guardrails", "Guardrails", "guardrails" in figures),
        ("equivalents", "Equals", "equivalents" in figures),
        ("front", "Trade-offs", "front" in figures),
        ("prices", "Supply", "prices" in figures or context["recipe"]),
        ("trust", "Calibration", {"left_out", "calibration"} & set(figures)),
        ("models", "Models", context["models"]),
        ("law", "Law", context["matrix"]),
        ("rungs", "Rungs", report.rungs),
        ("doctor", "Doctor", report.diagnosis and "doctor" in figures),
        ("reuse", "Earlier jobs", report.reuse),
        ("notes", "Notes", report.notes or report.stop_reason),
    )
    return [(anchor, word) for anchor, word, present in there if present]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def main(arguments: list[str] | None = None) -> None:
    """Render a saved report."""
    parser = argparse.ArgumentParser(prog="python -m service.dashboard.report", description=__doc__)
    parser.add_argument("report", type=Path, help="a report as JSON, as the API returns it")
    parser.add_argument("-o", "--output", type=Path, help="default: the same name with .html")
    given = parser.parse_args(arguments)
    report = Report.model_validate_json(given.report.read_bytes())
    output = given.output or given.report.with_suffix(".html")
    output.write_text(render_report(report), encoding="utf-8")


if __name__ == "__main__":
    main()
