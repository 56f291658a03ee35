"""When a search stops, and in which words: on histories that were drawn, not searched."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cuvee.engine import recommend, should_stop
from cuvee.engine.problems import World, power_world
from cuvee.engine.space.simplex import Region
from cuvee.mixture import Mixture
from cuvee.records import History, Proposal, SearchProblem
from cuvee.spec import Bound, Constraints, Guardrail, Objective, Stopping


def a_world(seed: int = 1, m: int = 4, noise: float = 0.01) -> World:
    return power_world(np.random.default_rng(seed), m, noise=(0.0, noise))


def a_job(world: World, runs: tuple[int, ...], **changed: object) -> SearchProblem:
    spec = world.problem(runs, strategy="multi_fidelity").spec
    return SearchProblem.build(spec.model_copy(update=changed), world.manifest())


def drawn(world: World, problem: SearchProblem, runs: tuple[int, int]) -> History:
    """References, and feasible mixtures at random, measured at both rungs."""
    rng = np.random.default_rng(7)
    region = Region.of(problem.feasible())
    asked = []
    for rung, count in enumerate(runs):
        mixtures = [(problem.baseline, "baseline"), (problem.uniform, "uniform")]
        mixtures += [
            (Mixture.from_shares(world.names, p.tolist()), None)
            for p in region.sample(rng, count - 2)
        ]
        asked += [
            Proposal(mixture=p, rung=rung, seed=i, reason="", label=label)
            for i, (p, label) in enumerate(mixtures)
        ]
    return History(observations=tuple(world.observe(q, f"r{i:03d}") for i, q in enumerate(asked)))


def stop_with(problem: SearchProblem, **stopping: float) -> SearchProblem:
    spec = problem.spec.model_copy(update={"stopping": Stopping(**stopping)})
    return problem.model_copy(update={"spec": spec})


class TestWhatARunIsWorth:
    def test_what_a_run_must_gain_and_how_sure_it_must_be_are_the_users_to_say(self) -> None:
        world = a_world(noise=0.03)
        problem = a_job(world, (16, 40))
        history = drawn(world, problem, (16, 12))
        assert not should_stop(problem, history).stop
        dear = should_stop(stop_with(problem, least_gain=0.5), history)
        assert dear.stop
        assert dear.reason.startswith("not worth another run")
        assert "0.5 that stopping.least_gain asks" in dear.reason
        # Expected to gain more than that, but most likely not twice as much.
        gain = 0.97 * float(re.findall(r"gain ([\d.]+) bits", dear.reason)[0])
        sure = should_stop(stop_with(problem, least_gain=gain, certainty=0.501), history)
        assert sure.reason.startswith("certain enough")
        assert not should_stop(stop_with(problem, least_gain=gain, certainty=0.999), history).stop

    @pytest.mark.parametrize("strategy", ["mixing_law", "multi_fidelity"])
    def test_a_lower_price_never_stops_a_search_sooner(self, strategy: str) -> None:
        world = a_world()
        problem = a_job(world, (16, 40), strategy=strategy)
        history = drawn(world, problem, (16, 14))
        stops = [
            should_stop(stop_with(problem, least_gain=price), history).stop
            for price in (1e-9, 1e-3, 1e-2, 1.0)
        ]
        assert stops == sorted(stops)
        assert stops[0] is False
        assert stops[-1] is True


class TestMixingLaw:
    def test_it_is_certain_of_the_objective_that_the_job_has_and_of_no_other(self) -> None:
        world = a_world()
        means = a_job(world, (16, 40), strategy="mixing_law")
        history = drawn(world, means, (16, 14))
        assert should_stop(stop_with(means, least_gain=1e-3), history).stop
        # Little of the weighted mean, but all of this objective: the runs say less of its optimum.
        part = min(zip(means.weights, means.eval_sets, strict=True))[1]
        others = {e: 1.0 for e in means.eval_sets if e != part}
        for objective in (
            Objective(kind="worst_excess", reference={part: 0.1, **dict.fromkeys(others, 50.0)}),
            Objective(kind="pareto", parts={"one": {part: 1.0}, "others": others}),
        ):
            problem = a_job(world, (16, 40), strategy="mixing_law", objective=objective)
            decision = should_stop(stop_with(problem, least_gain=1e-3), history)
            assert not decision.stop, objective.kind
            dear = should_stop(stop_with(problem, least_gain=1.0), history)
            assert dear.stop
            assert "knowing the laws" not in dear.reason


BASELINE = {"d0": 0.55, "d1": 0.15, "d2": 0.15, "d3": 0.15}


class TestGuardrails:
    def guarded(self, max_increase: float) -> tuple[World, SearchProblem]:
        world = a_world()
        return world, a_job(
            world,
            (16, 40),
            baseline=BASELINE,
            constraints=Constraints(bounds={"d0": Bound(max=0.05)}),
            guardrails=(Guardrail(eval_set="d0", max_increase=max_increase),),
        )

    def test_a_search_for_what_no_mixture_keeps_stops_and_names_the_guardrail(self) -> None:
        world, problem = self.guarded(0.0)
        history = drawn(world, problem, (16, 12))
        decision = should_stop(problem, history)
        assert decision.stop
        assert "the guardrail on d0 can hardly be kept" in decision.reason
        answer = recommend(problem, history, 1)
        assert answer.mixture is None
        assert answer.refused is not None
        assert "keeps d0 within 0 bits per byte of the baseline" in answer.refused
        assert "Raise max_increase" in answer.refused

    def test_it_goes_on_while_a_mixture_may_keep_it(self) -> None:
        world, problem = self.guarded(
            0.24
        )  # the least increase is 0.25, which twelve runs do not tell
        decision = should_stop(problem, drawn(world, problem, (16, 12)))
        assert not decision.stop
