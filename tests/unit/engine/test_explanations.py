"""What the engine says of its proposals: words for every method, numbers where it has a belief."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import cuvee.engine
from cuvee.engine import propose
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.strategies import STRATEGIES
from cuvee.methods import method_words
from cuvee.mixture import Mixture
from cuvee.records import History, PendingRun, Proposal
from cuvee.spec import Doctor, StrategyName


def literals(node: ast.AST) -> set[str]:
    return {
        leaf.value
        for leaf in ast.walk(node)
        if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
    }


def methods(source: str) -> Iterator[set[str]]:
    """The names that a module gives to ``Explanation.method``, directly or by a helper."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id == "Explanation":
                yield from (literals(k.value) for k in node.keywords if k.arg == "method")
            if isinstance(called, ast.Attribute) and called.attr == "point":
                yield literals(node.args[2])  # ``Prospect.point``
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "method":
            chosen = node.value
            yield (
                literals(chosen.body) | literals(chosen.orelse)
                if isinstance(chosen, ast.IfExp)
                else literals(chosen)
            )


def test_every_method_that_the_engine_names_has_words() -> None:
    folder = Path(cuvee.engine.__file__).parent
    named = [names for path in folder.rglob("*.py") for names in methods(path.read_text())]
    emitted = set().union(*named)
    assert {"bridge", "repeat", "anchor", "verify", "entropy"} <= emitted
    # A strategy's name stands where it explains nothing itself; the default always does.
    emitted |= set(STRATEGIES) - {"multi_fidelity"}
    assert {name for name in emitted if method_words(name) == name} == set()


@pytest.mark.parametrize("strategy", ["admire", "single_fidelity_bo"])
def test_strategies_with_a_posterior_say_gain_and_uncertainty(strategy: StrategyName) -> None:
    world = power_world(np.random.default_rng(7), 3, noise=(0.0, 0.01))
    problem = world.problem((10, 20), strategy=strategy, costs=(0.02, 1.0))
    spec = problem.spec.model_copy(update={"doctor": Doctor(anchors=0, repeats=0)})
    problem = problem.model_copy(update={"spec": spec})
    shares = np.random.default_rng(8).dirichlet(np.ones(3), size=8)
    rows = np.concatenate([[problem.baseline.shares(world.names), [1 / 3] * 3], shares])
    runs = [
        world.observe(
            Proposal(
                mixture=Mixture.from_shares(world.names, row.tolist()), rung=rung, seed=i, reason=""
            ),
            f"r{rung}{i}",
        )
        for rung in (0, 1)
        for i, row in enumerate(rows)
    ]
    history = History(observations=tuple(runs))
    (q,) = propose(problem, history, seed=1)
    why = q.explanation
    assert why is not None
    assert why.uncertainty is not None
    assert why.predicted_gain is not None
    table = Table.build(problem, history)
    spread = float(np.ptp(table.goal.value(table.at(1)[1])))
    assert 0 < why.uncertainty < 2 * spread
    p = np.array(q.mixture.shares(world.names))
    measured = table.at(1)[0][np.argmin(table.goal.value(table.at(1)[1]))]
    truth = world.objective(np.array([measured[table.domains.index(n)] for n in world.names]))
    gain = truth - world.objective(p)
    assert why.predicted_gain == pytest.approx(gain, abs=4 * why.uncertainty + 0.02)
    if strategy == "single_fidelity_bo":
        # E max(0, N(d, s)) is at least d and at most max(d, 0) + s; the incumbent is uncertain too.
        assert why.expected_improvement == q.acquisition
        assert why.expected_improvement is not None
        assert max(why.predicted_gain, 0) / 2 < why.expected_improvement
        assert why.expected_improvement < max(why.predicted_gain, 0) + 2 * why.uncertainty
        busy = PendingRun(run_id="p", rung=1, mixture=q.mixture, seed=0)
        (following,) = propose(problem, history.model_copy(update={"pending": (busy,)}), seed=1)
        assert following.explanation is not None
        assert following.explanation.expected_improvement is None
