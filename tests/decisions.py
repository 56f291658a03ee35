"""What tests of the engine's decisions share: worlds, and what is done with a search of one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from cuvee.answer import Recommendation, Report
from cuvee.engine import build_report, plan_verification
from cuvee.engine.problems import World, power_world
from cuvee.records import EvalLoss, History, Observation, SearchProblem

__all__ = ["report_of", "verify", "with_losses", "with_spec", "world_of"]

_NOW = datetime(2030, 1, 1, tzinfo=UTC)


def world_of(seed: int = 1, m: int = 4, noise: float = 0.01) -> World:
    return power_world(np.random.default_rng(seed), m, noise=(0.0, noise))


def with_spec(problem: SearchProblem, **changed: object) -> SearchProblem:
    return problem.model_copy(update={"spec": problem.spec.model_copy(update=changed)})


def with_losses(
    history: History, change: Callable[[Observation, str, EvalLoss], dict[str, float]]
) -> History:
    """The same history with other fields in its losses: by run, evaluation set and loss."""
    changed = tuple(
        o.model_copy(
            update={
                "losses": {
                    name: loss.model_copy(update=change(o, name, loss))
                    for name, loss in o.losses.items()
                }
            }
        )
        for o in history.observations
    )
    return history.model_copy(update={"observations": changed})


def report_of(problem: SearchProblem, history: History, recommendation: Recommendation) -> Report:
    return build_report(
        problem,
        history,
        recommendation,
        job_id="job",
        name="a name",
        corpus_digest="digest",
        stop_reason="the budget is spent",
        created_at=_NOW,
        seed=0,
    )


def verify(
    world: World, problem: SearchProblem, history: History, recommendation: Recommendation
) -> History:
    """A history with the runs that verify a recommendation."""
    runs = plan_verification(problem, recommendation, 0)
    observed = tuple(world.observe(q, f"v{i}") for i, q in enumerate(runs))
    return History(observations=(*history.observations, *observed))
