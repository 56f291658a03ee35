"""Shadow prices against what relaxing a cap gains in a world whose optimum is a projection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quadratic_world import QuadraticModel, QuadraticWorld

from cuvee.answer import ShadowPrice
from cuvee.engine.answer.shadow import BILLION, round_tokens, shadow_prices
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.space.optima import Optima, descend, draw_optima, gather
from cuvee.engine.space.simplex import Region
from cuvee.engine.surrogates.belief import Belief
from cuvee.records import History
from cuvee.spec import Bound, Constraints

LENGTH = 100 * BILLION


def searched(
    seed: int,
    m: int = 5,
    runs: int = 20,
    bounds: dict[str, Bound] | None = None,
    length: int = LENGTH,
    **fixed: float,
) -> tuple[Table, Belief, QuadraticModel, Optima]:
    """Domains d0 and d1 have supply for a share of 0.1 in 4 epochs, the others for all."""
    rng = np.random.default_rng(seed)
    world = power_world(rng, m, noise=(0.0, 0.01))
    scarce = length // 40
    tokens = tuple(scarce + j if j < 2 else length for j in range(m))
    problem = replace(world, tokens=tokens).problem(
        (4, 4), constraints=Constraints(target_tokens=length, bounds=bounds or {})
    )
    table = Table.build(problem, History())
    quadratic = QuadraticWorld.draw(rng, m, m, **fixed)
    # The scarce domains help, so that their caps bind.
    pull = np.where(np.arange(m) < 2, 0.5, 0.0)
    quadratic = replace(quadratic, centre=quadratic.centre - pull, slope=quadratic.slope - pull)
    model = quadratic.fit(quadratic.measure(rng, rng.dirichlet(np.ones(m), size=runs)))
    belief = Belief(model, table.goal, 1.0, np.eye(m))
    best = descend(belief.mean, table.region, table.region.project(np.full(m, 1 / m)))
    cloud = gather(table.region, best, model.runs.x, rng, 64, 16)
    return table, belief, model, draw_optima(belief, table.region, best, cloud, rng, 16)


def least(table: Table, model: QuadraticModel, region: Region) -> float:
    """The true least objective over a region."""
    world = model.world
    p = region.project(-(table.goal.w @ world.slope) / world.curvature)
    return float(table.goal.value(world.losses(p[None]))[0])


def realised(table: Table, model: QuadraticModel, price: ShadowPrice) -> float:
    """What the tokens of a price gain in truth, when the optimum is found again."""
    assert price.tokens is not None
    upper = np.array(table.region.upper)
    length = table.problem.spec.constraints.target_tokens
    assert length is not None
    upper[table.domains.index(price.domain)] += 4 * price.tokens / length
    return least(table, model, table.region) - least(
        table, model, replace(table.region, upper=upper)
    )


@pytest.mark.parametrize(
    ("length", "tokens"),
    [
        (2_000_000, 10_000),
        (40 * BILLION, BILLION // 5),
        (160 * BILLION, BILLION),
        (15_000 * BILLION, 50 * BILLION),
    ],
)
def test_a_price_is_for_as_many_tokens_as_can_be_read(length: int, tokens: int) -> None:
    table, belief, model, optima = searched(0, noise=1e-4, runs=60, length=length)
    prices = shadow_prices(table, belief, table.region, optima.best, optima, 0.9)
    assert [(p.domain, p.tokens) for p in prices] == [("d0", tokens), ("d1", tokens)]
    assert any(p.binding for p in prices)
    for price in (p for p in prices if p.binding):
        assert price.gain is not None
        assert 0.01 <= 4 * tokens / length <= 0.025, "a move that shows, and not a far one"
        assert price.gain.mean == pytest.approx(realised(table, model, price), rel=0.02, abs=2e-6)
        assert price.gain_per_billion.high == pytest.approx(
            price.gain.high * BILLION / tokens, rel=1e-9
        )


@given(st.floats(0, 1e16))
def test_numbers_of_tokens_are_round_and_near(tokens: float) -> None:
    found = round_tokens(tokens)
    assert str(found).rstrip("0") in ("1", "2", "5")
    assert tokens < 1 or tokens / 2.5 <= found <= tokens * (1 + 1e-8)
    assert round_tokens(BILLION) == BILLION


@pytest.mark.parametrize("seed", range(5))
def test_the_price_is_the_gain_of_a_relaxed_cap(seed: int) -> None:
    table, belief, model, optima = searched(seed, noise=1e-4, runs=60)
    prices = shadow_prices(table, belief, table.region, optima.best, optima, 0.9)
    assert {p.domain for p in prices} == {"d0", "d1"}
    for price in prices:
        truth = realised(table, model, price)
        assert price.gain is not None
        if price.binding:
            assert price.gain.mean == pytest.approx(truth, rel=0.02, abs=2e-6)
            assert price.gain_per_billion.mean == pytest.approx(
                price.gain.mean * BILLION / price.tokens, rel=1e-3
            )
        else:
            assert truth < 1e-6


def test_intervals_hold_the_realised_gain() -> None:
    held = []
    for seed in range(50):
        table, belief, model, optima = searched(100 + seed, runs=8, noise=0.05)
        for price in shadow_prices(table, belief, table.region, optima.best, optima, 0.9):
            if price.binding and price.gain is not None:
                truth = realised(table, model, price)
                held.append(price.gain.low - 1e-9 <= truth <= price.gain.high + 1e-9)
    assert len(held) > 40
    assert 0.82 <= np.mean(held) <= 0.99


def test_the_price_is_the_multiplier_of_the_cap() -> None:
    table, belief, model, optima = searched(1, noise=1e-4, runs=60)
    j, best = table.domains.index("d0"), optima.best
    prices = {
        p.domain: p for p in shadow_prices(table, belief, table.region, optima.best, optima, 0.9)
    }
    assert prices["d0"].binding
    slope = table.goal.w @ model.world.slope + model.world.curvature * best
    free = [k for k in range(len(best)) if 1e-3 < best[k] < table.region.upper[k] - 1e-3]
    multiplier = float(np.mean(slope[free]) - slope[j])
    move = 4 * BILLION / LENGTH
    # Returns diminish: by half the curvature that the move meets.
    found = prices["d0"].gain_per_billion.mean
    assert 0.9 * multiplier * move < found < multiplier * move


def test_a_cap_that_does_not_bind_is_worth_nothing() -> None:
    table, belief, _, optima = searched(2)
    scarce = table.region.upper < 0.5
    p = np.where(scarce, 0.05, 0.3)
    for price in shadow_prices(table, belief, table.region, p, optima, 0.9):
        assert not price.binding
        assert price.gain_per_billion.high == 0.0
        assert price.cap == pytest.approx(0.1, rel=1e-6)


def test_a_bound_is_not_a_supply_and_stops_what_supply_is_worth() -> None:
    table, belief, _, optima = searched(3, bounds={"d0": Bound(max=0.05), "d1": Bound(max=0.11)})
    prices = shadow_prices(table, belief, table.region, optima.best, optima, 0.9)
    assert [p.domain for p in prices] == ["d1"], "d0 is held by its bound, whatever the supply"
    (price,) = prices
    assert price.tokens is not None
    assert price.tokens == pytest.approx(0.01 * LENGTH / 4, rel=0.01)
    assert price.gain == price.gain_per_billion, "more would not be used"


def test_without_a_target_length_there_is_no_supply_to_price() -> None:
    problem = power_world(np.random.default_rng(0), 4).problem((4, 4))
    _, belief, _, optima = searched(0, 4)
    table = Table.build(problem, History())
    assert shadow_prices(table, belief, table.region, optima.best, optima, 0.9) == ()
