"""Earlier runs told in a job's domains: what is used, as which task, and what is dropped."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.answer import ReuseSummary
from cuvee.engine.answer.fit_records import reuse_summaries
from cuvee.engine.answer.recommend import recommend
from cuvee.engine.evidence.reuse import Earlier, alarms, express
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import World, power_world
from cuvee.engine.propose import propose
from cuvee.engine.surrogates.multi_fidelity import MultiFidelityGp, MultiFidelityModel
from cuvee.engine.surrogates.registry import SURROGATES
from cuvee.mixture import Mixture
from cuvee.records import EarlierRun, EvalLoss, History, Proposal, SearchProblem
from cuvee.spec import NgramRung, ProxyRung, Rung, WarmStart

DOMAINS = ("d0", "d1", "d2")


def a_world(domains: int = 3) -> World:
    return power_world(np.random.default_rng(1), domains)


def a_problem(splits: Mapping[str, Mapping[str, float]] | None = None) -> SearchProblem:
    problem = a_world().problem((10, 10))
    warm = WarmStart(jobs=("before",), splits={k: dict(v) for k, v in (splits or {}).items()})
    return problem.model_copy(update={"spec": problem.spec.model_copy(update={"warm_start": warm})})


def a_loss(bits: float) -> EvalLoss:
    return EvalLoss(nats=bits * math.log(2) * 1000, nats_se=math.log(2), tokens=250, bytes=1000)


def a_run(
    number: int = 0, mixture: Mapping[str, float] | None = None, **fields: object
) -> EarlierRun:
    values: dict[str, object] = {
        "source": "before",
        "run_id": f"e{number}",
        "rung": NgramRung(runs=99),
        "same_corpus": True,
        "mixture": Mixture.from_weights(mixture or {"d0": 1 + number, "d1": 2, "d2": 3}),
        "seed": number,
        "losses": {name: a_loss(2.0 + number / 10) for name in DOMAINS},
    }
    return EarlierRun.model_validate(values | fields)


def told(problem: SearchProblem, *runs: EarlierRun) -> Earlier:
    return express(problem, History(earlier=runs), DOMAINS, DOMAINS)


class TestDomains:
    def test_the_same_names_are_the_same_domains(self) -> None:
        found = told(a_problem(), *(a_run(i) for i in range(5)))
        expected = [[(1 + i) / (6 + i), 2 / (6 + i), 3 / (6 + i)] for i in range(5)]
        np.testing.assert_allclose(sorted(found.x.tolist()), expected)
        (summary,) = found.summaries
        assert (summary.used, summary.expressed, summary.dropped) == (5, 0, 0)
        assert summary.trust is None

    def test_a_domain_that_was_split_is_shared_out(self) -> None:
        problem = a_problem({"web": {"d0": 3, "d1": 1}})
        runs = [a_run(i, {"web": 0.4, "d1": 0.1, "d2": 0.5}) for i in range(4)]
        found = told(problem, *runs)
        np.testing.assert_allclose(found.x, [[0.3, 0.2, 0.5]] * 4)
        assert found.summaries[0].expressed == 4

    def test_a_split_may_keep_its_name_and_domains_may_be_merged(self) -> None:
        problem = a_problem({"d0": {"d0": 0.5, "d1": 0.5}, "old": {"d2": 1.0}})
        runs = [a_run(i, {"d0": 0.2, "old": 0.3, "d2": 0.5}) for i in range(4)]
        np.testing.assert_allclose(told(problem, *runs).x, [[0.1, 0.1, 0.8]] * 4)

    def test_a_new_domain_had_nothing_and_one_that_is_gone_next_to_nothing(self) -> None:
        runs = [a_run(i, {"d0": 0.5995, "d1": 0.4, "gone": 0.0005}) for i in range(4)]
        found = told(a_problem(), *runs)
        np.testing.assert_allclose(found.x, [[0.5995 / 0.9995, 0.4 / 0.9995, 0.0]] * 4)
        assert found.summaries[0].expressed == 4

    def test_a_run_with_text_that_is_gone_is_dropped_with_the_reason(self) -> None:
        runs = [a_run(i) for i in range(4)]
        foreign = [a_run(9 + i, {"d0": 0.5, "gone": 0.5}) for i in range(2)]
        found = told(a_problem(), *runs, *foreign)
        (summary,) = found.summaries
        assert len(found.x) == summary.used == 4
        assert summary.dropped == 2
        assert summary.reasons == ("2 with text of gone, which this job does not have",)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0.05, 0.95))
    def test_shares_are_kept_whole(self, weights: list[float], portion: float) -> None:
        weights[0] += 0.1
        old = Mixture.from_weights(dict(zip(("web", "d1", "d2"), weights, strict=True)))
        problem = a_problem({"web": {"d0": portion, "d1": 1 - portion}})
        found = told(problem, *(a_run(i, old.root) for i in range(4)))
        np.testing.assert_allclose(found.x.sum(axis=1), 1.0)
        np.testing.assert_allclose(found.x[0, 0], old["web"] * portion, atol=1e-12)
        np.testing.assert_allclose(found.x[0, 2], old["d2"], atol=1e-12)


class TestTasks:
    def test_a_rung_with_the_same_settings_is_that_rung_whatever_its_budget(self) -> None:
        proxy = ProxyRung(runs=3, parameters=100_000, tokens=1_000_000, cost=7.0)
        runs = [a_run(i) for i in range(4)] + [a_run(10 + i, rung=proxy) for i in range(4)]
        found = told(a_problem(), *runs)
        pairs = set(zip(found.task.tolist(), found.rung.tolist(), strict=True))
        assert pairs == {(1, 0), (1, 1)}
        assert found.sources == ("before",)

    @pytest.mark.parametrize(
        "rung", [NgramRung(order=3), ProxyRung(parameters=200_000, tokens=1_000_000)]
    )
    def test_other_settings_are_a_task_of_their_own(self, rung: Rung) -> None:
        runs = [a_run(i) for i in range(4)] + [a_run(10 + i, rung=rung) for i in range(4)]
        found = told(a_problem(), *runs)
        pairs = set(zip(found.task.tolist(), found.rung.tolist(), strict=True))
        assert pairs == {(1, 0), (2, 1)}
        assert found.sources == ("before", "before")

    def test_every_source_is_a_task(self) -> None:
        runs = [a_run(i, source=name) for name in ("b", "a") for i in range(4)]
        found = told(a_problem(), *runs)
        assert found.sources == ("a", "b")
        assert [s.source for s in found.summaries] == ["a", "b"]
        assert np.bincount(found.task).tolist() == [0, 4, 4]

    def test_a_task_of_a_few_runs_is_dropped(self) -> None:
        found = told(a_problem(), *(a_run(i) for i in range(3)))
        assert len(found.x) == 0
        assert found.summaries[0].dropped == 3
        assert "fewer than 4 usable runs" in found.summaries[0].reasons[0]

    def test_a_run_without_any_set_is_dropped_and_one_without_some_says_nothing_of_them(
        self,
    ) -> None:
        short = a_run(9, losses={"d0": a_loss(1.0)})
        other = a_run(8, losses={"else": a_loss(1.0)})
        found = told(a_problem(), *(a_run(i) for i in range(4)), short, other)
        (summary,) = found.summaries
        assert (summary.used, summary.dropped) == (5, 1)
        assert summary.reasons == (
            "1 without a loss on d0, d1, d2",
            "1 tell nothing of d1, d2, not measured then",
        )
        assert np.isnan(found.y).sum(axis=0).tolist() == [0, 1, 1]

    def test_the_loss_on_the_whole_stands_for_that_on_its_parts(self) -> None:
        problem = a_problem({"web": {"d0": 0.6, "d1": 0.4}})
        losses = {"web": a_loss(1.5), "d2": a_loss(3.0)}
        runs = [a_run(i, {"web": 0.5, "d2": 0.5}, losses=losses) for i in range(4)]
        np.testing.assert_allclose(told(problem, *runs).y, [[1.5, 1.5, 3.0]] * 4)

    def test_a_loss_that_was_not_measured_has_no_say(self) -> None:
        world, problem = a_world(), a_problem()
        rng = np.random.default_rng(0)
        own = tuple(
            world.observe(Proposal(mixture=drawn(rng, DOMAINS), rung=1, seed=i, reason=""), f"o{i}")
            for i in range(10)
        )
        losses = {"d0": a_loss(1.0), "d1": a_loss(1.1)}
        runs = tuple(a_run(i, losses=losses) for i in range(4))
        table = Table.build(problem, History(observations=own, earlier=runs))
        at = table.eval_sets.index("d2")
        assert table.runs.muted[10:, at].all()
        assert not np.delete(table.runs.muted, at, axis=1).any()
        assert not table.runs.muted[:10].any()
        p = rng.dirichlet(np.ones(3), 20)
        without = Table.build(problem, History(observations=own))
        warm, cold = (SURROGATES["default"].fit(t.runs) for t in (table, without))
        spread = cold.mean(p, 1)[:, at].std()
        np.testing.assert_allclose(
            warm.mean(p, 1)[:, at], cold.mean(p, 1)[:, at], atol=0.2 * spread
        )

    def test_runs_left_out_for_their_number_are_counted(self) -> None:
        history = History(earlier=tuple(a_run(i) for i in range(4)), left_out={"before": 7})
        (summary,) = express(a_problem(), history, DOMAINS, DOMAINS).summaries
        assert (summary.used, summary.dropped) == (4, 7)

    def test_measurements_keep_their_columns_and_errors(self) -> None:
        losses = {"d0": a_loss(1.0), "d1": a_loss(2.0), "d2": a_loss(3.0), "more": a_loss(9.0)}
        runs = [a_run(i, losses=losses, same_corpus=False) for i in range(4)]
        found = express(a_problem(), History(earlier=tuple(runs)), DOMAINS, ("d2", "d0", "d1"))
        np.testing.assert_allclose(found.y, [[3.0, 1.0, 2.0]] * 4)
        np.testing.assert_allclose(found.se, 1e-3)
        same = [a_run(i, losses=losses) for i in range(4)]
        # The same text's error is common to all runs: no noise of a difference.
        assert not np.any(express(a_problem(), History(earlier=tuple(same)), DOMAINS, ("d2",)).se)

    def test_the_order_of_the_runs_changes_no_bit(self) -> None:
        problem = a_problem({"d0": {"d0": 0.3, "d1": 0.7}})
        runs = [a_run(i, source=f"s{i % 2}") for i in range(12)]
        one, other = told(problem, *runs), told(problem, *runs[::-1])
        assert one.x.tobytes() == other.x.tobytes()
        assert one.y.tobytes() == other.y.tobytes()
        assert one.task.tobytes() == other.task.tobytes()

    def test_a_table_hands_them_on_behind_its_own_runs(self) -> None:
        world, problem = a_world(), a_problem()
        (first,) = propose(problem, History(), 0)
        own = world.observe(first, "own")
        runs = tuple(a_run(i, same_corpus=False) for i in range(4))
        history = History(observations=(own,), earlier=runs)
        table = Table.build(problem, history)
        assert len(table.shares) == 1
        assert table.runs.task.tolist() == [0, 1, 1, 1, 1]
        np.testing.assert_allclose(table.runs.x[0], table.shares[0])
        np.testing.assert_allclose(table.runs.variance[1:], 1e-6)


class TestTrust:
    def test_it_is_the_mean_over_the_runs_of_a_source(self) -> None:
        proxy = ProxyRung(runs=3, parameters=100_000, tokens=1_000_000)
        runs = [a_run(i) for i in range(12)] + [a_run(20 + i, rung=proxy) for i in range(4)]
        found = told(a_problem(), *runs, *(a_run(i, source="z") for i in range(4)))
        trust = np.array([[0.2, 1.0], [np.nan, np.nan]])
        assert [s.trust for s in found.trusted(trust)] == [pytest.approx(0.4), None]


class TestAlarms:
    def summary(self, **fields: object) -> ReuseSummary:
        return ReuseSummary.model_validate({"source": "before", "used": 9} | fields)

    def test_runs_that_foretell_the_target_poorly_are_named(self) -> None:
        (said,) = alarms([self.summary(trust=0.95), self.summary(trust=0.41, source="odd")])
        assert "earlier job odd foretell this job's target poorly" in said
        assert "0.41" in said

    def test_runs_that_were_of_no_use_are_named_with_the_reason(self) -> None:
        (said,) = alarms([self.summary(used=0, dropped=9, reasons=("9 without a loss on d0",))])
        assert said == "no run of the earlier job before was of use: 9 without a loss on d0"

    def test_a_strategy_that_cannot_learn_to_trust_says_so(self) -> None:
        world, problem = a_world(), a_problem()
        rng = np.random.default_rng(0)
        own = tuple(
            world.observe(Proposal(mixture=drawn(rng, DOMAINS), rung=1, seed=i, reason=""), f"o{i}")
            for i in range(6)
        )
        table = Table.build(
            problem, History(observations=own, earlier=tuple(a_run(i) for i in range(4)))
        )
        model = SURROGATES["log_linear"].fit(table.runs)
        (said,) = alarms(reuse_summaries(table, model))
        assert said.startswith("no run of the earlier job before was of use: 4 as the strategy's")


class TestWarmSearch:
    """One domain of a finished swarm is split in two; its runs are worth most of a new swarm."""

    SPLIT = {"d0": 0.6, "d5": 0.4}  # noqa: RUF012

    def history(
        self,
        world: World,
        problem: SearchProblem,
        runs: int,
        seed: int,
        altered: bool | None,
        before: int = 60,
    ) -> History:
        """``runs`` at random of this job, and unless ``altered`` is None, of the earlier one."""
        rng = np.random.default_rng(seed)
        own = tuple(
            world.observe(
                Proposal(mixture=drawn(rng, world.names), rung=1, seed=i, reason=""), f"own{i}"
            )
            for i in range(runs)
        )
        if altered is None:
            return History(observations=own)
        swarm = world
        if altered:  # d1 was other text: it helped each set as much as it now helps another
            t = world.t.copy()
            t[:, :, 1] = np.roll(t[:, :, 1], 1, axis=1)
            swarm = replace(world, t=t)
        earlier = []
        for i in range(before):
            mixture = drawn(rng, world.names[:-1])
            full = Mixture.from_weights(
                dict(mixture.root) | {n: mixture["d0"] * s for n, s in self.SPLIT.items()}
            )
            earlier.append(
                a_run(
                    i,
                    mixture.root,
                    rung=problem.rungs[-1],
                    losses=swarm.measure(full, 1, 1000 + i),
                )
            )
        return History(observations=own, earlier=tuple(earlier))

    def fitted(
        self, problem: SearchProblem, history: History
    ) -> tuple[Table, MultiFidelityModel, float | None]:
        table = Table.build(problem, history)
        model = MultiFidelityGp().fit(table.runs)
        trust = [s.trust for s in reuse_summaries(table, model)]
        return table, model, trust[0] if trust else None

    def test_the_answer_says_how_far_it_trusts_and_raises_the_alarm_for_altered_text(self) -> None:
        world = power_world(np.random.default_rng(0), 6, noise=(0.0, 0.01))
        problem = world.problem((1, 100), strategy="multi_fidelity")
        warm = WarmStart(jobs=("before",), splits={"d0": self.SPLIT})
        spec = problem.spec.model_copy(update={"warm_start": warm})
        problem = problem.model_copy(update={"spec": spec})
        trusted = []
        for altered in (False, True):
            history = self.history(world, problem, 10, 0, altered, before=25)
            found = recommend(problem, history, 0)
            (summary,) = found.reuse
            assert (summary.used, summary.expressed) == (25, 25)
            assert summary.trust is not None
            trusted.append(summary.trust)
            assert (
                any("foretell this job's target poorly" in note for note in found.notes) == altered
            )
        assert trusted[1] < trusted[0] - 0.1

    def test_three_eighths_of_the_runs_do_and_altered_text_is_trusted_less(self) -> None:
        regrets: dict[str, list[float]] = defaultdict(list)
        errors: dict[str, list[float]] = defaultdict(list)
        trusted: dict[str, list[float]] = defaultdict(list)
        cases = {"cold": (40, None), "few": (15, None), "warm": (15, False), "altered": (15, True)}
        for seed in range(4):
            world = power_world(np.random.default_rng(seed), 6, noise=(0.0, 0.01))
            problem = world.problem((1, 100))
            warm = WarmStart(jobs=("before",), splits={"d0": self.SPLIT})
            spec = problem.spec.model_copy(update={"warm_start": warm})
            problem = problem.model_copy(update={"spec": spec})
            p = np.random.default_rng(9).dirichlet(np.ones(6), 1000)
            for case, (runs, altered) in cases.items():
                table, model, trust = self.fitted(
                    problem, self.history(world, problem, runs, seed, altered)
                )
                order = [world.names.index(name) for name in table.domains]
                true = np.array([world.objective(q) for q in p])
                said = model.mean(p[:, order], 1) @ table.w
                errors[case].append(float(np.sqrt(np.mean((said - true) ** 2))))
                regrets[case].append(float(true[np.argmin(said)] - world.objective(world.optimum)))
                if trust is not None:
                    trusted[case].append(trust)
        error = {case: float(np.median(values)) for case, values in errors.items()}
        assert error["warm"] <= 1.2 * error["cold"]
        assert error["warm"] < 0.7 * error["few"]
        assert error["altered"] < 1.3 * error["few"]  # what is not trusted does little harm
        assert np.median(regrets["warm"]) <= np.median(regrets["cold"]) + 0.003
        assert all(
            bad < good - 0.1 for good, bad in zip(trusted["warm"], trusted["altered"], strict=True)
        ), trusted


def drawn(rng: np.random.Generator, names: tuple[str, ...]) -> Mixture:
    return Mixture.from_shares(names, rng.dirichlet(np.ones(len(names))).tolist())
