"""The objective doctor: noise is found and demoted, useless rungs and repeated sets are named."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cuvee.answer import Diagnosis
from cuvee.engine.evidence import doctor
from cuvee.engine.evidence.anchors import LABEL
from cuvee.engine.problems import World, power_world
from cuvee.engine.propose import propose
from cuvee.records import EvalLoss, History, Observation, SearchProblem
from cuvee.spec import Doctor, Guardrail, JobSpec, Objective

DOMAINS = 5


def a_world(seed: int = 0, noise: tuple[float, ...] = (0.003, 0.01)) -> World:
    return power_world(np.random.default_rng(seed), DOMAINS, noise=noise, weights=np.ones(DOMAINS))


def a_problem(world: World, runs: tuple[int, ...] = (60, 60), **spec: object) -> SearchProblem:
    problem = world.problem(runs)
    return problem.model_copy(update={"spec": problem.spec.model_copy(update=spec)})


def shifted(observation: Observation, by: Mapping[str, float]) -> Observation:
    """The same run with some losses moved, bits per byte."""

    def moved(loss: EvalLoss, amount: float) -> EvalLoss:
        nats = max(1.0, loss.nats + amount * math.log(2) * loss.bytes)
        return loss.model_copy(update={"nats": nats})

    losses = {name: moved(loss, by.get(name, 0.0)) for name, loss in observation.losses.items()}
    return observation.model_copy(update={"losses": losses})


def opened(
    world: World,
    problem: SearchProblem,
    seed: int = 0,
    noise: Mapping[str, float] | None = None,
    noisy_rung: int = -1,
) -> History:
    """Run the anchors, with more noise on some sets at one rung."""
    rng, history = np.random.default_rng(seed), History()
    where = noisy_rung % len(problem.rungs)
    while not doctor.ready(problem, history):
        measured = []
        for i, proposal in enumerate(propose(problem, history, seed, 4)):
            run = world.observe(proposal, f"r{len(history.observations) + i:03d}")
            if proposal.rung == where:
                run = shifted(run, {e: s * rng.normal() for e, s in (noise or {}).items()})
            measured.append(run)
        history = History(observations=(*history.observations, *measured))
    return history


def diagnosed(problem: SearchProblem, history: History) -> Diagnosis:
    found = doctor.diagnose(problem, history)
    assert found is not None
    return found


def spread(world: World) -> list[float]:
    x = np.random.default_rng(9).dirichlet(np.ones(DOMAINS), 200)
    deviations: list[float] = np.array([world.losses(p, 1) for p in x]).std(axis=0).tolist()
    return deviations


class TestPlantedTrouble:
    def test_noisy_sets_are_demoted_and_the_others_are_not(self) -> None:
        caught, blamed = 0, 0
        for seed in range(12):
            world = a_world(seed)
            problem = a_problem(world, doctor=Doctor(anchors=6, repeats=4))
            planted = {"d0": 4 * spread(world)[0]}
            found = diagnosed(problem, opened(world, problem, seed, planted))
            verdicts = {s.eval_set: s.verdict for s in found.sets}
            caught += verdicts["d0"] != "good"
            blamed += sum(verdicts[e] != "good" for e in verdicts if e != "d0")
            if verdicts["d0"].startswith("drowned"):
                assert any("noise hides" in w and "d0" in w for w in found.warnings)
        assert caught >= 10
        assert blamed <= 2

    def test_a_rung_that_ranks_at_random_is_warned_of(self) -> None:
        world = a_world(1)
        problem = a_problem(world, doctor=Doctor(anchors=9, repeats=1))
        useless = dict.fromkeys(world.names, 30.0)
        found = diagnosed(problem, opened(world, problem, 3, useless, noisy_rung=0))
        assert found.objective is not None
        assert found.objective.agreement is not None
        assert found.objective.agreement.mean < doctor.DISAGREES
        assert any("may not rank mixtures as the target does" in w for w in found.warnings)

    def test_sets_that_say_the_same_are_clustered(self) -> None:
        world = a_world(2)
        problem = a_problem(world)
        history = opened(world, problem)
        twin = [
            o.model_copy(update={"losses": {**o.losses, "d3": o.losses["d1"]}})
            for o in history.observations
        ]
        found = diagnosed(problem, History(observations=tuple(twin)))
        by_name = {s.eval_set: s for s in found.sets}
        assert by_name["d1"].redundant_with == ("d3",)
        assert by_name["d3"].redundant_with == ("d1",)
        assert any("d1, d3 order the anchors alike" in w for w in found.warnings)

    def test_a_set_that_makes_up_the_composite_is_named(self) -> None:
        world = a_world(3)
        problem = a_problem(world)
        history = opened(world, problem)
        centre = float(np.mean([o.losses["d2"].bits_per_byte for o in history.observations]))
        blown = [
            shifted(o, {"d2": 9 * (o.losses["d2"].bits_per_byte - centre)})
            for o in history.observations
        ]
        found = diagnosed(problem, History(observations=tuple(blown)))
        by_name = {s.eval_set: s.dominance for s in found.sets}
        assert by_name["d2"] > 0.8
        assert math.isclose(sum(by_name.values()), 1.0)
        assert any(w.startswith("d2 makes up") for w in found.warnings)

    def test_only_sets_that_count_are_warned_of(self) -> None:
        world = a_world(4)
        alone = a_problem(world, objective=Objective(weights={"d1": 1.0}))
        problem = SearchProblem.build(alone.spec, world.manifest())
        planted = {"d0": 6 * spread(world)[0]}
        history = opened(world, problem, 5, planted)
        found = diagnosed(problem, history)
        assert found.sets[0].verdict != "good"
        assert not any("d0" in w for w in found.warnings)
        spec = problem.spec.model_copy(update={"guardrails": (Guardrail(eval_set="d0"),)})
        guarded = problem.model_copy(update={"spec": spec})
        assert any("d0" in w for w in diagnosed(guarded, history).warnings)


class TestAnchors:
    def test_both_ends_of_the_ladder_run_the_same_anchors_and_repeats(self) -> None:
        world = a_world(noise=(0.003, 0.005, 0.01))
        problem = a_problem(world, (60, 30, 60))
        history = opened(world, problem)
        by_rung = {
            rung: sorted(o.mixture.digest() for o in history.observations if o.rung == rung)
            for rung in range(3)
        }
        assert by_rung[0] == by_rung[2]
        assert len(set(by_rung[2])) == 6
        assert len(by_rung[2]) == 9
        assert len(by_rung[1]) == 2  # the references alone
        extra = [o for o in history.observations if o.label == LABEL]
        feasible = problem.feasible()
        assert all(feasible.violations(o.mixture) == [] for o in extra)

    @pytest.mark.parametrize("budget", [1, 2, 4, 8, 22, 60])
    def test_small_budgets_are_hardly_touched(self, budget: int) -> None:
        world = a_world()
        problem = a_problem(world, (12, budget))
        history = opened(world, problem)
        spent = sum(o.rung == 1 for o in history.observations)
        assert spent <= min(budget, 2 + max(1, budget // 6))
        assert (doctor.diagnose(problem, history) is None) == (budget < 12)

    def test_who_asks_for_none_gets_references_only(self) -> None:
        world = a_world()
        problem = a_problem(world, doctor=Doctor(anchors=0, repeats=0))
        history = opened(world, problem)
        assert sorted(o.label or "" for o in history.observations) == [
            "baseline", "baseline", "uniform", "uniform",
        ]  # fmt: skip

    def test_without_repeats_the_noise_is_not_known_and_that_is_said(self) -> None:
        world = a_world()
        problem = a_problem(world, doctor=Doctor(anchors=5, repeats=0))
        found = diagnosed(problem, opened(world, problem))
        assert {s.noise for s in found.sets} == {None}
        assert any("nothing is known of the noise" in w for w in found.warnings)

    def test_it_waits_for_pending_anchors_and_ignores_the_search_after_them(self) -> None:
        world = a_world()
        problem = a_problem(world)
        history = opened(world, problem)
        found = doctor.diagnose(problem, history)
        later = propose(problem, history, 0, 3)
        assert {q.label for q in later} == {None}
        more = tuple(world.observe(q, f"later{i}") for i, q in enumerate(later))
        assert (
            doctor.diagnose(problem, History(observations=(*more, *history.observations[::-1])))
            == found
        )
        first, *rest = history.observations
        waiting = propose(problem, History(observations=tuple(rest)), 0)[0]
        assert waiting.mixture.digest() == first.mixture.digest()
        assert not doctor.ready(problem, History(observations=tuple(rest)))


class TestEstimates:
    @pytest.mark.parametrize("kind", ["weighted_mean", "worst_excess"])
    def test_the_components_of_variance_are_those_of_the_books(self, kind: str) -> None:
        """A balanced layout, against scipy's F test: F = B / W."""
        world = a_world(6, noise=(0.003, 0.05))
        problem = a_problem(world, (60, 100), doctor=Doctor(anchors=4, repeats=0))
        if kind == "worst_excess":  # of sets that are near each other at the middle
            middle = world.losses(np.full(DOMAINS, 1 / DOMAINS), 1).tolist()
            reference = dict(zip(world.names, middle, strict=True))
            spec = problem.spec.model_dump() | {
                "objective": Objective(kind="worst_excess", reference=reference)
            }
            problem = SearchProblem.build(JobSpec.model_validate(spec), world.manifest())
        anchors = [o for o in opened(world, problem).observations if o.rung == 1]
        again = tuple(
            world.observe(
                propose(problem, History(), 0)[0].model_copy(
                    update={"mixture": o.mixture, "rung": 1, "seed": 100 + k, "label": o.label}
                ),
                f"{o.run_id}-{k}",
            )
            for o in anchors
            for k in range(3)
        )
        history = History(observations=again)
        found = diagnosed(problem, history)
        assert (found.anchors, found.repeats) == (4, 8)
        y = np.array([problem.objective(o.losses) for o in again]).reshape(4, 3)
        assert found.objective is not None
        assert found.objective.noise == pytest.approx(np.sqrt(y.var(axis=1, ddof=1).mean()))
        ratio = stats.f_oneway(*y).statistic
        assert found.objective.signal_to_noise == pytest.approx(np.sqrt((ratio - 1) / 3))

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=20),
        st.integers(1, 6),
        st.floats(1e-3, 1e3),
    )
    def test_moderated_variances_lie_between_what_they_come_from(
        self, values: list[float], freedom: int, scale: float
    ) -> None:
        raw = np.array(values)
        drawn = doctor.moderate(raw, freedom)
        assert np.all(np.isfinite(drawn))
        assert np.all(drawn > 0)
        assert np.all(np.diff(drawn[np.argsort(raw)]) >= -1e-9 * drawn.max())  # the order stays
        np.testing.assert_allclose(doctor.moderate(raw * scale, freedom), drawn * scale, rtol=1e-6)

    def test_moderated_variances_are_nearer_to_the_truth_than_raw_ones(self) -> None:
        rng = np.random.default_rng(0)
        raw_error, error = [], []
        for _ in range(200):
            true = 6 / rng.chisquare(6, size=10)
            raw = true * rng.chisquare(2, size=10) / 2
            raw_error.append(np.mean(np.log(raw / true) ** 2))
            error.append(np.mean(np.log(doctor.moderate(raw, 2) / true) ** 2))
        assert np.mean(error) < 0.5 * np.mean(raw_error)
