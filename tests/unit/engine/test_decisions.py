"""Stopping, and what no decision may hang on, on worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from decisions import with_losses, world_of

from cuvee.engine import propose, recommend, should_stop
from cuvee.engine.problems import World, log_linear_world, power_world, run_search
from cuvee.errors import EngineError
from cuvee.records import History, PendingRun


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


class TestHeldOutText:
    def test_its_sampling_error_is_common_to_all_runs_and_changes_no_decision(self) -> None:
        world = power_world(np.random.default_rng(3), 4, noise=(0.0, 0.01))
        problem = world.problem((16, 12), strategy="multi_fidelity")
        history = run_search(world, problem, seed=1)
        unsure = with_losses(history, lambda _, __, loss: {"nats_se": 0.05 * loss.nats})
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
        zero = with_losses(history, lambda _, name, __: {"nats": 0.0} if name == "d0" else {})
        assert recommend(problem, zero, 1).mixture is not None

    def test_a_run_that_does_not_fit_is_named(self) -> None:
        world = power_world(np.random.default_rng(1), 4, noise=(0.0, 0.005))
        problem = world.problem((40, 12), strategy="multi_fidelity")
        history = run_search(world, problem, seed=1)
        odd = next(o for o in history.observations if o.rung == 0 and o.label is None)
        wrong = with_losses(
            history, lambda o, _, loss: {"nats": 1.8 * loss.nats} if o == odd else {}
        )
        notes = recommend(problem, wrong, 1).notes
        assert any(odd.run_id in note and "set aside" in note for note in notes)
