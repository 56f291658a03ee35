"""Recommendation, stopping, verification and report on worlds whose truth is known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from cuvee.answer import GuardrailReport, Interval, Recommendation, Report
from cuvee.engine import build_report, plan_verification, propose, recommend, should_stop
from cuvee.engine.answer.verify import differences
from cuvee.engine.problems import World, log_linear_world, power_world, run_search
from cuvee.errors import EngineError
from cuvee.mixture import Mixture
from cuvee.records import History, PendingRun, Proposal, SearchProblem
from cuvee.spec import (
    Bound,
    Constraints,
    GroupBound,
    Guardrail,
    Objective,
    StrategyName,
    Verification,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def world_of(seed: int = 1, m: int = 4, noise: float = 0.01) -> World:
    return power_world(np.random.default_rng(seed), m, noise=(0.0, noise))


def with_spec(problem: SearchProblem, **changed: object) -> SearchProblem:
    return problem.model_copy(update={"spec": problem.spec.model_copy(update=changed)})


def report_of(problem: SearchProblem, history: History, recommendation: Recommendation) -> Report:
    return build_report(
        problem,
        history,
        recommendation,
        job_id="job",
        name="a name",
        corpus_digest="digest",
        stop_reason="the budget is spent",
        created_at=NOW,
        seed=0,
    )


def verify(
    world: World, problem: SearchProblem, history: History, recommendation: Recommendation
) -> History:
    runs = plan_verification(problem, recommendation, 0)
    observed = tuple(world.observe(q, f"v{i}") for i, q in enumerate(runs))
    return History(observations=(*history.observations, *observed))


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


class TestStopping:
    def test_it_goes_on_then_waits_then_stops_and_says_why(self) -> None:
        world = world_of()
        problem = world.problem((4, 6))
        assert (
            should_stop(problem, History()).reason == "4 ngram and 6 proxy runs left in the budget"
        )
        history = run_search(world, problem, 1)
        last = history.observations[-1]
        waiting = PendingRun(
            run_id=last.run_id, rung=last.rung, mixture=last.mixture, seed=last.seed
        )
        held = History(observations=history.observations[:-1], pending=(waiting,))
        assert should_stop(problem, held).reason == "waiting for 1 runs"
        decision = should_stop(problem, history)
        assert decision.stop
        assert decision.reason == "the budget of 10 runs is spent"

    def test_a_clear_case_stops_early_and_a_noisy_one_does_not(self) -> None:
        rng = np.random.default_rng(0)
        clear = log_linear_world(rng, rng.dirichlet(np.full(4, 4.0)), noise=(0.0, 0.01))
        problem = clear.problem((16, 40))
        history = run_search(clear, problem, 0)
        assert 10 <= sum(o.rung == 1 for o in history.observations) < 40
        assert should_stop(problem, history).reason.startswith("certain enough")
        noisy = World(**{**vars(clear), "noise": np.array([0.0, 0.3])})
        problem = noisy.problem((16, 14))
        assert sum(o.rung == 1 for o in run_search(noisy, problem, 0).observations) == 14

    def test_something_is_proposed_until_it_stops(self) -> None:
        world = world_of()
        problem = world.problem((3, 16))
        history = History()
        for number in range(30):
            decision, proposals = should_stop(problem, history), propose(problem, history, 1)
            assert decision.stop == (not proposals)
            if decision.stop:
                break
            observed = world.observe(proposals[0], f"r{number:02d}")
            history = History(observations=(*history.observations, observed))
        assert should_stop(problem, history).stop


class TestVerification:
    def recommendation(self, mixture: Mixture) -> Recommendation:
        return Recommendation(mixture=mixture)

    def test_equal_references_are_run_once_and_seeds_are_paired(self) -> None:
        checks = Verification(seeds=2, references=("baseline", "natural", "uniform"))
        problem = world_of().problem((4, 8), verification=checks)
        mixture = Mixture({"d0": 0.4, "d1": 0.3, "d2": 0.2, "d3": 0.1})
        runs = plan_verification(problem, self.recommendation(mixture), 0)
        assert [q.label for q in runs] == ["recommended", "baseline", "uniform"] * 2
        assert [q.seed for q in runs[:3]] == [runs[0].seed] * 3
        assert runs[0].seed != runs[3].seed
        assert {q.purpose for q in runs} == {"verify"}
        assert problem.planned_runs == 12 + len(runs)
        again = plan_verification(problem, self.recommendation(mixture), 0)
        assert again == runs

    def test_verification_seeds_are_not_those_of_the_search(self) -> None:
        world = world_of()
        problem = world.problem((8, 12))
        history = run_search(world, problem, 0)
        runs = plan_verification(problem, self.recommendation(problem.uniform), 0)
        assert not {q.seed for q in runs} & {o.seed for o in history.observations}

    def test_no_seeds_mean_no_verification(self) -> None:
        problem = world_of().problem((4, 8), verification=Verification(seeds=0))
        assert plan_verification(problem, self.recommendation(problem.uniform), 0) == ()
        assert problem.planned_runs == 12

    def test_pairs_give_students_interval_and_chance(self) -> None:
        world = world_of()
        problem = world.problem((8, 12))
        history = run_search(world, problem, 0)
        answer = self.recommendation(problem.uniform)
        history = verify(world, problem, history, answer)
        (pair,) = differences(problem, history, answer)
        values = [theirs - ours for _, theirs, ours in pair.pairs]
        test = stats.ttest_1samp(values, 0, alternative="greater")
        assert pair.chance == pytest.approx(1 - test.pvalue)
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.9)
        assert (pair.difference.low, pair.difference.high) == pytest.approx((low, high))

    def test_incomplete_pairs_are_left_out(self) -> None:
        world = world_of()
        problem = world.problem((8, 12))
        answer = self.recommendation(problem.uniform)
        history = verify(world, problem, run_search(world, problem, 0), answer)
        history = History(observations=history.observations[:-1])
        (pair,) = differences(problem, history, answer)
        assert len(pair.pairs) == 2

    def test_one_pair_uses_the_noise_of_the_search(self) -> None:
        world = world_of()
        problem = world.problem((8, 16), verification=Verification(seeds=1))
        answer = self.recommendation(problem.uniform)
        history = verify(world, problem, run_search(world, problem, 0), answer)
        (pair,) = differences(problem, history, answer)
        half = pair.difference.high - pair.difference.mean
        noise = half / stats.norm.ppf(0.95) / np.sqrt(2)
        true = 0.01 * np.sqrt(0.5 + 0.5 * np.sum(np.square(problem.weights)))
        assert true / 3 < noise < 3 * true
        alone = History(
            observations=tuple(o for o in history.observations if o.purpose == "verify")
        )
        assert differences(problem, alone, answer) == (), "a pair of unknown noise shows nothing"

    def test_a_recommendation_equal_to_its_reference_has_no_difference_to_show(self) -> None:
        world = world_of()
        problem = world.problem((8, 12))
        answer = self.recommendation(problem.baseline)
        history = verify(world, problem, run_search(world, problem, 0), answer)
        assert differences(problem, history, answer) == ()


class TestReport:
    def test_what_was_recommended_is_in_the_report_and_guardrails_are_measured(self) -> None:
        world = world_of(m=5)
        problem = with_spec(
            world.problem((24, 14)),
            guardrails=tuple(Guardrail(eval_set=e, max_increase=0.5) for e in ("d3", "d0")),
        )
        history = run_search(world, problem, 1)
        answer = recommend(problem, history, 1)
        assert answer.mixture is not None
        before = report_of(problem, history, answer)
        assert before.guardrails == answer.guardrails
        history = verify(world, problem, history, answer)
        report = report_of(problem, history, answer)
        for field in ("equivalents", "shadow_prices", "calibration", "plan", "front", "bridges"):
            assert getattr(report, field) == getattr(answer, field)
        assert [g.eval_set for g in report.guardrails] == ["d3", "d0"]
        p = np.array(answer.mixture.shares(world.names))
        base = np.array(problem.baseline.shares(world.names))
        for g in report.guardrails:
            e = problem.eval_sets.index(g.eval_set)
            rise = world.losses(p, 1)[e] - world.losses(base, 1)[e]
            assert g.measured is not None
            assert g.measured.mean == pytest.approx(rise, abs=0.03)
            assert g.holds == (rise < 0.5)
        ngram, _ = report.rungs
        assert ngram.modelled is not None
        assert ngram.modelled.mean > 0.5

    def test_a_broken_guardrail_is_in_the_verdict(self) -> None:
        world = world_of(m=5)
        problem = world.problem((24, 14))
        history = run_search(world, problem, 1)
        answer = recommend(problem, history, 1)
        assert answer.mixture is not None
        p = np.array(answer.mixture.shares(world.names))
        base = np.array(problem.baseline.shares(world.names))
        rise = world.losses(p, 1) - world.losses(base, 1)
        worst = problem.eval_sets[int(np.argmax(rise))]
        guardrail = Guardrail(eval_set=worst, max_increase=0.0)
        said = GuardrailReport(
            eval_set=worst,
            max_increase=0.0,
            increase=Interval(mean=-0.1, low=-0.2, high=0.0),
            chance=0.95,
            holds=True,
        )
        problem = with_spec(problem, guardrails=(guardrail,))
        answer = answer.model_copy(update={"guardrails": (said,)})
        report = report_of(problem, verify(world, problem, history, answer), answer)
        assert f"It breaks the guardrail of {worst}" in report.verdict
        assert not report.guardrails[0].holds
        assert "beats the baseline" in report.verdict, "and yet that is true as well"

    def test_a_verified_gain_is_the_verdict(self) -> None:
        world = world_of(m=5)
        checks = Verification(references=("baseline", "natural", "uniform"))
        problem = world.problem((24, 16), verification=checks)
        history = run_search(world, problem, 1)
        answer = recommend(problem, history, 1)
        history = verify(world, problem, history, answer)
        report = report_of(problem, history, answer)
        assert report.verdict.startswith("Recommended mixture beats the baseline by 0.")
        assert "(90% interval 0." in report.verdict
        assert "verified by 3 paired runs." in report.verdict
        assert [p.reference for p in report.verification] == ["baseline", "natural", "uniform"]
        assert report.verification[0].pairs == report.verification[1].pairs
        assert report.measured_objective is not None
        assert report.recommended is not None
        true = world.objective(np.array(report.recommended.shares(world.names)))
        assert report.measured_objective.mean == pytest.approx(true, abs=0.03)
        assert all(e.measured and e.baseline_measured for e in report.evaluations)

    def test_rungs_agree_over_shared_mixtures_and_the_curve_never_rises(self) -> None:
        world = world_of(m=5)
        problem = world.problem((24, 14))
        history = run_search(world, problem, 2)
        report = report_of(problem, history, recommend(problem, history, 2))
        ngram, proxy = report.rungs
        assert (ngram.runs, proxy.agreement) == (24, None)
        assert ngram.shared >= 4
        assert ngram.agreement is not None
        assert ngram.agreement.low <= ngram.agreement.mean <= ngram.agreement.high
        assert ngram.agreement.mean > 0.5
        best = [point.best for point in report.curve]
        assert best == sorted(best, reverse=True)
        assert [p.seconds for p in report.curve] == sorted(p.seconds for p in report.curve)
        assert "has not been verified" in report.verdict

    def test_what_holds_a_share_is_said_in_words(self) -> None:
        world = world_of()
        names = list(world.names)
        constraints = Constraints(
            bounds={"d0": Bound(max=0.1), "d3": Bound(min=0.2)},
            groups=(GroupBound(domains=("d1", "d2"), max=0.5),),
            target_tokens=1_000_000_000,
            max_epochs=1e6,
        )
        problem = world.problem((4, 8), constraints=constraints)
        mixture = Mixture(dict(zip(names, (0.1, 0.3, 0.2, 0.4), strict=True)))
        fixed = {n: Interval(mean=s, low=s, high=s) for n, s in mixture.root.items()}
        predicted = {e: Interval(mean=1, low=1, high=1) for e in problem.eval_sets}
        answer = Recommendation(
            mixture=mixture,
            shares=fixed,
            predicted=predicted,
            gain={"baseline": Interval(mean=0.1, low=0.05, high=0.2)},
            chance_of_beating={"baseline": 0.9},
        )
        report = report_of(problem, History(), answer)
        assert [d.binding for d in report.domains] == [
            "bounds.d0.max = 0.1",
            "d1 + d2 may have at most 0.5",
            "d1 + d2 may have at most 0.5",
            None,
        ]
        assert report.domains[0].cap == 0.1
        assert report.domains[0].epochs == pytest.approx(0.1 * 1e9 / world.tokens[0])

    @pytest.mark.parametrize(
        ("shift", "words"),
        [(0.0, "is the baseline itself: nothing better"), (0.5, "does worse than the baseline")],
    )
    def test_a_failed_verification_is_not_sold_as_a_success(self, shift, words) -> None:
        world = world_of()
        problem = world.problem((8, 12))
        history = run_search(world, problem, 0)
        answer = recommend(problem, history, 0)
        assert answer.mixture is not None
        same = problem.baseline if shift == 0 else answer.mixture
        answer = answer.model_copy(update={"mixture": same})
        history = verify(world, problem, history, answer)
        worse = tuple(
            o.model_copy(
                update={
                    "losses": {
                        e: loss.model_copy(update={"nats": loss.nats * (1 + shift)})
                        for e, loss in o.losses.items()
                    }
                }
            )
            if o.purpose == "verify" and o.label == "recommended"
            else o
            for o in history.observations
        )
        report = report_of(problem, History(observations=worse), answer)
        assert words in report.verdict


class TestHeldOutText:
    def test_its_sampling_error_is_common_to_all_runs_and_changes_no_decision(self) -> None:
        world = power_world(np.random.default_rng(3), 4, noise=(0.0, 0.01))
        problem = world.problem((16, 12), strategy="multi_fidelity")
        history = run_search(world, problem, seed=1)
        unsure = History(
            observations=tuple(
                o.model_copy(
                    update={
                        "losses": {
                            name: loss.model_copy(update={"nats_se": 0.05 * loss.nats})
                            for name, loss in o.losses.items()
                        }
                    }
                )
                for o in history.observations
            )
        )
        assert recommend(problem, unsure, 1) == recommend(problem, history, 1)
        assert should_stop(problem, unsure) == should_stop(problem, history)


class TestHistories:
    def test_a_run_that_is_there_twice_is_refused(self) -> None:
        world = power_world(np.random.default_rng(3), 3)
        problem = world.problem((8, 8))
        (first,) = propose(problem, History(), 0)
        twice = (world.observe(first, "r1"), world.observe(first, "r1"))
        with pytest.raises(EngineError, match="more than once"):
            propose(problem, History(observations=twice), 0)

    def test_a_loss_of_zero_is_survived(self) -> None:
        world = power_world(np.random.default_rng(0), 4, noise=(0.0, 0.01))
        problem = world.problem((16, 10), strategy="multi_fidelity")
        history = run_search(world, problem, seed=1)
        zero = History(
            observations=tuple(
                o.model_copy(
                    update={
                        "losses": o.losses | {"d0": o.losses["d0"].model_copy(update={"nats": 0.0})}
                    }
                )
                for o in history.observations
            )
        )
        assert recommend(problem, zero, 1).mixture is not None

    def test_a_run_that_does_not_fit_is_named(self) -> None:
        world = power_world(np.random.default_rng(1), 4, noise=(0.0, 0.005))
        problem = world.problem((40, 12), strategy="multi_fidelity")
        history = run_search(world, problem, seed=1)
        runs = list(history.observations)
        odd = next(i for i, o in enumerate(runs) if o.rung == 0 and o.label is None)
        losses = {
            name: loss.model_copy(update={"nats": 1.8 * loss.nats})
            for name, loss in runs[odd].losses.items()
        }
        runs[odd] = runs[odd].model_copy(update={"losses": losses})
        notes = recommend(problem, History(observations=tuple(runs)), 1).notes
        assert any(runs[odd].run_id in note and "set aside" in note for note in notes)
