"""Guardrails in the answer: refused, replaced or held before verification, measured after."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from quadratic_world import QuadraticModel, QuadraticWorld
from scipy import stats

from cuvee.answer import GuardrailReport, Interval
from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.answer.guardrails import (
    best_that_holds,
    hopeless,
    measured_guardrails,
    nearest,
    predicted_guardrails,
    unheld,
)
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief
from cuvee.records import History
from cuvee.spec import Guardrail


def guarded(
    seed: int, guardrails: tuple[Guardrail, ...], own: float = 0.0
) -> tuple[Table, Guards, Belief, QuadraticModel, Array]:
    """A table of no runs with guardrails, a belief about a quadratic, and feasible candidates.

    ``own`` is how much each set is helped by the domain in its place.
    """
    rng = np.random.default_rng(seed)
    problem = power_world(rng, 4, noise=(0.0, 0.01)).problem((4, 4))
    spec = problem.spec.model_copy(update={"guardrails": guardrails})
    table = Table.build(problem.model_copy(update={"spec": spec}), History())
    world = QuadraticWorld.draw(rng, 4, 4)
    help_ = own * np.eye(4)
    world = replace(world, centre=world.centre - help_, slope=world.slope - help_)
    model = world.fit(world.measure(rng, rng.dirichlet(np.ones(4), size=8)))
    belief = Belief(model, table.goal, 1.0, np.eye(4))
    return table, Guards.of(table), belief, model, rng.dirichlet(np.ones(4), size=400)


def test_predictions_are_those_of_joint_draws_in_the_jobs_order() -> None:
    asked = (
        Guardrail(eval_set="d2", max_increase=0.05),
        Guardrail(eval_set="d0", max_increase=0.0, chance=0.6),
        Guardrail(eval_set="d2", max_increase=0.01),
    )
    table, guards, belief, _, candidates = guarded(0, asked)
    p = candidates[0]
    found = predicted_guardrails(table, guards, belief, p, 0.9)
    assert [(g.eval_set, g.max_increase) for g in found] == [
        ("d2", 0.05),
        ("d0", 0.0),
        ("d2", 0.01),
    ]
    both = np.stack([p, table.vector(table.problem.baseline)])
    draws = belief.losses(np.random.default_rng(0), both, 20_000)
    for report, guardrail in zip(found, asked, strict=True):
        e = table.eval_sets.index(report.eval_set)
        rise = draws[:, 0, e] - draws[:, 1, e]
        assert report.chance == pytest.approx(np.mean(rise <= report.max_increase), abs=0.02)
        low, high = np.quantile(rise, [0.05, 0.95])
        assert (report.increase.low, report.increase.high) == pytest.approx((low, high), abs=0.02)
        assert report.holds == (report.chance >= guardrail.chance)


def test_the_replacement_holds_and_is_the_best_that_does() -> None:
    checked = 0
    for seed in range(20):
        asked = (Guardrail(eval_set="d0", max_increase=0.01),)
        table, guards, belief, _, candidates = guarded(seed, asked)
        p = candidates[np.argmin(belief.mean(candidates))]
        if guards.allowed(belief, p[None])[0]:
            continue
        found = best_that_holds(table, guards, belief, p, candidates)
        assert found is not None, "the baseline itself holds every guardrail"
        assert guards.allowed(belief, found[None])[0]
        held = candidates[guards.allowed(belief, candidates)]
        assert belief.mean(found[None])[0] <= belief.mean(held).min(initial=np.inf) + 1e-12
        checked += 1
    assert checked > 3


def test_the_baseline_holds_what_nothing_else_does() -> None:
    asked = tuple(Guardrail(eval_set=f"d{e}") for e in range(4))
    table, guards, belief, _, candidates = guarded(2, asked, own=4.0)
    found = best_that_holds(table, guards, belief, candidates[0], candidates)
    assert found == pytest.approx(table.vector(table.problem.baseline), abs=1e-12)
    assert np.all(guards.chances(belief, guards.baseline[None]) == 1.0)


def test_where_the_baseline_is_not_allowed_there_may_be_none() -> None:
    table, guards, belief, _, candidates = guarded(1, (Guardrail(eval_set="d0"),), own=4.0)
    j = int(guards.sets[0])
    upper = np.ones(4)
    upper[j] = 0.0
    bare = candidates.copy()
    bare[:, j] = 0.0
    bare /= bare.sum(axis=1, keepdims=True)
    region = replace(table.region, upper=upper)
    assert best_that_holds(replace(table, region=region), guards, belief, bare[0], bare) is None


def test_the_nearest_is_no_farther_than_any_candidate() -> None:
    asked = (Guardrail(eval_set="d0"), Guardrail(eval_set="d1", max_increase=0.01))
    for seed in range(5):
        table, guards, belief, _, candidates = guarded(seed, asked, own=4.0)
        found = nearest(table, guards, belief, candidates)
        assert table.region.contains(found.p, slack=1e-9)[0]
        assert found.chance >= guards.all_hold(belief, candidates).max() - 1e-12
        assert found.chance <= found.chances.min()


def test_the_nearest_is_found_from_afar_where_the_surface_is_known_well() -> None:
    table, guards, belief, _, candidates = guarded(1, (Guardrail(eval_set="d0"),), own=4.0)
    sure = replace(belief, inflation=belief.inflation * 1e-3)
    worst = candidates[np.argsort(guards.increase(belief, candidates)[0][:, 0])[-8:]]
    assert np.all(guards.all_hold(sure, worst) == 0.0)
    assert nearest(table, guards, sure, worst).chance > 0.5, "the baseline keeps it"


def test_what_can_hardly_be_kept_is_named_with_what_would_allow_it() -> None:
    asked = (Guardrail(eval_set="d0"), Guardrail(eval_set="d1", max_increase=9.0))
    table, guards, belief, _, candidates = guarded(1, asked, own=4.0)
    assert hopeless(table, guards, belief, guards.baseline[None]) is None
    j = table.eval_sets.index("d0")
    upper = np.ones(4)
    upper[j] = 0.0
    table = replace(table, region=replace(table.region, upper=upper))
    bare = table.region.project(candidates)
    said = hopeless(table, guards, belief, bare)
    assert said is not None
    assert "the guardrail on d0 can hardly be kept: the chance is below 0.01 at best" in said
    assert "d1" not in said
    refused = unheld(table, guards, belief, bare)
    assert "keeps d0 within 0 bits per byte of the baseline" in refused
    assert "more runs will hardly help" in refused
    raised = re.search(r"that of d0 to ([\d.]+) would allow", refused)
    assert raised is not None
    slack = np.where(guards.sets == j, float(raised[1]), guards.slack)
    eased = replace(guards, slack=slack)
    assert eased.allowed(belief, nearest(table, guards, belief, bare).p[None])[0]


def test_guardrails_that_clash_are_named_together() -> None:
    table, guards, belief, model, candidates = guarded(3, (Guardrail(eval_set="d0"),), own=4.0)
    base = guards.baseline[None]
    # Each set alone may become better than at the baseline, but not both by so much.
    room = [
        0.9 * float((model.mean(candidates, 1) - model.mean(base, 1))[:, e].min()) for e in (0, 1)
    ]
    both = replace(guards, sets=np.array([0, 1]), slack=np.array(room), chance=np.array([0.9, 0.9]))
    said = hopeless(table, both, belief, candidates)
    assert said is not None
    assert f"the guardrails on {table.eval_sets[0]}, {table.eval_sets[1]} can hardly" in said
    assert "together" in said


def report(chance: float = 0.95, holds: bool = True) -> GuardrailReport:
    rise = Interval(mean=0.0, low=-0.1, high=0.1)
    return GuardrailReport(
        eval_set="code", max_increase=0.02, increase=rise, chance=chance, holds=holds
    )


def test_paired_runs_have_the_last_word() -> None:
    rises = [0.01, -0.01, 0.0, 0.005]
    (found,) = measured_guardrails((report(),), (0.9,), {"code": rises}, {}, 0.9)
    test = stats.ttest_1samp(rises, 0.02, alternative="less")
    assert found.holds == (1 - test.pvalue >= 0.9)
    assert found.measured is not None
    low, high = stats.ttest_1samp(rises, 0).confidence_interval(0.9)
    assert (found.measured.low, found.measured.high) == pytest.approx((low, high))
    (broken,) = measured_guardrails((report(),), (0.9,), {"code": [0.1, 0.12]}, {}, 0.9)
    assert not broken.holds
    assert broken.chance == 0.95, "what was predicted stays"


def test_one_pair_needs_a_known_noise() -> None:
    (unknown,) = measured_guardrails((report(),), (0.9,), {"code": [0.5]}, {}, 0.9)
    assert unknown == report()
    (known,) = measured_guardrails((report(),), (0.9,), {"code": [0.5]}, {"code": 0.1}, 0.9)
    assert known.measured is not None
    half = stats.norm.ppf(0.95) * 0.1 * np.sqrt(2)
    assert known.measured.high - known.measured.mean == pytest.approx(half)
    assert not known.holds


def test_without_pairs_the_prediction_stands() -> None:
    assert measured_guardrails((report(),), (0.9,), {"code": []}, {}, 0.9) == (report(),)
