"""Every strategy through the whole service, with nested groups, a guardrail, and every objective.

The engine's own suites run on synthetic losses; here real runs come back from workers in an order
of their own, and what the report says must be what the job asked for.
"""

from typing import get_args

import pytest

from cuvee.spec import StrategyName
from cuvee.states import JobState

pytestmark = pytest.mark.e2e

OBJECTIVES = (
    {"kind": "weighted_mean"},
    {"kind": "pareto", "parts": {"eat": {"fruit": 1.0}, "make": {"tools": 1.0, "verbs": 1.0}}},
    {"kind": "worst_excess", "reference": {"fruit": 2.0, "tools": 2.0}},
)

NESTED = {
    "bounds": {"verbs": {"min": 0.05}},
    "groups": [
        {"domains": ["fruit", "tools"], "min": 0.3, "max": 0.9},
        {"domains": ["fruit"], "max": 0.6},
    ],
}


@pytest.fixture(scope="module")
def finished(client, corpus, helpers):
    """One small job per strategy, all at once; by name, (job, report)."""
    submitted = {}
    for number, strategy in enumerate(sorted(get_args(StrategyName))):
        spec = helpers["job_spec"](
            corpus,
            name=f"all-{strategy}",
            strategy=strategy,
            objective=OBJECTIVES[number % len(OBJECTIVES)],
            constraints=NESTED,
            guardrails=[{"eval_set": "verbs", "max_increase": 0.5}],
            rungs=[
                {"kind": "ngram", "runs": 6, "order": 3, "train_bytes": 5_000, "eval_bytes": 2000},
                {"kind": "ngram", "runs": 7, "train_bytes": 20_000, "eval_bytes": 2000},
            ],
            doctor={"anchors": 0, "repeats": 1},
            concurrency=4,
        )
        submitted[strategy] = client.submit(spec)
    ended = {s: helpers["wait_for_end"](client, job.id, 300) for s, job in submitted.items()}
    failed = {s: job.error for s, job in ended.items() if job.state != JobState.SUCCEEDED}
    assert not failed
    return {s: (job, client.report(job.id)) for s, job in ended.items()}


@pytest.mark.parametrize("strategy", sorted(get_args(StrategyName)))
def test_a_job_of_every_strategy_ends_in_a_report_of_what_it_asked(client, finished, strategy):
    job, report = finished[strategy]
    runs = [run for run in client.runs(job.id) if run.purpose == "search"]
    used = [sum(run.rung == r for run in runs) for r in (0, 1)]
    assert used[1] >= 4
    assert all(n <= rung.runs for n, rung in zip(used, job.spec.rungs, strict=True))
    for run in runs:
        assert run.label in ("baseline", "natural", "uniform") or allowed(run.mixture)
    assert report.recommended is not None or report.refused
    if report.recommended is not None:
        assert allowed(report.recommended)
        assert [g.eval_set for g in report.guardrails] == ["verbs"]
    if job.spec.objective.kind == "pareto":
        assert report.front
        assert all(allowed(point.mixture) for point in report.front)
    else:
        assert not report.front
    assert report.stop_reason


def allowed(mixture) -> bool:
    fruit, tools, verbs = (mixture.root.get(d, 0.0) for d in ("fruit", "tools", "verbs"))
    slack = 1e-6
    return (
        verbs >= 0.05 - slack
        and 0.3 - slack <= fruit + tools <= 0.9 + slack
        and fruit <= 0.6 + slack
    )
