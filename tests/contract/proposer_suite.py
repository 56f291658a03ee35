"""What every proposing strategy must do, whatever it is good at.

A strategy's test module parametrises ``strategy`` and inherits the suite; see test_proposers.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from cuvee.engine import propose, should_stop
from cuvee.engine.problems import World, power_world, run_search
from cuvee.mixture import Mixture
from cuvee.records import History, Observation, PendingRun, Proposal, SearchProblem
from cuvee.spec import Bound, Constraints, GroupBound

CONSTRAINTS = {
    "free": Constraints(),
    "boxed": Constraints(bounds={"d0": Bound(min=0.05, max=0.3), "d2": Bound(max=0.2)}),
    "grouped": Constraints(
        bounds={"d1": Bound(max=0.4)},
        groups=(
            GroupBound(domains=("d0", "d1"), min=0.3, max=0.6),
            GroupBound(domains=("d2", "d4"), max=0.2),
        ),
    ),
    "scarce": Constraints(target_tokens=30_000_000, max_epochs=2.0),
}


def small_world(seed: int = 5, m: int = 5, noise: float = 0.01) -> World:
    return power_world(np.random.default_rng(seed), m, noise=(0.0, noise))


def pending(proposal: Proposal, run_id: str) -> PendingRun:
    return PendingRun(
        run_id=run_id,
        rung=proposal.rung,
        mixture=proposal.mixture,
        seed=proposal.seed,
        label=proposal.label,
    )


def at_the_target(world: World, problem: SearchProblem, runs: int) -> History:
    """A history with the lower rungs spent and ``runs`` target runs measured."""
    full = run_search(world, problem, seed=1)
    target = [o for o in full.observations if o.rung == problem.target]
    lower = [o for o in full.observations if o.rung != problem.target]
    return History(observations=(*lower, *target[:runs]))


class ProposerSuite:
    @pytest.fixture
    def strategy(self) -> str:
        raise NotImplementedError("the inheriting class names its strategy")

    @pytest.mark.parametrize("name", sorted(CONSTRAINTS))
    def test_proposals_are_feasible_but_for_labelled_references(self, strategy, name):
        world = small_world()
        problem = world.problem((8, 14), strategy=strategy, constraints=CONSTRAINTS[name])
        history = run_search(world, problem, seed=2)
        feasible = problem.feasible()
        assert sum(o.rung == 1 for o in history.observations) > 7
        for observation in history.observations:
            reference = observation.label in {"baseline", "natural", "uniform"}
            assert reference or not feasible.violations(observation.mixture)

    def test_a_rungs_budget_is_spent_and_never_exceeded(self, strategy):
        world = small_world()
        problem = world.problem((7, 9), strategy=strategy)
        history = run_search(world, problem, seed=2)
        lower, target = (sum(o.rung == r for o in history.observations) for r in (0, 1))
        assert lower <= 7
        assert target == 9
        assert propose(problem, history, seed=2, count=5) == ()
        assert should_stop(problem, history).stop

    @pytest.mark.parametrize("runs", [0, 3, 9, 11])
    def test_a_batch_is_distinct_from_itself_and_from_what_is_pending(self, strategy, runs):
        world = small_world()
        problem = world.problem((8, 24), strategy=strategy)
        history = at_the_target(world, problem, runs)
        first = propose(problem, history, seed=3, count=3)
        waiting = tuple(pending(q, f"p{i}") for i, q in enumerate(first))
        second = propose(
            problem, History(observations=history.observations, pending=waiting), seed=3, count=3
        )
        proposals = [*first, *second]
        keys = [(q.rung, q.mixture.digest(), q.seed) for q in proposals]
        assert len(set(keys)) == len(keys) == 6
        seen = {o.mixture.digest() for o in history.observations if o.rung == 1}
        fresh = [q.mixture.digest() for q in proposals if q.label is None]
        assert len(set(fresh)) == len(fresh)
        assert not seen & set(fresh)

    def test_the_same_seed_gives_the_same_bits_and_another_seed_other_points(self, strategy):
        world = small_world()
        problem = world.problem((8, 24), strategy=strategy)
        history = at_the_target(world, problem, 10)
        assert propose(problem, history, seed=4, count=3) == propose(
            problem, history, seed=4, count=3
        )
        one, two = (propose(problem, history, seed=s, count=3) for s in (4, 5))
        assert [q.mixture for q in one] != [q.mixture for q in two]

    @pytest.mark.parametrize("runs", [0, 5, 11])
    def test_the_order_of_the_history_changes_no_bit(self, strategy, runs):
        world = small_world()
        problem = world.problem((8, 24), strategy=strategy)
        history = at_the_target(world, problem, runs)
        expected = propose(problem, history, seed=6, count=3)
        rng = np.random.default_rng(0)
        for _ in range(3):
            order = rng.permutation(len(history.observations))
            shuffled = History(observations=tuple(history.observations[i] for i in order))
            assert propose(problem, shuffled, seed=6, count=3) == expected

    @pytest.mark.parametrize("runs", [0, 5, 11])
    def test_renaming_and_reordering_domains_only_renames_the_answer(self, strategy, runs):
        world = small_world()
        problem = world.problem((8, 24), strategy=strategy)
        history = at_the_target(world, problem, runs)
        names = dict(zip(world.names, ("zeta", "beta", "omega", "alpha", "mu"), strict=True))
        order = (3, 1, 4, 0, 2)
        renamed = renamed_problem(problem, names, order)
        expected = propose(problem, history, seed=7, count=3)
        got = propose(renamed, renamed_history(history, names, order), seed=7, count=3)
        assert [q.seed for q in got] == [q.seed for q in expected]
        for ours, theirs in zip(expected, got, strict=True):
            assert renamed_mixture(ours.mixture, names, order) == theirs.mixture

    def test_failed_runs_are_spent_and_not_tried_again(self, strategy):
        world = small_world()
        problem = world.problem((6, 14), strategy=strategy)
        history = History()
        failed: tuple[PendingRun, ...] = ()
        observed: tuple[Observation, ...] = ()
        for number in range(40):
            proposals = propose(problem, history, seed=8)
            if not proposals:
                break
            (proposal,) = proposals
            if number % 3 == 2:
                failed = (*failed, pending(proposal, f"r{number:03d}"))
            else:
                observed = (*observed, world.observe(proposal, f"r{number:03d}"))
            history = History(observations=observed, failed=failed)
        assert sum(run.rung == 1 for run in (*observed, *failed)) == 14
        repeats = {o.mixture.digest() for o in observed if o.rung == 1}
        lost = [f.mixture.digest() for f in failed if f.rung == 1 and f.label is None]
        assert not repeats & (set(lost) - {problem.baseline.digest()})
        assert should_stop(problem, history).stop

    def test_a_search_where_every_run_fails_ends(self, strategy):
        problem = small_world().problem((3, 6), strategy=strategy)
        history = History()
        for number in range(20):
            proposals = propose(problem, history, seed=9)
            if not proposals:
                break
            lost = tuple(pending(q, f"r{number}") for q in proposals)
            history = History(failed=(*history.failed, *lost))
        assert sum(run.rung == 1 for run in history.failed) == 6
        assert should_stop(problem, history).stop

    @pytest.mark.parametrize("m", [2, 3, 50])
    def test_few_and_many_domains_are_searched(self, strategy, m):
        world = small_world(m=m)
        problem = world.problem((4, 8), strategy=strategy)
        history = run_search(world, problem, seed=10)
        assert 6 <= sum(o.rung == 1 for o in history.observations) <= 8
        assert should_stop(problem, history).stop

    def test_a_single_feasible_mixture_ends_after_the_references(self, strategy):
        world = small_world(m=2)
        pinned = Constraints(bounds={"d0": Bound(min=0.4, max=0.4)})
        problem = world.problem((4, 8), strategy=strategy, constraints=pinned)
        history = run_search(world, problem, seed=11)
        assert all(o.label for o in history.observations if o.rung == 0)
        decision = should_stop(problem, history)
        assert decision.stop
        assert "single mixture" in decision.reason


def renamed_mixture(mixture: Mixture, names: dict[str, str], order: tuple[int, ...]) -> Mixture:
    old = list(names)
    return Mixture({names[old[j]]: mixture[old[j]] for j in order})


def renamed_history(history: History, names: dict[str, str], order: tuple[int, ...]) -> History:
    return History(
        observations=tuple(
            o.model_copy(
                update={
                    "mixture": renamed_mixture(o.mixture, names, order),
                    "losses": {names[e]: loss for e, loss in o.losses.items()},
                }
            )
            for o in history.observations
        )
    )


def renamed_problem(
    problem: SearchProblem, names: dict[str, str], order: tuple[int, ...]
) -> SearchProblem:
    old = problem.names
    return problem.model_copy(
        update={
            "names": tuple(names[old[j]] for j in order),
            "tokens": tuple(problem.tokens[j] for j in order),
            "eval_sets": tuple(names[old[j]] for j in order),
            "weights": tuple(problem.weights[j] for j in order),
            "natural": renamed_mixture(problem.natural, names, order),
            "uniform": renamed_mixture(problem.uniform, names, order),
            "baseline": renamed_mixture(problem.baseline, names, order),
        }
    )
