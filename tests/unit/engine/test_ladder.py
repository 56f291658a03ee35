"""The default strategy's order among rungs, its bridges, its answer, and when it stops."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from cuvee.engine import bridges, propose, should_stop
from cuvee.engine.answer.contrast import gap
from cuvee.engine.cost import prior, relative
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import World, power_world
from cuvee.engine.propose import answer_mixture
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.multi_fidelity import SURE
from cuvee.engine.surrogates.fitted import Fits
from cuvee.mixture import Mixture
from cuvee.records import EvalLoss, History, Observation, PendingRun, Proposal, SearchProblem
from cuvee.spec import (
    Bound,
    Constraints,
    Doctor,
    Guardrail,
    JobSpec,
    NgramRung,
    Objective,
    ProxyModel,
    ProxyRung,
)


@lru_cache(maxsize=2)
def world(noise: float = 0.01) -> World:
    return power_world(np.random.default_rng(2), 3, noise=(0.0, noise), low="biased")


def observed(of: World, shares: Array, rung: int, first: int = 0) -> list[Observation]:
    return [
        of.observe(
            Proposal(
                mixture=Mixture.from_shares(of.names, row.tolist()), rung=rung, seed=i, reason=""
            ),
            f"r{rung}{first + i:03d}",
        )
        for i, row in enumerate(shares)
    ]


@lru_cache(maxsize=2)
def measured(low: int = 16, target: int = 6) -> tuple[SearchProblem, History]:
    """References, random mixtures at the low rung, and some of the same at the target."""
    problem = world().problem((40, 14), strategy="multi_fidelity")
    shares = np.random.default_rng(4).dirichlet(np.ones(3), size=low)
    references = np.array([list(problem.baseline.shares(problem.names)), [1 / 3] * 3])
    both = np.concatenate([references, shares])
    runs = observed(world(), both, 0) + observed(world(), both[:target], 1)
    return problem, History(observations=tuple(runs))


def table(problem: SearchProblem, history: History) -> Table:
    return Table.build(problem, history)


def test_given_costs_count_before_measured_seconds_and_those_before_the_prior() -> None:
    problem, history = measured()
    assert relative(problem, History())[0] < 1e-2
    assert relative(problem, history) == pytest.approx([0.01, 1.0])
    given = world().problem((4, 4), strategy="multi_fidelity", costs=(3.0, 12.0))
    assert relative(given, history) == pytest.approx([0.25, 1.0])


def test_a_cost_that_is_missing_is_scaled_to_those_that_are_given() -> None:
    problem = world().problem((4, 4), strategy="multi_fidelity")
    rungs = (problem.rungs[0], problem.rungs[1].model_copy(update={"cost": 50.0}))
    spec = problem.spec.model_copy(update={"rungs": rungs})
    mixed = problem.model_copy(update={"spec": spec})
    _, history = measured()
    assert relative(mixed, history) == pytest.approx([0.01, 1.0])  # by the seconds of both


def test_the_prior_grows_with_parameters_and_tokens() -> None:
    small = ProxyRung(runs=1, parameters=100_000, tokens=1_000_000)
    twice = small.model_copy(update={"tokens": 2_000_000})
    larger = small.model_copy(update={"parameters": 200_000})
    assert prior(NgramRung(runs=1)) < prior(small) < prior(twice)
    assert prior(larger) == pytest.approx(2 * prior(small))
    shape = ProxyModel(hidden_size=64, layers=2, heads=4, intermediate_size=128)
    exact = ProxyRung(runs=1, model=shape, tokens=1_000_000)
    assert prior(exact) == pytest.approx(
        prior(small.model_copy(update={"parameters": 2 * (4 * 64 * 64 + 3 * 64 * 128)}))
    )


def test_the_swarm_is_what_a_tenth_of_the_target_pays_for_within_limits() -> None:
    def size(runs: tuple[int, int], costs: tuple[float, float]) -> int:
        problem = world().problem(runs, strategy="multi_fidelity", costs=costs)
        return bridges.swarm_size(table(problem, History()))

    assert size((500, 20), (0.001, 1.0)) == 64  # m = 3: the law's parameters ask for fewer
    assert size((500, 200), (0.5, 1.0)) == 40
    assert size((500, 20), (0.5, 1.0)) == 20  # never dearer than half of the target's budget
    assert size((10, 20), (0.001, 1.0)) == 10


def test_the_swarm_comes_first_and_stragglers_are_not_waited_for() -> None:
    problem = world().problem((40, 14), strategy="multi_fidelity", costs=(0.01, 1.0))
    waiting: tuple[PendingRun, ...] = ()
    while sum(p.rung == 0 for p in waiting) < 40 and len(waiting) < 60:
        (q,) = propose(problem, History(pending=waiting), seed=1)
        waiting = (
            *waiting,
            PendingRun(
                run_id=f"p{len(waiting)}",
                rung=q.rung,
                mixture=q.mixture,
                seed=q.seed,
                label=q.label,
            ),
        )
    at_target = [p for p in waiting if p.rung == 1]
    assert sum(p.rung == 0 for p in waiting) == 40
    assert all(p.label is not None for p in at_target)
    # Nothing is known yet: a run at the target would be blind.
    assert propose(problem, History(pending=waiting), seed=1) == ()
    # Once some have come back, the rest are stragglers.
    mixtures = np.array([p.mixture.shares(world().names) for p in waiting if p.rung == 0])
    back = observed(world(), mixtures[:20], 0, 500)
    still = tuple(p for p in waiting if p.rung == 1) + tuple(p for p in waiting if p.rung == 0)[20:]
    (q,) = propose(problem, History(observations=back, pending=still), seed=1)
    assert q.rung == 1


def test_a_proposal_says_why_in_numbers_and_in_words() -> None:
    problem, history = measured()
    spec = problem.spec.model_copy(
        update={"rungs": (problem.rungs[0].model_copy(update={"runs": 24}), problem.rungs[1])}
    )
    job = problem.model_copy(update={"spec": spec})
    swarm = observed(world(), np.random.default_rng(9).dirichlet(np.ones(3), size=6), 0, 500)
    done = History(observations=(*history.observations, *swarm))
    proposals = [q for q in propose(job, done, seed=3, count=5) if q.label is None]
    assert proposals
    for q in proposals:
        why = q.explanation
        assert why is not None
        assert why.method in {"best", "probe", "improvement", "information", "bridge"}
        assert why.cost == pytest.approx(1.0 if q.rung == 1 else 0.01)
        assert why.uncertainty is not None
        assert why.uncertainty > 0
        assert set(q.predicted) == set(job.eval_sets)
        assert (why.correlation is None) == (q.rung == 1)
    value = {q.explanation.method: q for q in proposals if q.explanation is not None}
    if "improvement" in value:
        assert "expected to improve" in value["improvement"].reason


def test_bridges_repair_the_ranking() -> None:
    problem, history = measured()
    here = table(problem, history)
    found = bridges.plan(here, Fits(here))
    assert found is not None
    assert found.runs == 6
    assert found.agreement_before is not None
    assert found.agreement_after is not None
    assert found.agreement_after.mean > found.agreement_before.mean
    assert found.agreement_after.low <= found.agreement_after.mean <= found.agreement_after.high
    assert found.reason


def bridging(middle: float, count: int) -> list[tuple[str, int]]:
    """Method and rung of what is proposed when a swarm and three rungs' references are measured.

    Args:
        middle: Cost of a run at the rung between, of one at the target.
        count: How many proposals.
    """
    of = power_world(np.random.default_rng(2), 3, noise=(0.0, 0.003, 0.01), low="biased")
    problem = of.problem((18, 20, 10), strategy="multi_fidelity", costs=(0.002, middle, 1.0))
    spec = problem.spec.model_copy(update={"doctor": Doctor(anchors=0, repeats=0)})
    problem = problem.model_copy(update={"spec": spec})
    references = np.array([list(problem.baseline.shares(problem.names)), [1 / 3] * 3])
    swarm = np.random.default_rng(4).dirichlet(np.ones(3), size=16)
    runs = observed(of, np.concatenate([references, swarm]), 0)
    runs += observed(of, references, 1) + observed(of, references, 2)
    proposals = propose(problem, History(observations=tuple(runs)), seed=1, count=count)
    return [(q.explanation.method, q.rung) for q in proposals if q.explanation is not None]


def test_bridges_run_between_swarm_and_target_until_they_are_six() -> None:
    """The two references count among the six."""
    assert bridging(0.02, 5) == [("bridge", 1)] * 4 + [("improvement", 2)]


def test_dear_bridges_cease_once_three_runs_fix_the_rungs_level() -> None:
    assert bridging(0.95, 2) == [("bridge", 1), ("improvement", 2)]


def test_the_end_of_a_search_does_not_hide_what_another_bridge_would_tell() -> None:
    problem, history = measured()
    here = table(problem, history)
    going, ended = (bridges.plan(here, Fits(here), why) for why in (None, "no runs are left"))
    assert going is not None
    assert ended is not None
    assert "another bridge would settle" in going.reason
    assert ended.reason == f"{going.reason}; the search is over: no runs are left"
    assert ended.worth_another == going.worth_another


def test_there_is_nothing_to_bridge_without_runs_at_both_ends() -> None:
    problem, history = measured()
    lower = History(observations=tuple(o for o in history.observations if o.rung == 0))
    here = table(problem, lower)
    assert bridges.plan(here, Fits(here)) is None


def test_the_answer_was_measured_unless_another_is_surely_better() -> None:
    problem, history = measured()
    here = table(problem, history)
    answer = here.vector(answer_mixture(problem, history, seed=1))
    belief = Fits(here).belief
    assert belief is not None
    x, _ = here.at(1)
    if np.abs(x - answer).max(axis=1).min() > 1e-5:
        best = x[np.argmin(belief.mean(x))]
        assert gap(belief, best[None], answer, 0.9).chance[0] >= SURE - 0.05


def test_of_a_replays_rows_one_that_was_run_counts_by_what_it_measured() -> None:
    problem, history = measured(low=16, target=8)
    here = table(problem, history)
    rows = np.unique(np.round(here.shares, 9), axis=0)
    x, y = here.at(1)
    belief = Fits(here).belief
    assert belief is not None
    # The run that the belief thinks second best of those measured turns out a little better.
    order = np.argsort(belief.mean(x))
    lucky = int(order[1])
    target = [o for o in history.observations if o.rung == 1]
    which = next(o for o in target if np.allclose(here.vector(o.mixture), x[lucky], atol=1e-5))
    fall = float(here.goal.value(y)[lucky] - here.goal.value(y).min()) + 1e-4
    losses = {
        name: loss.model_copy(update={"nats": loss.nats - fall * math.log(2) * loss.bytes})
        for name, loss in which.losses.items()
    }
    runs = tuple(
        o.model_copy(update={"losses": losses}) if o.run_id == which.run_id else o
        for o in history.observations
    )
    done = History(observations=runs)
    measured_rows = [rows, x]  # the target holds no row that was not run
    order_of = [problem.names.index(d) for d in here.domains]
    pool = [np.empty_like(p) for p in measured_rows]
    for mine, p in zip(pool, measured_rows, strict=True):
        mine[:, order_of] = p
    named = here.vector(answer_mixture(problem, done, 1, pool))
    assert named == pytest.approx(x[lucky], abs=1e-5)


def test_a_replays_row_that_was_not_run_is_named_where_it_is_surely_better() -> None:
    problem, history = measured(low=16, target=8)
    here = table(problem, history)
    belief = Fits(here).belief
    assert belief is not None
    x, y = here.at(1)
    rows = np.random.default_rng(3).dirichlet(np.ones(3), size=200)
    best = rows[np.argmin(belief.mean(rows))]
    assert belief.mean(best[None])[0] < here.goal.value(y).min()
    worst = rows[np.argmax(belief.mean(rows))]
    order_of = [problem.names.index(d) for d in here.domains]

    def named(extra: Array, runs: tuple[Observation, ...]) -> Array:
        p = np.concatenate([x, extra[None]])
        pool = np.empty_like(p)
        pool[:, order_of] = p
        return here.vector(answer_mixture(problem, History(observations=runs), 1, [pool, pool]))

    # With only the dearest of those at the target run, what is predicted best is surely better.
    target = {o.run_id: here.vector(o.mixture) for o in history.observations if o.rung == 1}
    by_loss = sorted(target, key=lambda r: float(belief.mean(target[r][None])[0]))
    poor = tuple(o for o in history.observations if o.rung == 0 or o.run_id in by_loss[-3:])
    assert not any(np.allclose(named(best, poor), target[r], atol=1e-5) for r in by_loss[-3:])
    assert np.abs(named(worst, history.observations) - worst).max() > 1e-3


def test_bridges_are_planned_among_the_best_of_a_pool() -> None:
    problem, history = measured()
    here = table(problem, history)
    belief = Fits(here).belief
    assert belief is not None
    rows = np.random.default_rng(8).dirichlet(np.ones(3), size=400)
    rows = rows[np.lexsort(rows.T[::-1])]
    best = np.sort(np.argsort(belief.mean(rows))[:64])
    whole, cut = (replace(here, pool=(p, p)) for p in (rows, rows[best]))
    assert bridges.plan(whole, Fits(here)) == bridges.plan(cut, Fits(here))


@lru_cache(maxsize=1)
def cramped() -> tuple[SearchProblem, History]:
    """Noisy runs in a region so narrow that no mixture of it is better than the noise by much."""
    of = world(noise=0.05)
    tight = Constraints(bounds={name: Bound(min=0.31, max=0.36) for name in of.names})
    problem = of.problem((20, 30), strategy="multi_fidelity", constraints=tight)
    rng = np.random.default_rng(6)
    wide = rng.dirichlet(np.ones(3), size=12)
    near = np.array(
        [[0.31, 0.33, 0.36], [0.36, 0.33, 0.31], [0.33, 0.36, 0.31], [0.31, 0.36, 0.33]]
    )
    both = np.concatenate([wide, near, near[:, ::-1], [[1 / 3] * 3]])
    runs = observed(of, both, 0) + observed(of, both, 1)
    return problem, History(observations=tuple(runs))


def with_spec(problem: SearchProblem, **values: object) -> SearchProblem:
    """The same search with another objective, guardrail or baseline."""
    spec = JobSpec.model_validate({**problem.spec.model_dump(), **values})
    return SearchProblem.build(spec, world().manifest())


def test_it_stops_where_no_run_could_gain_what_noise_would_not_hide() -> None:
    problem, history = cramped()
    decision = should_stop(problem, history)
    assert decision.stop
    assert "bits per byte" in decision.reason
    assert "not worth another run" in decision.reason or "certain enough" in decision.reason
    assert should_stop(problem, history) == decision


def test_a_search_with_much_to_gain_goes_on() -> None:
    problem, history = measured()
    decision = should_stop(problem, history)
    assert not decision.stop
    assert "proxy runs left" in decision.reason


FRONT = Objective(kind="pareto", parts={"a": {"d0": 1.0}, "b": {"d1": 1.0}, "c": {"d2": 1.0}})


def test_a_front_is_settled_when_each_of_its_parts_is() -> None:
    problem, history = cramped()
    front = with_spec(problem, objective=FRONT)
    decision = should_stop(front, history)
    assert decision.stop
    assert "every part of the front" in decision.reason
    # The last set alone is measured without noise, and never where its domain has the most.
    of = world(noise=0.05)

    def clear(o: Observation) -> Observation:
        true = of.losses(np.array(o.mixture.shares(of.names)), o.rung)
        return o.model_copy(update={"losses": {**o.losses, "d2": scaled(o, "d2", true[2] / 4)}})

    low = tuple(clear(o) for o in history.observations if o.mixture.root.get("d2", 0) < 0.34)
    known = History(observations=low)
    last = with_spec(problem, objective=Objective(weights={"d2": 1.0}))
    assert should_stop(problem, known).stop  # the last set counts for little in the mean
    assert not should_stop(last, known).stop
    assert not should_stop(front, known).stop


def scaled(o: Observation, name: str, value: float) -> EvalLoss:
    """A loss of a run with another value, bits per byte."""
    loss = o.losses[name]
    return loss.model_copy(update={"nats": loss.nats / loss.bits_per_byte * value})


def test_the_noise_of_the_worst_excess_is_that_of_the_worst_set() -> None:
    """One set is far above the others, so the objective is its loss, and has its noise."""
    problem, history = cramped()
    reference = {"d0": 0.1, "d1": 9.0, "d2": 9.0}
    worst = Objective(kind="worst_excess", reference=reference)
    alone = Objective(weights={"d0": 1.0})

    def noise(objective: Objective) -> float:
        decision = should_stop(with_spec(problem, objective=objective), history)
        stated = re.search(r"against (\S+) between seeds", decision.reason)
        assert stated is not None
        return float(stated[1])

    assert noise(worst) == pytest.approx(noise(alone), rel=0.06)


def test_it_goes_on_while_no_mixture_measured_keeps_the_guardrails() -> None:
    problem, history = cramped()
    baseline = {"d0": 0.4, "d1": 0.3, "d2": 0.3}
    at_baseline = observed(world(noise=0.05), np.array([list(baseline.values())]), 1, 700)
    more = History(observations=(*history.observations, *at_baseline))
    assert should_stop(with_spec(problem, baseline=baseline), more).stop
    hard = (Guardrail(eval_set="d0", max_increase=0.05),)
    guarded = with_spec(problem, baseline=baseline, guardrails=hard)
    assert not should_stop(guarded, more).stop


def test_many_workers_do_not_make_it_spend_the_target_blind() -> None:
    world = power_world(np.random.default_rng(2), 4, noise=(0.0, 0.01))
    problem = world.problem((40, 22), strategy="multi_fidelity")
    first = propose(problem, History(), 1, count=64)
    assert all(q.label is not None for q in first if q.rung == problem.target)
    assert sum(q.rung == 0 for q in first) == 40
