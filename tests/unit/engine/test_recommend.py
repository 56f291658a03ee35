"""Recommendations on worlds whose truth is known."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from decisions import report_of, verify, with_spec, world_of

from cuvee.engine import plan_verification, recommend
from cuvee.engine.problems import World, log_linear_world, run_search
from cuvee.mixture import Mixture
from cuvee.records import History, PendingRun, Proposal, SearchProblem
from cuvee.spec import Bound, Constraints, GroupBound, Guardrail, Objective, StrategyName


class TestRecommend:
    @pytest.mark.parametrize("seed", range(3))
    def test_without_noise_the_laws_optimum_is_found(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        world = log_linear_world(rng, rng.dirichlet(np.full(4, 4.0)), noise=(0.0, 0.0))
        problem = world.problem((12, 18))
        answer = recommend(problem, run_search(world, problem, seed), seed)
        assert answer.mixture is not None
        p = np.array(answer.mixture.shares(world.names))
        assert world.objective(p) - world.objective(world.optimum) < 5e-4

    def test_predictions_and_intervals_hang_together(self) -> None:
        world = world_of()
        problem = world.problem((12, 16))
        answer = recommend(problem, run_search(world, problem, 1), 1)
        assert answer.mixture is not None
        assert answer.objective is not None
        for name, share in answer.shares.items():
            assert 0 <= share.low <= share.mean <= share.high <= 1
            assert share.mean == pytest.approx(answer.mixture[name])
        weighted = sum(
            w * answer.predicted[e].mean
            for e, w in zip(problem.eval_sets, problem.weights, strict=True)
        )
        assert answer.objective.mean == pytest.approx(weighted)
        assert answer.objective.low < answer.objective.mean < answer.objective.high
        assert set(answer.gain) == {"baseline", "natural", "uniform"}
        assert all(0 < chance < 1 for chance in answer.chance_of_beating.values())
        assert [f.eval_set for f in answer.fits] == list(problem.eval_sets)

    @pytest.mark.parametrize("strategy", ["mixing_law", "random"])
    def test_the_order_of_the_history_changes_no_bit(self, strategy) -> None:
        world = world_of()
        problem = world.problem((8, 12), strategy=strategy)
        history = run_search(world, problem, 2)
        backwards = History(observations=history.observations[::-1])
        assert recommend(problem, history, 2) == recommend(problem, backwards, 2)

    def test_constraints_hold_exactly(self) -> None:
        world = world_of(m=5)
        constraints = Constraints(
            bounds={"d0": Bound(max=0.1)},
            groups=(GroupBound(domains=("d1", "d2"), max=0.15),),
            target_tokens=40_000_000,
        )
        problem = world.problem((12, 16), constraints=constraints)
        answer = recommend(problem, run_search(world, problem, 3), 3)
        assert answer.mixture is not None
        assert problem.feasible().violations(answer.mixture, slack=1e-6) == []

    def test_it_stays_within_the_shares_seen_and_says_so(self) -> None:
        rng = np.random.default_rng(4)
        world = log_linear_world(rng, np.array([0.6, 0.4, 0.0, 0.0]), noise=(0.0,))
        problem = world.problem((20,))
        seen = rng.dirichlet(np.full(4, 8.0), size=20)
        history = History(
            observations=tuple(
                world.observe(
                    Proposal(
                        mixture=Mixture.from_shares(world.names, p.tolist()),
                        rung=0,
                        seed=0,
                        reason="interior",
                    ),
                    f"r{i}",
                )
                for i, p in enumerate(seen)
            )
        )
        answer = recommend(problem, history, 4)
        assert answer.mixture is not None
        p = np.array(answer.mixture.shares(world.names))
        assert np.all(p >= seen.min(axis=0) - 2e-6)
        assert np.all(p <= seen.max(axis=0) + 2e-6)
        assert p[3] == pytest.approx(seen[:, 3].min(), abs=2e-6)
        assert any("still less than any target run gave" in note for note in answer.notes)

    def test_too_few_runs_are_refused_with_what_is_missing(self) -> None:
        world = world_of()
        problem = world.problem((12, 16))
        full = run_search(world, problem, 5)
        lower = [o for o in full.observations if o.rung == 0]
        target = [o for o in full.observations if o.rung == 1]
        failed = PendingRun(run_id="f", rung=1, mixture=target[3].mixture, seed=1)
        history = History(observations=(*lower, *target[:2]), failed=(failed,))
        answer = recommend(problem, history, 5)
        assert answer.mixture is None
        assert answer.refused is not None
        assert "needs at least 3" in answer.refused
        assert "rungs[1].runs" in answer.refused
        assert plan_verification(problem, answer, 5) == ()
        assert report_of(problem, history, answer).verdict.startswith("No recommendation: ")

    def test_losses_that_do_not_depend_on_the_mixture_are_refused(self) -> None:
        world = world_of(noise=0.05)
        flat = World(**{**vars(world), "t": np.full_like(world.t, 0.5)})
        refusals = 0
        for seed in range(5):
            problem = flat.problem((8, 14))
            answer = recommend(problem, run_search(flat, problem, seed), seed)
            refusals += (
                answer.refused is not None and "hardly better than the mean" in answer.refused
            )
        assert refusals >= 4

    def test_guardrails_hold_in_the_answer_of_a_strategy_that_knows_none(self) -> None:
        world = world_of(m=5)
        problem = world.problem((24, 16))
        history = run_search(world, problem, 1)
        free = recommend(problem, history, 1)
        assert free.mixture is not None
        rise = {
            e: free.predicted[e].mean
            - float(world.losses(np.array(problem.baseline.shares(world.names)), 1)[i])
            for i, e in enumerate(problem.eval_sets)
        }
        worst = max(rise, key=lambda e: rise[e])
        guarded = with_spec(problem, guardrails=(Guardrail(eval_set=worst, max_increase=0.0),))
        answer = recommend(guarded, history, 1)
        assert rise[worst] > 0.05, "the free answer breaks it"
        assert answer.mixture is not None
        (report,) = answer.guardrails
        assert report.holds
        assert report.chance >= 0.9
        assert any("would not hold the guardrails" in note for note in answer.notes)
        assert answer.objective is not None
        assert free.objective is not None
        assert answer.objective.mean >= free.objective.mean - 1e-9
        p = np.array(answer.mixture.shares(world.names))
        base = np.array(problem.baseline.shares(world.names))
        e = problem.eval_sets.index(worst)
        assert world.losses(p, 1)[e] - world.losses(base, 1)[e] < 0.02

    def test_guardrails_without_a_measured_baseline_are_refused(self) -> None:
        world = world_of()
        problem = world.problem((8, 12))
        history = run_search(world, problem, 1)
        kept = tuple(o for o in history.observations if o.mixture != problem.baseline)
        guarded = with_spec(problem, guardrails=(Guardrail(eval_set="d0"),))
        answer = recommend(guarded, History(observations=kept), 1)
        assert answer.mixture is None
        assert answer.refused is not None
        assert "baseline has not been measured at the target rung" in answer.refused
        assert answer.bridges is not None, "what was found out is kept"
        assert recommend(problem, History(observations=kept), 1).mixture is not None

    @pytest.mark.parametrize("strategy", get_args(StrategyName))
    def test_every_strategy_has_a_whole_answer(self, strategy: StrategyName) -> None:
        world = world_of()
        length = 2 * sum(world.tokens)
        constraints = Constraints(target_tokens=length)
        problem = world.problem((16, 12), constraints=constraints)
        history = run_search(world, problem, 1)
        problem = with_spec(problem, strategy=strategy)
        answer = recommend(problem, history, 1)
        assert answer.refused is None
        assert answer.mixture is not None
        assert problem.feasible().violations(answer.mixture, slack=1e-6) == []
        assert answer.equivalents is not None
        assert answer.calibration is not None
        assert len(answer.calibration.measured) == sum(f.runs for f in answer.fits) / 4
        assert [p.reference for p in answer.plan] == ["baseline"]
        assert {p.domain for p in answer.shadow_prices} == {
            d for d, n in zip(world.names, world.tokens, strict=True) if 4 * n < length
        }
        for name, share in answer.shares.items():
            assert share.low <= share.mean <= share.high
            assert answer.equivalents.ranges[name].mean == pytest.approx(share.mean)

    @pytest.mark.parametrize("kind", ["worst_excess", "pareto"])
    def test_objectives_of_every_kind_are_answered(self, kind: str) -> None:
        world = world_of()
        objective = (
            Objective(kind="worst_excess", reference={"d0": 2.0, "d1": 2.1, "d2": 2.0})
            if kind == "worst_excess"
            else Objective(kind="pareto", parts={"a": {"d0": 1, "d1": 1}, "b": {"d2": 1}})
        )
        plain = world.problem((16, 16))
        history = run_search(world, plain, 1)  # runs know nothing of the objective
        spec = plain.spec.model_copy(update={"objective": objective, "strategy": "multi_fidelity"})
        problem = SearchProblem.build(spec, world.manifest())
        answer = recommend(problem, history, 1)
        assert answer.mixture is not None
        assert answer.objective is not None
        p = np.array(answer.mixture.shares(world.names))
        truth = problem.objective(
            World(**{**vars(world), "noise": np.zeros(2)}).measure(answer.mixture, 1, 0)
        )
        width = answer.objective.high - answer.objective.low
        assert abs(answer.objective.mean - truth) < width + 0.02
        assert set(answer.gain) == {"baseline", "natural", "uniform"}
        assert (len(answer.front) >= 2) == (kind == "pareto")
        best = min(problem.objective(o.losses) for o in history.observations if o.rung == 1)
        assert truth < best + 0.03
        history = verify(world, problem, history, answer)
        report = report_of(problem, history, answer)
        assert report.measured_objective is not None
        assert report.measured_objective.mean == pytest.approx(truth, abs=0.03)
        assert np.all(p >= 0)
