"""The tables of the benchmarks: who is ahead, what is resolved, and where the time went."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from benchmarks.replay import plan, summary
from benchmarks.replay.goals import KNOWN, goals, goals_table
from benchmarks.replay.objectives import OBJECTIVES
from benchmarks.replay.paired import difference
from benchmarks.replay.record import Record
from benchmarks.replay.search import BUDGETS, LADDERS, search
from benchmarks.replay.spent import Spent, spent_table
from benchmarks.replay.timing import time_ax, time_ax_domains, time_domains, time_proposal
from benchmarks.synthetic.summary import overview, problem_table, seconds_table


def searched(
    regrets: dict[str, list[float]], protocol: str = "B2", budget: float = 4.0
) -> list[Record]:
    """Records of one budget: by method, regret by seed."""
    return [
        Record(protocol, "mean", method, budget, seed, {"regret": value, "area": value})
        for method, values in regrets.items()
        for seed, value in enumerate(values)
    ]


def test_the_interval_of_a_difference_is_that_of_a_normal_mean() -> None:
    rng = np.random.default_rng(0)
    less = rng.normal(0.3, 1.0, size=400)
    hard = rng.uniform(0, 50, size=400)
    found = difference(dict(enumerate(hard + less)), dict(enumerate(hard)))
    assert found is not None
    half = 1.645 * less.std() / 20
    assert found.mean == pytest.approx(less.mean())
    assert [found.low, found.high] == pytest.approx(
        [less.mean() - half, less.mean() + half], abs=0.1 * half
    )
    assert found.resolved
    assert difference({1: 2.0}, {0: 1.0}) is None


def test_ten_seeds_resolve_a_difference_of_nothing_one_time_in_ten() -> None:
    rng = np.random.default_rng(1)
    found = [
        difference(dict(enumerate(rng.normal(size=10))), dict.fromkeys(range(10), 0.0))
        for _ in range(400)
    ]
    share = np.mean([one.resolved for one in found if one is not None])
    assert 0.06 < share < 0.14
    few = difference({0: 0.02, 1: 0.02}, {0: 0.01, 1: 0.01})
    assert few is not None
    assert not few.resolved, "two seeds tell nothing"


def test_a_goal_is_at_most_the_best_competitor_and_what_was_known() -> None:
    ours, far = [0.0, 0.01, 0.02], [0.5, 0.9, 0.7]
    (goal,) = goals(searched({"multi_fidelity": ours, "regmix": [0.02] * 3, "random": far}))
    assert goal.method == "regmix"
    assert goal.best == pytest.approx(0.02)
    assert goal.ours == pytest.approx(0.01)
    assert goal.known == KNOWN["B2", "mean", 4.0] == 0.013
    assert goal.met
    (behind,) = goals(searched({"multi_fidelity": ours, "regmix": [0.009] * 3}))
    assert not behind.met
    assert not behind.less.resolved
    # Ahead of every competitor of this run, and behind what was known.
    (known,) = goals(searched({"multi_fidelity": far, "random": [0.9] * 3}))
    assert known.ours < known.best
    assert not known.met


def test_every_known_figure_belongs_to_a_budget_that_is_searched() -> None:
    for protocol, _, budget in KNOWN:
        assert budget in BUDGETS[protocol]


def test_goals_are_a_row_per_budget_with_their_count() -> None:
    rng = np.random.default_rng(0)
    worse = rng.uniform(0.1, 0.2, size=10)
    records = [
        record
        for budget in BUDGETS["B1"]
        for record in searched(
            {"multi_fidelity": [0.0] * 10, "regmix": worse.tolist()}, "B1", budget
        )
    ]
    table = goals_table(records)
    assert table.count("| B1 mean |") == len(BUDGETS["B1"])
    assert "Met at 6 of 6 budgets; resolved in our favour at 6, in the competitor's at 0." in table
    assert goals_table([]) == ""


def test_growth_is_shown_against_runs_and_against_domains() -> None:
    records = [
        Record("time", what, method, n, 0, {"seconds": 9.0, "cpu_seconds": seconds})
        for what, method, n, seconds in (
            ("17 domains", "multi_fidelity", 62, 1.0),
            ("17 domains", "multi_fidelity", 500, 4.0),
            ("17 domains", "Ax, 1 metric", 500, 55.0),
            ("3 domains", "multi_fidelity", 320, 1.5),
            ("100 domains", "multi_fidelity", 320, 10.0),
        )
    ]
    lines = summary.growth_tables(records).splitlines()
    assert "|  | 62 | 500 |" in lines
    assert "| multi_fidelity | 1.000 | 4.000 |" in lines
    assert "| Ax, 1 metric | – | 55.000 |" in lines
    assert "|  | 3 | 100 |" in lines
    assert "| multi_fidelity, 320 runs | 1.500 | 10.000 |" in lines


def test_the_full_plan_has_every_search_with_ten_seeds_and_no_task_twice() -> None:
    tasks = list(plan.full())
    assert len(set(tasks)) == len(tasks)
    searches = [t.arguments for t in tasks if t.protocol is search]
    for setting in product(BUDGETS, LADDERS, OBJECTIVES):
        assert len({a[3] for a in searches if a[:3] == setting}) >= 10
    timed = {t.arguments[0] for t in tasks if t.protocol is time_proposal}
    assert timed == {t.arguments[0] for t in tasks if t.protocol is time_ax}
    domains = {t.arguments[0] for t in tasks if t.protocol is time_domains}
    assert domains > {t.arguments[0] for t in tasks if t.protocol is time_ax_domains}
    assert tasks[0].protocol is time_ax


SPENT = [
    Spent("B2", "admire", "search B2 admire mean 0", 30.0, 25.0),
    Spent("B2", "admire", "search B2 admire mean 1", 60.0, 35.0),
    Spent("B1", "random", "search B1 random mean 0", 30.0, 1.0),
]


def test_where_the_time_went_adds_up() -> None:
    table = spent_table(SPENT)
    assert "Where 2.0 minutes of work went" in table
    assert "| B2 | admire | 2 | 1.5 | 75% | 30.00 | 35.00 |" in table
    assert table.index("admire") < table.index("random")
    by_problem = seconds_table(SPENT)
    assert "| B2 | 30.0 | – | 1.5 |" in by_problem
    assert "| minutes in all | 1.5 | 0.5 | 2.0 |" in by_problem


def test_a_synthetic_problem_shows_regret_areas_and_what_became_of_the_low_rung() -> None:
    rng = np.random.default_rng(1)
    hard = rng.uniform(0, 9, size=20)
    records = []
    for method, more in (("multi_fidelity", 0.0), ("random", 0.5), ("admire", -0.2)):
        for seed, base in enumerate(hard.tolist()):
            first = {"regret": base, "runs_0": 20.0, "runs_1": 1.0}
            last = {"regret": base + more, "runs_0": 80.0, "runs_1": 7.0}
            last["area"] = base + more + 0.01 * float(rng.normal())
            if method == "multi_fidelity":
                last |= {"agreement_0": 0.1, "true_agreement_0": 0.05}
            records += [
                Record("synthetic", "useless", method, n, seed, values)
                for n, values in ((1.0, first), (8.0, last))
            ]
    table = problem_table(records)
    assert f"| random | {np.median(hard):.3f} | {np.median(hard) + 0.5:.3f} |" in table
    assert [line.endswith("| yes | 80 |") for line in table.splitlines()].count(True) == 2
    assert "as multi_fidelity learned it 0.10 (0.10 to 0.10 in 90 % of 20 seeds)" in table
    assert "truly 0.05" in table
    row = overview(records).splitlines()[4]
    assert row.startswith("| useless |")
    assert [cell[-1] for cell in row.split(" | ")[2:]] == ["+", "|"]
    assert "−" in row
