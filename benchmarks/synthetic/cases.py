"""The problems: what the laws look like, how much noise, and what the low rungs are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.synthetic.text import text_world
from cuvee.engine.problems import World, interaction_world, log_linear_world, power_world
from cuvee.engine.space.simplex import Array
from cuvee.records import Observation, Proposal, SearchProblem
from cuvee.spec import StrategyName

__all__ = ["CASES", "TEXT", "Case", "Searchable"]

TEXT = "n-gram models of text, 6 domains"
"""The case that needs a prepared corpus."""


class Searchable(Protocol):
    """A world to search: measurements of runs, and the truth to judge the answer by."""

    @property
    def names(self) -> tuple[str, ...]:
        """The domains."""

    @property
    def optimum(self) -> Array:
        """The best mixture."""

    def objective(self, p: Array, rung: int = -1) -> float:
        """The true objective at a rung, the target unless said, bits per byte."""

    def observe(self, proposal: Proposal, run_id: str) -> Observation:
        """What a run measures."""

    def problem(
        self,
        runs: tuple[int, ...],
        *,
        strategy: StrategyName,
        seed: int,
        costs: tuple[float, ...],
    ) -> SearchProblem:
        """The job."""


@dataclass(frozen=True)
class Case:
    """A problem and what may be spent on it.

    Attributes:
        build: A world by its seed.
        runs: Most runs by rung, the last the target. The cheap rung has what RegMix's trees, which
            cannot split fewer than 40, need.
        costs: Of one run, by rung, in units of one at the target.
        budgets: When an answer is asked for, same unit.
    """

    build: Callable[[int], Searchable]
    runs: tuple[int, ...]
    costs: tuple[float, ...] = (0.01, 1.0)
    budgets: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)


def _log_linear(seed: int, m: int, active: int, sets: int, noise: tuple[float, ...]) -> World:
    """The optimum has ``active`` domains, drawn evenly from the simplex over them."""
    rng = np.random.default_rng(seed)
    optimum = np.zeros(m)
    optimum[rng.permutation(m)[:active]] = rng.dirichlet(np.full(active, 2.0))
    return log_linear_world(rng, optimum, noise=noise, weights=np.ones(sets))


_NOISE = (0.01, 0.01)

CASES: dict[str, Case] = {
    "optimum inside, 5 domains": Case(lambda s: _log_linear(s, 5, 5, 5, _NOISE), (80, 8)),
    "optimum on a face, 8 domains": Case(lambda s: _log_linear(s, 8, 4, 8, _NOISE), (80, 8)),
    "interactions, 6 domains": Case(
        lambda s: interaction_world(np.random.default_rng(s), 6, noise=_NOISE), (80, 8)
    ),
    "steep faces, 3 domains": Case(
        lambda s: power_world(np.random.default_rng(s), 3, noise=_NOISE), (64, 8)
    ),
    "noise of 0.05, 6 domains": Case(
        lambda s: power_world(np.random.default_rng(s), 6, noise=(0.05, 0.05)), (80, 8)
    ),
    "biased low rung, 6 domains": Case(
        lambda s: power_world(np.random.default_rng(s), 6, noise=_NOISE, low="biased"), (80, 8)
    ),
    "useless low rung, 6 domains": Case(
        lambda s: power_world(np.random.default_rng(s), 6, noise=_NOISE, low="useless"), (80, 8)
    ),
    "three rungs, 6 domains": Case(
        lambda s: power_world(np.random.default_rng(s), 6, noise=(0.01, 0.01, 0.01)),
        (80, 6, 8),
        (0.001, 0.06, 1.0),
    ),
    "17 domains": Case(lambda s: _log_linear(s, 17, 6, 8, _NOISE), (96, 8)),
    "100 domains": Case(lambda s: _log_linear(s, 100, 10, 5, _NOISE), (128, 8)),
}


def with_text(corpora: Path) -> dict[str, Case]:
    """The cases and, from a folder with one prepared corpus, the n-gram models of its text."""
    return CASES | {TEXT: Case(lambda s: text_world(corpora, s), (80, 8))}
