"""Suspect measurements: planted ones are found, honest ones stay."""

from __future__ import annotations

import numpy as np
import pytest

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.gp import Gp
from cuvee.engine.surrogates.multi_fidelity import MultiFidelityGp
from cuvee.engine.surrogates.screening import screen
from cuvee.errors import EngineError

M, E = 4, 2


def losses(p: Array) -> Array:
    inner = p @ np.random.default_rng(5).gamma(0.5, 1.0, (p.shape[1], E))
    return np.asarray(1.0 + (0.05 + inner) ** -0.4)


def runs_with(planted: dict[tuple[int, int], float], seed: int = 0, count: int = 60) -> Runs:
    rng = np.random.default_rng(seed)
    x = rng.dirichlet(np.ones(M), count)
    y = losses(x) + 0.01 * rng.normal(size=(count, E))
    for place, rise in planted.items():
        y[place] += rise
    return Runs.of(x, y)


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_measurements_are_muted(seed: int) -> None:
    planted = {(3, 0): 0.8, (17, 0): 1.5, (41, 0): 2.5, (8, 1): -0.7}
    runs = runs_with(planted, seed)
    found = screen(Gp(), runs)
    muted = {(int(row), int(e)) for row, e in np.argwhere(found.suspect)}
    assert set(planted) <= muted
    assert len(muted) <= 5  # of 116 honest ones the hardest to foresee may look suspect
    assert set(np.flatnonzero(found.rows)) <= {row for row, _ in muted}
    assert {17, 41} <= set(np.flatnonzero(found.rows))
    assert min(found.score[place] for place in planted) > 5
    p = np.random.default_rng(9).dirichlet(np.ones(M), 100)

    def error(y: Array) -> float:
        return float(np.abs(y - losses(p)).mean())

    clean = error(Gp().fit(runs_with({}, seed)).mean(p, 0))
    dirty = error(Gp().fit(runs).mean(p, 0))
    assert error(found.model.mean(p, 0)) < 1.3 * clean < 0.7 * dirty


@pytest.mark.parametrize("seed", range(3))
def test_clean_runs_are_left_alone(seed: int) -> None:
    found = screen(Gp(), runs_with({}, seed))
    assert np.count_nonzero(found.suspect) <= 2  # of 120
    assert not found.rows.any()
    assert np.array_equal(found.runs.y, runs_with({}, seed).y)


def test_no_more_than_one_in_twenty() -> None:
    planted = {(i, 0): 1.0 + 0.3 * i for i in range(0, 60, 8)}
    found = screen(Gp(), runs_with(planted))
    assert np.all(found.suspect.sum(axis=0) <= 3)
    few = screen(Gp(), runs_with({(2, 0): 3.0}, count=19))
    assert not few.suspect.any()


def test_a_suspect_at_a_rung_of_few_runs_is_found_with_the_help_of_the_others() -> None:
    rng = np.random.default_rng(3)
    x = rng.dirichlet(np.ones(M), 58)
    rung = np.repeat([0, 1], [48, 10])
    y = np.where(rung[:, None] == 0, losses(x), 0.4 + 0.5 * losses(x))
    y += 0.005 * rng.normal(size=y.shape)
    y[52, 1] += 1.0
    found = screen(MultiFidelityGp(), Runs.of(x, y, rung))
    assert found.suspect[52, 1]
    assert np.count_nonzero(found.suspect) <= 2


def test_a_pair_that_agrees_is_evidence_and_not_suspect() -> None:
    """A repeat with the same surprising loss: two runs vouch for each other."""
    runs = runs_with({(3, 0): 0.8})
    x = np.concatenate([runs.x, runs.x[3:4]])
    y = np.concatenate([runs.y, runs.y[3:4] + 0.005])
    found = screen(Gp(), Runs.of(x, y))
    assert screen(Gp(), runs).suspect[3, 0]
    assert not found.suspect[3, 0]
    assert not found.suspect[60, 0]


def test_it_refuses_as_the_surrogate_does() -> None:
    with pytest.raises(EngineError, match="at the target"):
        screen(Gp(), runs_with({}, count=3))
