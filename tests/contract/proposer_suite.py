"""What every proposing strategy must do, whatever it is good at.

A strategy's test module parametrises ``strategy`` and inherits the suite; see test_proposers.py.
Most cases share one measured history per strategy, whose fits the engine remembers by content.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from cuvee.engine import propose, should_stop
from cuvee.engine.problems import World, power_world, run_search
from cuvee.engine.propose import answer_mixture
from cuvee.mixture import Mixture
from cuvee.records import History, Observation, PendingRun, Proposal, SearchProblem
from cuvee.spec import Bound, Constraints, Doctor, GroupBound, Guardrail, Objective

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
    "sparse": Constraints(max_active=3),
}

OBJECTIVES: dict[str, dict[str, Any]] = {
    "guarded": {
        "guardrails": (
            Guardrail(eval_set="d1", max_increase=0.01),
            Guardrail(eval_set="d3", max_increase=0.05, chance=0.8),
        )
    },
    "worst_excess": {
        "objective": Objective(
            kind="worst_excess", reference={"d0": 2.0, "d1": 2.1, "d2": 1.9, "d4": 2.0}
        )
    },
    "pareto": {
        "objective": Objective(
            kind="pareto", parts={"one": {"d0": 1.0, "d1": 2.0}, "two": {"d2": 1.0, "d3": 1.0}}
        )
    },
}

FEW = {
    "one_active": Constraints(max_active=1),
    "a_half_and_a_choice": Constraints(bounds={"d0": Bound(min=0.5, max=0.5)}, max_active=2),
}

REFERENCES = {"baseline", "natural", "uniform"}


def small_world(seed: int = 5, m: int = 5, noise: float = 0.01) -> World:
    return power_world(np.random.default_rng(seed), m, noise=(0.0, noise))


def job(
    world: World, runs: tuple[int, ...], strategy: str, constraints: str = "free", **spec: Any
) -> SearchProblem:
    """A job whose anchors are its references and one repeat, whatever its constraints."""
    problem = world.problem(runs, strategy=strategy, constraints=CONSTRAINTS[constraints])  # type: ignore[arg-type]
    changed = problem.spec.model_copy(update={"doctor": Doctor(anchors=0, repeats=1), **spec})
    return SearchProblem.build(changed, world.manifest())


def pending(proposal: Proposal, run_id: str) -> PendingRun:
    return PendingRun(
        run_id=run_id,
        rung=proposal.rung,
        mixture=proposal.mixture,
        seed=proposal.seed,
        label=proposal.label,
    )


@lru_cache(maxsize=2)
def searched(strategy: str) -> tuple[World, SearchProblem, History]:
    """A whole search: 9 runs below the target, 12 at it."""
    world = small_world()
    problem = job(world, (9, 12), strategy)
    return world, problem, run_search(world, problem, seed=1)


def part(history: History, target_runs: int) -> History:
    """The runs below the target and some of those at it, as the search had them."""
    lower = [o for o in history.observations if o.rung == 0]
    target = [o for o in history.observations if o.rung == 1]
    return History(observations=(*lower, *target[:target_runs]))


def measured(world: World, lower: int = 9, target: int = 6) -> History:
    """References and random mixtures at two rungs, the same for every strategy."""
    rng = np.random.default_rng(17)
    names = world.names
    runs = []
    for rung, count in ((0, lower), (1, target)):
        natural = Mixture.from_weights(dict(zip(names, map(float, world.tokens), strict=True)))
        labelled = [(natural, "baseline"), (Mixture.uniform(names), "uniform")]
        labelled += [(natural, "baseline")] * (rung == 1)
        drawn = rng.dirichlet(np.ones(len(names)), size=count - len(labelled))
        labelled += [(Mixture.from_shares(names, row.tolist()), None) for row in drawn]
        runs += [
            Proposal(mixture=p, rung=rung, seed=i, reason="", label=label)
            for i, (p, label) in enumerate(labelled)
        ]
    return History(
        observations=tuple(world.observe(run, f"r{i:03d}") for i, run in enumerate(runs))
    )


class ProposerSuite:
    @pytest.fixture
    def strategy(self) -> str:
        raise NotImplementedError("the inheriting class names its strategy")

    @pytest.mark.parametrize("name", sorted(CONSTRAINTS))
    def test_proposals_are_feasible_but_for_labelled_references(self, strategy, name):
        world = small_world()
        problem = job(world, (12, 14), strategy, name)
        history = measured(world)
        feasible = problem.feasible()
        proposals = [*propose(problem, History(), seed=2), *propose(problem, history, 2, count=3)]
        for proposal in proposals:
            assert proposal.label in REFERENCES or not feasible.violations(proposal.mixture)
        assert sum(proposal.label is None for proposal in proposals) == 3
        assert not feasible.violations(answer_mixture(problem, history, seed=2))

    @pytest.mark.parametrize("name", sorted(OBJECTIVES))
    def test_every_kind_of_objective_is_searched(self, strategy, name):
        world = small_world()
        problem = job(world, (9, 14), strategy, **OBJECTIVES[name])
        history = measured(world)
        proposals = propose(problem, history, seed=2, count=2)
        assert len({proposal.mixture.digest() for proposal in proposals}) == 2
        answer = answer_mixture(problem, history, seed=2)
        assert not problem.feasible().violations(answer)
        assert propose(problem, history, seed=2, count=2) == proposals

    def test_a_rungs_budget_is_spent_and_never_exceeded(self, strategy):
        _, problem, history = searched(strategy)
        lower, target = (sum(o.rung == r for o in history.observations) for r in (0, 1))
        decision = should_stop(problem, history)
        assert lower <= 9
        assert target == 12 or "seeds" in decision.reason or "noise" in decision.reason
        assert propose(problem, history, seed=1, count=5) == ()
        assert decision.stop

    @pytest.mark.parametrize("runs", [0, 2, 6])
    def test_a_batch_is_distinct_from_itself_and_from_what_is_pending(self, strategy, runs):
        _, problem, full = searched(strategy)
        history = part(full, runs)
        first = propose(problem, history, seed=3, count=2)
        waiting = tuple(pending(q, f"p{i}") for i, q in enumerate(first))
        second = propose(
            problem, History(observations=history.observations, pending=waiting), seed=3, count=2
        )
        proposals = [*first, *second]
        assert all(q.explanation is not None and q.reason for q in proposals)
        keys = [(q.rung, q.mixture.digest(), q.seed) for q in proposals]
        assert len(set(keys)) == len(keys) == 4
        seen = {(o.rung, o.mixture.digest()) for o in history.observations}
        fresh = [(q.rung, q.mixture.digest()) for q in proposals if q.label is None]
        assert len(set(fresh)) == len(fresh)
        assert not seen & set(fresh)

    def test_the_same_seed_gives_the_same_bits_and_another_seed_other_points(self, strategy):
        world = small_world()
        problem = job(world, (9, 14), strategy)
        history = measured(world)
        one, two, three = (propose(problem, history, seed=s, count=2) for s in (4, 4, 5))
        assert one == two
        if strategy not in DETERMINED:
            assert [q.mixture for q in one] != [q.mixture for q in three]

    @pytest.mark.parametrize("runs", [0, 6])
    def test_the_order_of_the_history_changes_no_bit(self, strategy, runs):
        _, problem, full = searched(strategy)
        history = part(full, runs)
        expected = propose(problem, history, seed=6, count=2)
        answer = answer_mixture(problem, history, seed=6)
        rng = np.random.default_rng(0)
        for _ in range(2):
            order = rng.permutation(len(history.observations))
            shuffled = History(observations=tuple(history.observations[i] for i in order))
            assert propose(problem, shuffled, seed=6, count=2) == expected
            assert answer_mixture(problem, shuffled, seed=6) == answer

    def test_the_order_of_runs_that_wait_or_failed_changes_no_bit(self, strategy):
        _, problem, full = searched(strategy)
        done = part(full, 6).observations
        given = propose(problem, History(observations=done), seed=14, count=4)
        runs = [pending(q, f"w{i}") for i, q in enumerate(given)]
        one, two = tuple(runs[:2]), tuple(runs[2:])
        expected = propose(
            problem, History(observations=done, pending=one, failed=two), seed=6, count=2
        )
        shuffled = History(observations=done[::-1], pending=one[::-1], failed=two[::-1])
        assert propose(problem, shuffled, seed=6, count=2) == expected

    @pytest.mark.parametrize("runs", [0, 6])
    def test_renaming_and_reordering_domains_only_renames_the_answer(self, strategy, runs):
        world, problem, full = searched(strategy)
        history = part(full, runs)
        names = dict(zip(world.names, ("zeta", "beta", "omega", "alpha", "mu"), strict=True))
        order = (3, 1, 4, 0, 2)
        renamed = renamed_problem(problem, names, order)
        expected = propose(problem, history, seed=7, count=2)
        got = propose(renamed, renamed_history(history, names, order), seed=7, count=2)
        assert [q.seed for q in got] == [q.seed for q in expected]
        for ours, theirs in zip(expected, got, strict=True):
            assert renamed_mixture(ours.mixture, names, order) == theirs.mixture

    def test_bounds_groups_and_guardrails_are_renamed_with_their_domains(self, strategy):
        world = small_world()
        problem = job(world, (9, 14), strategy, "grouped", **OBJECTIVES["guarded"])
        history = measured(world)
        names = dict(zip(world.names, ("zeta", "beta", "omega", "alpha", "mu"), strict=True))
        order = (3, 1, 4, 0, 2)
        renamed = renamed_problem(problem, names, order)
        assert set(renamed.spec.constraints.bounds) == {"beta"}
        theirs = renamed_history(history, names, order)
        expected = propose(problem, history, seed=7, count=4)
        got = propose(renamed, theirs, seed=7, count=4)
        assert [renamed_mixture(q.mixture, names, order) for q in expected] == [
            q.mixture for q in got
        ]
        answer = answer_mixture(problem, history, seed=7)
        assert renamed_mixture(answer, names, order) == answer_mixture(renamed, theirs, seed=7)

    def test_failed_runs_are_spent_and_not_tried_again(self, strategy):
        world = small_world()
        problem = job(world, (4, 8), strategy)
        history = History()
        failed: tuple[PendingRun, ...] = ()
        observed: tuple[Observation, ...] = ()
        for number in range(20):
            proposals = propose(problem, history, seed=8)
            if not proposals:
                break
            (proposal,) = proposals
            if number % 3 == 2:
                failed = (*failed, pending(proposal, f"r{number:03d}"))
            else:
                observed = (*observed, world.observe(proposal, f"r{number:03d}"))
            history = History(observations=observed, failed=failed)
        assert sum(run.rung == 1 for run in (*observed, *failed)) == 8
        repeats = {o.mixture.digest() for o in observed if o.rung == 1}
        lost = [f.mixture.digest() for f in failed if f.rung == 1 and f.label is None]
        assert not repeats & (set(lost) - {problem.baseline.digest()})
        assert should_stop(problem, history).stop

    def test_repeated_runs_are_no_obstacle(self, strategy):
        world = small_world()
        problem = job(world, (12, 14), strategy)
        once = measured(world)
        again = tuple(
            o.model_copy(update={"run_id": f"s{i}", "seed": o.seed + 100})
            for i, o in enumerate(once.observations)
            if i % 5 == 0
        )
        history = History(observations=(*once.observations, *again))
        (proposal,) = propose(problem, history, seed=2)
        seen = {(o.rung, o.mixture.digest()) for o in history.observations}
        assert (proposal.rung, proposal.mixture.digest()) not in seen

    def test_a_search_where_every_run_fails_ends(self, strategy):
        problem = job(small_world(), (3, 6), strategy)
        history = History()
        for number in range(20):
            proposals = propose(problem, history, seed=9)
            if not proposals:
                break
            lost = tuple(pending(q, f"r{number}") for q in proposals)
            history = History(failed=(*history.failed, *lost))
        assert sum(run.rung == 1 for run in history.failed) == 6
        assert should_stop(problem, history).stop

    @pytest.mark.parametrize("m", [2, 50])
    def test_few_and_many_domains_are_searched(self, strategy, m):
        world = small_world(m=m)
        problem = job(world, (6, 9), strategy)
        history = measured(world, 6, 5)
        proposals = propose(problem, history, seed=10, count=2)
        assert len(proposals) == 2
        assert not problem.feasible().violations(answer_mixture(problem, history, seed=10))

    def test_a_single_feasible_mixture_ends_after_the_references(self, strategy):
        world = small_world(m=2)
        problem = job(world, (4, 8), strategy)
        pinned = Constraints(bounds={"d0": Bound(min=0.4, max=0.4)})
        spec = problem.spec.model_copy(update={"constraints": pinned})
        problem = SearchProblem.build(spec, world.manifest())
        history = run_search(world, problem, seed=11)
        assert all(o.label for o in history.observations)
        decision = should_stop(problem, history)
        assert decision.stop
        assert "single mixture" in decision.reason

    @pytest.mark.parametrize("name", sorted(FEW))
    def test_few_feasible_mixtures_are_each_run_and_then_the_search_ends(self, strategy, name):
        world = small_world(m=3)
        problem = job(world, (12, 20), strategy)
        spec = problem.spec.model_copy(update={"constraints": FEW[name]})
        problem = SearchProblem.build(spec, world.manifest())
        history = run_search(world, problem, seed=13)
        feasible = problem.feasible()
        inside = [o for o in history.observations if not feasible.violations(o.mixture)]
        at = [Counter(o.mixture.digest() for o in inside if o.rung == r) for r in (0, 1)]
        assert max(at[0].values(), default=0) <= 1
        assert len(history.observations) <= 16
        decision = should_stop(problem, history)
        assert decision.stop
        if "every mixture that the constraints allow" in decision.reason:
            assert len(at[1]) == (3 if name == "one_active" else 2)
            assert set(at[1].values()) == {2}
        else:
            assert strategy in ("multi_fidelity", "mixing_law")
        answer = answer_mixture(problem, history, seed=13)
        assert not feasible.violations(answer)

    def test_a_replay_proposes_and_answers_rows_of_its_pool(self, strategy):
        world = small_world()
        problem = job(world, (10, 8), strategy)
        rng = np.random.default_rng(3)
        pool = [np.round(rng.dirichlet(np.ones(5), size=n), 4) for n in (12, 8)]
        pool = [rows / rows.sum(axis=1, keepdims=True) for rows in pool]
        history = History()
        for number in range(20):
            proposals = propose(problem, history, seed=12, count=3, pool=pool)
            if not proposals:
                break
            bought = []
            for i, proposal in enumerate(proposals):
                shares = np.array(proposal.mixture.shares(problem.names))
                assert np.abs(pool[proposal.rung] - shares).max(axis=1).min() < 1e-5
                bought.append(world.observe(proposal, f"r{number:02d}{i}"))
            history = History(observations=(*history.observations, *bought))
        at = [[o.mixture.digest() for o in history.observations if o.rung == r] for r in (0, 1)]
        assert all(len(set(one)) == len(one) for one in at)
        assert len(at[1]) == 8 or should_stop(problem, history).stop
        answer = np.array(answer_mixture(problem, history, 12, pool).shares(problem.names))
        assert np.abs(pool[1] - answer).max(axis=1).min() < 1e-5


DETERMINED = {"olmix", "regmix"}
"""Strategies whose verification runs follow from what was measured, whatever the seed."""


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
    limits = problem.spec.constraints
    constraints = limits.model_copy(
        update={
            "bounds": {names[d]: limits.bounds[d] for d in old if d in limits.bounds},
            "groups": tuple(
                g.model_copy(update={"domains": tuple(names[d] for d in g.domains)})
                for g in limits.groups
            ),
        }
    )
    rails = tuple(
        g.model_copy(update={"eval_set": names[g.eval_set]}) for g in problem.spec.guardrails
    )
    spec = problem.spec.model_copy(update={"constraints": constraints, "guardrails": rails})
    return problem.model_copy(
        update={
            "spec": spec,
            "names": tuple(names[old[j]] for j in order),
            "tokens": tuple(problem.tokens[j] for j in order),
            "eval_sets": tuple(names[old[j]] for j in order),
            "weights": tuple(problem.weights[j] for j in order),
            "natural": renamed_mixture(problem.natural, names, order),
            "uniform": renamed_mixture(problem.uniform, names, order),
            "baseline": renamed_mixture(problem.baseline, names, order),
        }
    )
