"""Which mixtures to run before a model leads: greedy D-optimal designs on the root of the shares.

With ``z(p) = [1, sqrt(p_1), ..., sqrt(p_m)]`` and ``M = ridge I + sum_i z(x_i) z(x_i)'`` over the
runs that are finished or waiting, the next point is the candidate with the greatest leverage
``z' M^-1 z``: adding it multiplies ``det M`` by one plus that. It is a sequential rule, so a design
can stop anywhere, and a failed or foreign run is simply one more row.

Candidates decide how far out the design goes. Models that take an absent domain for what it is
(processes and power laws on roots of shares) learn most from sparse mixtures. A log-linear law does
not: losses rise steeply towards a face, and a law that has to follow them is wrong inside. It gets
candidates that are moved inward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuvee.engine.evidence.table import Table
from cuvee.engine.space.roots import Indices
from cuvee.engine.space.simplex import Array, Region

__all__ = ["INWARD", "Designed", "centre", "cloud", "d_optimal", "fill", "inward", "multi_strength"]

INWARD = 0.15
"""Part of the way from a drawn mixture to the centre that an interior design point is moved."""

RIDGE = 1e-2
"""Prior precision of each coefficient of ``z``: which domain is looked at first hardly matters, but
the first points must not tie at infinite leverage."""

_CLOUD = 256
_NOTHING = 2e-4  # RegMix's grid: a smaller share is none
_SPARSE = (0.1, 5.0)  # strengths of RegMix's draws, spread evenly in logarithm
_NEAR = (20.0, 50.0)  # of a fifth of the draws: targets lie inside


@dataclass(frozen=True)
class Designed:
    """A design point, why it was chosen, and its leverage given the runs so far."""

    p: Array
    reason: str
    leverage: float


def centre(table: Table) -> Array:
    """A feasible interior mixture: half the prior (the baseline), half uniform."""
    return table.region.project_kl(_middle(table))


def inward(table: Table, p: Array) -> Array:
    """Feasible mixtures ``p (n, m)`` moved towards the centre, or, where only so many domains may
    be active, towards the nearest mixture to it of the same domains."""
    middle = _middle(table)[None]
    if table.region.max_active is not None:
        middle = np.where(p > 0, middle, 0.0)
    return (1 - INWARD) * p + INWARD * table.region.project_kl(middle)


def _middle(table: Table) -> Array:
    return 0.5 * table.vector(table.problem.baseline) + 0.5 / table.region.dimension


def multi_strength(region: Region, rng: np.random.Generator, prior: Array, count: int) -> Array:
    """Mixtures from nearly pure to nearly the prior, shape ``(count, m)``.

    Four fifths are RegMix's draws (Liu et al. 2024, arXiv 2407.01492): Dirichlet around the root of
    the prior at strengths from 0.1 to 5, with shares below 2e-4 set to zero. The rest has strengths
    from 20 to 50. All are projected onto the region.
    """
    near = count // 5
    strengths = np.concatenate(
        [
            _strengths(rng, _SPARSE, count - near),
            _strengths(rng, _NEAR, near),
        ]
    )
    return region.sample_around(rng, prior, strengths, power=0.5, least=_NOTHING)


def _strengths(rng: np.random.Generator, ends: tuple[float, float], count: int) -> Array:
    return np.exp(rng.uniform(np.log(ends[0]), np.log(ends[1]), size=count))


def cloud(table: Table, rng: np.random.Generator, *, interior: bool = True) -> Array:
    """Candidate design points, shape ``(n, m)``.

    Args:
        table: The history so far.
        rng: Source of randomness.
        interior: Half uniform over the region, half around the prior, all moved inward; otherwise
            an eighth uniform and the rest at many strengths.
    """
    region = table.region
    if not interior:
        few = _CLOUD // 8
        prior = table.vector(table.problem.baseline)
        drawn = multi_strength(region, rng, prior, _CLOUD - few)
        return np.concatenate([region.sample(rng, few), drawn])
    half = _CLOUD // 2
    strengths = _strengths(rng, (1.0, 30.0), half)
    drawn = np.concatenate(
        [region.sample(rng, half), region.sample_around(rng, centre(table), strengths)]
    )
    return inward(table, drawn)


def fill(
    table: Table,
    rung: int,
    rng: np.random.Generator,
    among: Array | None = None,
    *,
    interior: bool = False,
) -> Designed:
    """The candidate that tells most beside the mixtures tried or waiting at the rung.

    Args:
        table: The history so far.
        rung: Where the point will be run.
        rng: Source of randomness.
        among: Candidates, shape ``(n, m)``; drawn when not given.
        interior: Keep drawn candidates away from the faces, for a log-linear law.
    """
    candidates = cloud(table, rng, interior=interior) if among is None else among
    found = leverage(candidates, table.taken(rung))
    best = int(np.argmax(found))
    reason = "tells most about the region beside the runs so far"
    if among is not None and table.pool is None:
        reason += ", among the mixtures of the rung below"
    return Designed(candidates[best], reason, float(found[best]))


def leverage(candidates: Array, taken: Array) -> Array:
    """``z' M^-1 z`` of candidates ``(n, m)`` given runs ``(K, m)``, shape ``(n,)``."""
    z = _features(candidates)
    rows = _features(taken)
    inner = RIDGE * np.eye(z.shape[1]) + rows.T @ rows
    return np.asarray(np.sum(z * np.linalg.solve(inner, z.T).T, axis=1))


def d_optimal(x: Array, n: int) -> Indices:
    """Indices of ``n`` rows of ``x (N, m)``, each the one of greatest leverage beside the others.

    Raises:
        ValueError: If there are fewer rows than that.
    """
    if n > len(x):
        raise ValueError(f"cannot choose {n} of {len(x)} mixtures")
    z = _features(x)
    inverse = np.eye(z.shape[1]) / RIDGE
    left = np.ones(len(x), dtype=bool)
    chosen = []
    for _ in range(n):
        moved = z @ inverse
        values = np.sum(moved * z, axis=1)
        best = int(np.argmax(np.where(left, values, -np.inf)))
        chosen.append(best)
        left[best] = False
        inverse -= np.outer(moved[best], moved[best]) / (1.0 + values[best])
    return np.array(chosen, dtype=np.intp)


def _features(p: Array) -> Array:
    return np.concatenate([np.ones((len(p), 1)), np.sqrt(np.maximum(p, 0.0))], axis=1)
