"""Figures: the data, the finding in words, and the same numbers as a table."""

from __future__ import annotations

import random
from typing import Any

from dashboard_samples import later
from dashboard_world import DOMAINS, losses, natural, random_mixture

from cuvee.mixture import Mixture
from cuvee.records import LossPoint, Run
from cuvee.states import RunState
from service.dashboard.figures import best_run, loss_curves, search_curve


def anything(mixture: Mixture) -> bool:
    return True


def a_run(number: int, objective: float | None, **changes: Any) -> Run:
    fields: dict[str, Any] = {
        "id": f"run-{number:05d}",
        "job_id": "job",
        "rung": 1,
        "kind": "proxy",
        "purpose": "search",
        "label": None,
        "state": RunState.SUCCEEDED,
        "mixture": random_mixture(random.Random(number)),
        "seed": number,
        "attempt": 1,
        "objective": objective,
        "seconds": 10.0,
        "created_at": later(number),
        "finished_at": later(number),
    }
    return Run(**(fields | changes))


def test_the_curve_falls_only_and_counts_the_seconds_of_all_rungs() -> None:
    runs = [
        a_run(1, 1.5, rung=0, kind="ngram", seconds=2.0),
        a_run(2, 2.0),
        a_run(3, 2.2),
        a_run(4, 1.9),
        a_run(5, None, state=RunState.FAILED),
    ]
    figure = search_curve(reversed(runs), 1, baseline=2.0, labels={}, allowed=anything)
    assert figure is not None
    assert figure.data["best"] == [[12.0, 2.0], [32.0, 1.9], [32.0, 1.9]]
    assert [point[1] for point in figure.data["runs"]] == [2.0, 2.2, 1.9]
    assert "0.1000 (5.0 %) below the baseline" in figure.caption
    assert len(figure.rows) == 2


def test_the_curve_ignores_verification_runs() -> None:
    figure = search_curve(
        [a_run(1, 2.0), a_run(2, 1.0, purpose="verify")],
        1,
        baseline=None,
        labels={},
        allowed=anything,
    )
    assert figure is not None
    assert min(point[1] for point in figure.data["best"]) == 2.0


def test_a_mixture_that_breaks_a_constraint_is_shown_and_is_never_the_best() -> None:
    runs = [a_run(1, 2.0), a_run(2, 1.0), a_run(3, 1.9)]

    def allowed(mixture: Mixture) -> bool:
        return mixture != runs[1].mixture

    figure = search_curve(runs, 1, baseline=None, labels={}, allowed=allowed)
    assert figure is not None
    assert min(point[1] for point in figure.data["best"]) == 1.9
    assert [point[3] for point in figure.data["runs"]] == [True, False, True]
    assert best_run(runs, 1, allowed) == runs[2]
    assert best_run(runs, 0, allowed) is None


def test_without_a_run_at_the_target_there_is_no_curve() -> None:
    assert (
        search_curve([a_run(1, 2.0, rung=0)], 1, baseline=None, labels={}, allowed=anything) is None
    )


def test_a_long_search_is_thinned_and_keeps_its_last_run() -> None:
    runs = [a_run(n, 3.0 - n / 10_000) for n in range(1, 4001)]
    figure = search_curve(runs, 1, baseline=None, labels={}, allowed=anything)
    assert figure is not None
    assert len(figure.data["runs"]) <= 1500
    assert figure.data["runs"][-1][1] == round(3.0 - 0.4, 6)


def test_loss_curves_name_the_set_that_fell_most() -> None:
    noise = random.Random(1)
    start, end = losses(natural(), noise), losses(natural(), noise)
    start["math"] = start["math"].model_copy(update={"nats": start["math"].nats * 2})
    points = [
        LossPoint(step=2, tokens=2000, losses=end),
        LossPoint(step=1, tokens=1000, losses=start),
    ]
    figure = loss_curves(points)
    assert figure is not None
    assert "the loss on math has fallen most" in figure.caption
    assert [s["name"] for s in figure.data["series"]] == list(DOMAINS)
    assert [p[0] for p in figure.data["series"][0]["points"]] == [1000, 2000]
    assert loss_curves([]) is None
