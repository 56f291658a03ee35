"""Verification and the report on worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from decisions import report_of, verify, with_losses, with_spec, world_of
from scipy import stats

from cuvee.answer import GuardrailReport, Interval, Recommendation, Report
from cuvee.engine import plan_verification, recommend
from cuvee.engine.answer.verification_power import Noise, run_noise
from cuvee.engine.answer.verify import differences
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import run_search
from cuvee.engine.surrogates.fitted import Fits
from cuvee.mixture import Mixture
from cuvee.records import History, SearchProblem
from cuvee.spec import Bound, Constraints, GroupBound, Guardrail, Verification


def noise_of(problem: SearchProblem, history: History) -> Noise | None:
    table = Table.build(problem, history)
    return run_noise(table, Fits(table).belief)


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
        whys = [q.explanation for q in runs if q.explanation is not None]
        assert [(why.method, why.cost) for why in whys] == [("verify", 1.0)] * len(runs)
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
        (pair,) = differences(problem, history, answer, noise_of(problem, history))
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
        (pair,) = differences(problem, history, answer, noise_of(problem, history))
        assert len(pair.pairs) == 2

    def test_one_pair_uses_the_noise_of_the_search(self) -> None:
        world = world_of()
        problem = world.problem((8, 16), verification=Verification(seeds=1))
        answer = self.recommendation(problem.uniform)
        history = verify(world, problem, run_search(world, problem, 0), answer)
        (pair,) = differences(problem, history, answer, noise_of(problem, history))
        half = pair.difference.high - pair.difference.mean
        noise = half / stats.norm.ppf(0.95) / np.sqrt(2)
        true = 0.01 * np.sqrt(0.5 + 0.5 * np.sum(np.square(problem.weights)))
        assert true / 3 < noise < 3 * true
        alone = History(
            observations=tuple(o for o in history.observations if o.purpose == "verify")
        )
        assert differences(problem, alone, answer, noise_of(problem, alone)) == (), (
            "a pair of unknown noise shows nothing"
        )

    def test_a_recommendation_equal_to_its_reference_has_no_difference_to_show(self) -> None:
        world = world_of()
        problem = world.problem((8, 12))
        answer = self.recommendation(problem.baseline)
        history = verify(world, problem, run_search(world, problem, 0), answer)
        assert differences(problem, history, answer, noise_of(problem, history)) == ()


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
            "the bound on d1 + d2, at most 0.5 together",
            "the bound on d1 + d2, at most 0.5 together",
            None,
        ]
        assert report.domains[0].cap == 0.1
        assert report.domains[0].epochs == pytest.approx(0.1 * 1e9 / world.tokens[0])

    def test_a_group_that_binds_goes_by_its_label_and_the_inner_one_first(self) -> None:
        groups = (
            GroupBound(domains=("d0", "d1", "d2", "d3"), max=1.0),
            GroupBound(domains=("d0", "d1", "d2"), max=0.8),
            GroupBound(domains=("d0", "d1"), min=0.5),
        )
        problem = world_of().problem((4, 8), constraints=Constraints(groups=groups))
        assert [d.binding for d in self.fixed(problem, (0.3, 0.2, 0.3, 0.2)).domains] == [
            "the bound on d0 + d1, at least 0.5 together",
            "the bound on d0 + d1, at least 0.5 together",
            "the bound on d0 + d1 + d2, at most 0.8 together",
            None,
        ]

    def test_a_limit_on_active_domains_that_binds_is_said_once(self) -> None:
        def notes(shares: tuple[float, ...], **constraints: object) -> list[str]:
            limit = Constraints.model_validate({"max_active": 2, **constraints})
            problem = world_of().problem((4, 8), constraints=limit)
            return [n for n in self.fixed(problem, shares).notes if "max_active" in n]

        assert notes((0.5, 0.5, 0, 0)) == [
            "max_active = 2 binds: as many domains have a share as may have one, and 2 more could"
        ]
        assert notes((1.0, 0, 0, 0)) == []
        rest = {"d2": {"max": 0.0}, "d3": {"max": 0.0}}
        assert notes((0.5, 0.5, 0, 0), bounds=rest) == []

    @staticmethod
    def fixed(problem: SearchProblem, shares: tuple[float, ...]) -> Report:
        """The report of an answer with these shares."""
        predicted = {e: Interval(mean=1, low=1, high=1) for e in problem.eval_sets}
        answer = Recommendation(
            mixture=Mixture.from_shares(problem.names, shares),
            predicted=predicted,
            gain={"baseline": Interval(mean=0.1, low=0.05, high=0.2)},
            chance_of_beating={"baseline": 0.9},
        )
        return report_of(problem, History(), answer)

    def test_no_chance_in_a_verdict_is_certain(self) -> None:
        world = world_of()
        problem = world.problem((4, 8))
        unsure = Interval(mean=1.0, low=0.9, high=1.1)
        answer = Recommendation(
            mixture=problem.uniform,
            predicted=dict.fromkeys(problem.eval_sets, unsure),
            gain={"baseline": unsure},
            chance_of_beating={"baseline": 0.9999},
        )
        predicted = report_of(problem, History(), answer)
        assert "chance over 99.9%). It has not been verified" in predicted.verdict
        history = with_losses(
            verify(world, problem, History(), answer),
            lambda o, _, loss: {
                "nats": loss.bytes * (1 if o.label == "recommended" else 2) * (1 + 1e-12 * o.seed)
            },
        )
        assert ", chance over 99.9%), verified" in report_of(problem, history, answer).verdict

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
        worse = with_losses(
            history,
            lambda o, _, loss: {
                "nats": loss.nats
                * (1 + shift * (o.purpose == "verify" and o.label == "recommended"))
            },
        )
        report = report_of(problem, worse, answer)
        assert words in report.verdict
