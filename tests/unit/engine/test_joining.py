"""Earlier runs that are taken for this job's: rung by rung, by this job's runs, and none else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cuvee.engine.answer.calibration import calibrate
from cuvee.engine.answer.fit_records import reuse_summaries, set_fits
from cuvee.engine.evidence.joining import joined
from cuvee.engine.evidence.table import Table
from cuvee.engine.goal import Goal
from cuvee.engine.problems import World, interaction_world, log_linear_world, power_world
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.belief import Belief
from cuvee.engine.surrogates.fitted import Fits
from cuvee.engine.surrogates.log_linear import LogLinear
from cuvee.engine.surrogates.power import Power
from cuvee.mixture import Mixture
from cuvee.records import EarlierRun, History, Proposal
from cuvee.spec import WarmStart

NOISE = (0.01, 0.01)
BEFORE = (40, 16)  # runs of the earlier job by rung


def a_world(kind: str, seed: int, domains: int = 6) -> World:
    rng = np.random.default_rng(seed)
    if kind == "log-linear":
        return log_linear_world(rng, rng.dirichlet(np.full(domains, 2.0)), noise=NOISE)
    if kind == "interaction":
        return interaction_world(rng, domains, noise=NOISE)
    return power_world(rng, domains, noise=NOISE)


def altered(world: World, domain: int, rungs: tuple[int, ...] = (0, 1)) -> World:
    """A domain was other text: at some rungs it helped each set as much as it now helps another."""
    t = world.t.copy()
    for rung in rungs:
        t[rung, :, domain] = np.roll(t[rung, :, domain], 1)
    return replace(world, t=t)


def the_runs(
    now: World,
    *before: World,
    own: tuple[int, int] = (15, 6),
    seed: int = 0,
    little: int | None = None,
    shift: float = 0.0,
) -> Runs:
    """Uniform runs of a job and of earlier ones; ``little`` names a domain of small own shares."""
    parts, levels, tasks = [], [], []
    for task, world in enumerate((now, *before)):
        rng = np.random.default_rng([seed, min(task, 1)])
        for rung, count in enumerate(own if task == 0 else BEFORE):
            x = rng.dirichlet(np.ones(len(world.names)), count)
            if task == 0 and little is not None:
                x[:, little] = 0.0
                x *= 0.97 / x.sum(axis=1, keepdims=True)
                x[:, little] = 1 - x.sum(axis=1)
            y = np.array([world.losses(p, rung) for p in x]).reshape(count, -1)
            y = y + rng.normal(scale=0.01, size=y.shape) + shift * (task > 0)
            parts.append((x, y))
            levels += [rung] * count
            tasks += [task] * count
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Runs.of(x, y, levels, rungs=2, task=np.array(tasks, dtype=np.intp))


def at(runs: Runs, task: int = 1) -> tuple[int, ...]:
    """The rungs at which an earlier task's runs were taken for this job's."""
    before, after = runs.task, joined(runs).task
    rungs = range(runs.rungs)
    return tuple(r for r in rungs if not np.any(after[(before == task) & (runs.rung == r)]))


class TestWorlds:
    @pytest.mark.parametrize("kind", ["power", "log-linear"])
    def test_altered_text_stays_apart_where_it_was_altered(self, kind: str) -> None:
        found = []
        for seed in range(2):
            now = a_world(kind, seed)
            j = int(np.argmax(now.optimum))
            assert at(the_runs(now, altered(now, j), seed=seed)) == ()
            # At the target only: 15 cheap runs that agree say nothing of it.
            half = the_runs(now, altered(now, j, (1,)), seed=seed)
            assert 1 not in at(half)
            found.append(at(half))
        assert (0,) in found  # a task may be this job's at one rung and its own at another

    def test_what_is_joined_in_spite_of_altered_text_makes_no_law_much_worse(self) -> None:
        """No power law holds where domains interact: what it misses hides an alteration."""
        p = np.random.default_rng(7).dirichlet(np.ones(6), 200)
        now = a_world("interaction", 0)
        true = np.array([now.objective(q) for q in p])
        runs = the_runs(now, altered(now, int(np.argmax(now.optimum))))
        assert at(runs) != ()
        errors = []
        for some in (joined(runs), runs):
            said = Power().fit(some).mean(p, 1) @ now.weights
            errors.append(float(np.sqrt(np.mean((said - true) ** 2))))
        assert errors[0] <= 1.15 * errors[1]

    @pytest.mark.parametrize("kind", ["power", "log-linear"])
    def test_the_same_text_is_this_jobs_as_a_rule(self, kind: str) -> None:
        worlds = [a_world(kind, seed) for seed in range(3)]
        found = [at(the_runs(now, now, own=(15, 10), seed=s)) for s, now in enumerate(worlds)]
        assert sum(map(len, found)) >= 4  # of three worlds' two rungs

    def test_text_altered_where_this_job_has_next_to_nothing_is_not_judged(self) -> None:
        for seed in range(2):
            now = a_world("power", seed)
            j = int(np.argmax(now.optimum))
            assert at(the_runs(now, altered(now, j), own=(40, 16), seed=seed, little=j)) == ()
            assert at(the_runs(now, now, own=(40, 16), seed=seed, little=j)) == ()


class TestRules:
    NOW = a_world("power", 0)

    def test_levels_are_made_equal_and_own_runs_stay_as_they_are(self) -> None:
        plain = the_runs(self.NOW, self.NOW, own=(15, 10))
        moved = the_runs(self.NOW, self.NOW, own=(15, 10), shift=0.3)
        assert at(plain) == at(moved) == (0, 1)
        np.testing.assert_allclose(joined(moved).y, plain.y, atol=0.03)
        np.testing.assert_array_equal(joined(moved).y[:25], plain.y[:25])

    def test_a_task_that_never_had_a_domain_stays_one(self) -> None:
        runs = the_runs(self.NOW, self.NOW, own=(15, 10))
        x = runs.x.copy()
        x[runs.task == 1, 3] = 0.0
        x /= x.sum(axis=1, keepdims=True)
        assert at(replace(runs, x=x)) == ()

    def test_too_few_runs_of_a_rung_decide_nothing_there(self) -> None:
        assert at(the_runs(self.NOW, self.NOW, own=(15, 3))) == (0,)

    def test_a_task_without_a_measured_loss_stays_one(self) -> None:
        runs = the_runs(self.NOW, self.NOW, own=(15, 10))
        variance = np.where(runs.task[:, None] == 1, 1e4, runs.variance)
        silent = replace(runs, variance=np.broadcast_to(variance, runs.y.shape).copy())
        assert at(silent) == ()

    def test_the_names_of_earlier_jobs_change_no_bit(self) -> None:
        now = a_world("power", 2)
        bad = altered(now, int(np.argmax(now.optimum)))
        mild = replace(now, t=0.9 * now.t + 0.1 * bad.t)
        one = the_runs(now, now, mild, seed=2)
        first, second = (np.flatnonzero(one.task == task) for task in (1, 2))
        order = np.r_[np.flatnonzero(one.task == 0), second, first]
        other = replace(one.where(order), task=np.array([0, 2, 1])[one.task[order]])
        here, there = joined(one), joined(other)
        assert here.y[order].tobytes() == there.y.tobytes()
        np.testing.assert_array_equal(here.task[order] == 0, there.task == 0)
        assert np.any(here.task < one.task)  # something joins, and as it would without the other
        for task in (1, 2):
            alone = one.where((one.task == 0) | (one.task == task))
            assert at(replace(alone, task=np.minimum(alone.task, 1))) == at(one, task)


def the_table(target_altered: bool) -> Table:
    """A search of 15 cheap and 4 target runs behind a job of 40 and 16; the laws know no task."""
    now = a_world("power", 0, 4)
    before = altered(now, int(np.argmax(now.optimum)), (1,)) if target_altered else now
    problem = now.problem((20, 20), strategy="mixing_law")
    spec = problem.spec.model_copy(update={"warm_start": WarmStart(jobs=("before",))})
    problem = problem.model_copy(update={"spec": spec})
    rng = np.random.default_rng(1)

    def drawn() -> Mixture:
        return Mixture.from_shares(now.names, rng.dirichlet(np.ones(4)).tolist())

    own = tuple(
        now.observe(Proposal(mixture=drawn(), rung=int(i >= 15), seed=i, reason=""), f"o{i}")
        for i in range(19)
    )
    earlier = []
    for i in range(sum(BEFORE)):
        rung, mixture = int(i >= BEFORE[0]), drawn()
        earlier.append(
            EarlierRun(
                source="before",
                run_id=f"e{i}",
                rung=problem.rungs[rung],
                same_corpus=True,
                mixture=mixture,
                seed=100 + i,
                losses=before.measure(mixture, rung, 100 + i),
            )
        )
    return Table.build(problem, History(observations=own, earlier=tuple(earlier)))


class TestCounted:
    """What a reader is told of is this search's runs, whatever was fitted."""

    def test_errors_and_calibration_are_of_this_searchs_runs(self) -> None:
        table = the_table(target_altered=False)
        fits = Fits(table)
        belief = fits.belief
        assert belief is not None
        assert not np.any(table.runs.task)  # 56 earlier runs are taken for its own
        assert {fit.runs for fit in set_fits(table, fits, belief)} == {4}
        left = belief.loo()
        assert left.rung == 0  # four target runs are too few to judge by
        np.testing.assert_array_equal(left.rows, np.arange(15))
        calibration = calibrate(belief, left)
        assert calibration is not None
        assert len(calibration.measured) == 15

    def test_correlation_and_inflation_are_of_all_and_without_earlier_runs_nothing_changes(
        self,
    ) -> None:
        runs = the_runs(TestRules.NOW, own=(15, 12))
        model, goal = Power().fit(runs), Goal(np.full(6, 1 / 6))
        every, own, some = (Belief.of(model, goal, n) for n in (None, len(runs), 20))
        assert own.inflation == every.inflation == some.inflation
        assert own.correlation.tobytes() == every.correlation.tobytes()
        assert own.loo().se.tobytes() == every.loo().se.tobytes()
        np.testing.assert_array_equal(own.loo().rows, every.loo().rows)
        np.testing.assert_array_equal(some.loo().rows, np.arange(15))

    def test_a_source_joined_at_one_rung_is_counted_for_that(self) -> None:
        table = the_table(target_altered=True)
        (summary,) = reuse_summaries(table, LogLinear().fit(table.runs))
        assert (summary.used, summary.dropped) == (40, 16)
        assert summary.reasons[0].startswith("16 as the strategy's surrogate can not tell")
