"""``cuvee explain``: why a run was made, this mixture at this rung at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cuvee.cli.console import out, print_json
from cuvee.cli.context import JsonOption, UrlOption, connect
from cuvee.cli.words import bits, change, percent
from cuvee.methods import foresight_words, method_words
from cuvee.records import Explanation, Run

__all__ = ["explain", "in_short"]


def explain(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run.", show_default=False)],
    json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Explain a run: why this mixture, at this rung, at that moment.

    Shows what the engine expected of the run when it proposed it: the gain,
    how sure it was, the cost, and what other rungs would have promised.

    Examples:

        cuvee explain 0199b3a2-7c1e-7a55-b1f0-1c9e2f3a4b5c
        cuvee runs JOB --explain
    """  # fmt: skip
    with connect(ctx, url) as client:
        found = client.get_run(run)
    if json:
        print_json(found)
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, value in _told(found):
        grid.add_row(name, Text(value))
    out().print(grid)


def _told(run: Run) -> Iterator[tuple[str, str]]:
    yield "Run", f"{run.id} of job {run.job_id}"
    yield "What", f"{run.label or run.purpose} at rung {run.rung} ({run.kind}), {run.state}"
    shares = sorted(run.mixture.root.items(), key=lambda item: -item[1])
    yield "Mixture", ", ".join(f"{name} {percent(share)}" for name, share in shares if share > 0)
    if run.objective is not None:
        yield "Measured", f"{bits(run.objective)} bits per byte"
    if run.reason:
        yield "Why", run.reason
    if run.explanation is None:
        if not run.reason:
            yield "Why", "no explanation was stored"
        return
    yield from _expected(run.explanation, f"{run.kind} (rung {run.rung})")


def _expected(found: Explanation, here: str) -> Iterator[tuple[str, str]]:
    yield "Chosen", method_words(found.method)
    if found.predicted_gain is not None:
        sure = "" if found.uncertainty is None else f" ±{found.uncertainty:.4f} (standard error)"
        yield (
            "Gain",
            f"{change(found.predicted_gain)} bits per byte{sure}, predicted at the target over "
            "the best so far",
        )
    elif blind := foresight_words(found):
        yield "Gain", blind
    elif found.uncertainty is not None:
        yield "Uncertainty", f"±{found.uncertainty:.4f} bits per byte at the target"
    if found.expected_improvement is not None:
        yield "Improvement", f"{found.expected_improvement:.4f} bits per byte expected"
    if found.correlation is not None:
        yield "Correlation", f"{found.correlation:.2f} of this rung's loss with the target's"
    yield "Cost", f"{percent(found.cost)} of a run at the target"
    if found.alternatives:
        best = sorted(found.alternatives.items(), key=lambda item: -item[1])
        said = ", ".join(
            f"{name} {value:.3g}{', this run' if name == here else ''}" for name, value in best
        )
        yield "Instead", f"value per cost of the best candidate by rung: {said}"


def in_short(run: Run) -> str:
    """One line, for a list of runs."""
    found = run.explanation
    if found is None:
        return run.reason or "no explanation was stored"
    said = found.method
    if found.predicted_gain is not None:
        said += f": gain {change(found.predicted_gain)}"
        if found.uncertainty is not None:
            said += f" ±{found.uncertainty:.4f}"
    elif blind := foresight_words(found):
        said += f": gain {blind}"
    said += f", {percent(found.cost)} of a target run's cost"
    return f"{said} ({run.reason})" if run.reason else said
