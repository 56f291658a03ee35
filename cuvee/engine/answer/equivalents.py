"""The mixtures that the data cannot tell from the recommendation.

A mixture belongs to the set when the interval of its objective minus the recommendation's reaches
below a tolerance: what a search would not have gone on for either. How large the set is, uniform
draws of the region say. How far it reaches per domain is looked for in two steps: walkers climb
towards more and less of each domain inside the set that the expansion of the objective gives (its
mean to second order, the draws' deviations to first), which costs nothing; then mixtures on the way
from the answer to where they ended, and beyond, are asked of the posterior itself. The ranges are
those of the members found, so the true ranges are at least as wide.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from cuvee.answer import EquivalentSet, Interval
from cuvee.engine.answer.contrast import gap
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.optima import Optima
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.surrogates.belief import Belief

__all__ = ["TOLERANCE", "equivalents", "far_apart"]

TOLERANCE = 0.2
"""In deviations of one run's objective, as in stopping: less could not be shown to exist."""

_EXAMPLES = 4
_UNIFORM = 256
_OPTIMA = 48
_WALKERS = 3  # per domain and way
_STEPS = 150
_ALONG = np.array([0.4, 0.7, 0.85, 1.0, 1.15, 1.35])


def equivalents(
    table: Table,
    belief: Belief,
    region: Region,
    p: Array,
    optima: Optima,
    noise: float | None,
    rng: np.random.Generator,
    confidence: float,
) -> EquivalentSet:
    """The set about a recommendation.

    Args:
        table: The search, for names and rounding.
        belief: The posterior of the objective.
        region: Where mixtures may be recommended.
        p: The recommendation, shape ``(m,)``.
        optima: Optima of joint draws, with their expansion.
        noise: Standard deviation of one run's objective; None where nothing tells it.
        rng: Source of the uniform draws and of the walkers' steps.
        confidence: Level of the interval.
    """
    tolerance = TOLERANCE * (noise or 0.0)

    def members(q: Array) -> npt.NDArray[np.bool_]:
        return np.asarray(gap(belief, q, p, confidence).low <= tolerance)

    uniform = region.sample(rng, _UNIFORM)
    inside = members(uniform)
    ends = _climb(region, p, optima, tolerance, rng, confidence)
    paths = p + _ALONG[:, None, None] * (ends - p)
    tried = np.concatenate([paths.reshape(-1, len(p)), optima.p[:_OPTIMA]])
    tried = tried[region.contains(tried, slack=1e-9)]
    found = np.concatenate([p[None], uniform[inside], tried[members(tried)]])
    least, most = found.min(axis=0), found.max(axis=0)
    places = {name: j for j, name in enumerate(table.domains)}
    return EquivalentSet(
        tolerance=tolerance,
        share_of_region=float(np.mean(inside)),
        ranges={
            name: Interval(
                mean=float(p[places[name]]),
                low=float(least[places[name]]),
                high=float(most[places[name]]),
            )
            for name in table.problem.names
        },
        examples=tuple(table.mixture(q) for q in far_apart(found, _EXAMPLES)),
    )


def far_apart(members: Array, count: int) -> Array:
    """Up to ``count`` rows far from the first row and from each other, by total variation.

    Greedy max-min (Gonzalez 1985): within a factor of two of the best choice. Stops at copies.
    """
    nearest = np.abs(members - members[0]).sum(axis=1) / 2
    chosen: list[int] = []
    for _ in range(count):
        farthest = int(np.argmax(nearest))
        if nearest[farthest] < 1e-4:
            break
        chosen.append(farthest)
        nearest = np.minimum(nearest, np.abs(members - members[farthest]).sum(axis=1) / 2)
    return np.asarray(members[chosen])


def _climb(
    region: Region,
    p: Array,
    optima: Optima,
    tolerance: float,
    rng: np.random.Generator,
    confidence: float,
) -> Array:
    """Where walkers end that seek most and least of each domain, shape ``(2 m, m)``.

    A step exchanges share between two domains. It is taken when the mixture still belongs, by the
    expansion, and has no less of what the walker seeks; its length adapts to what is accepted.
    """
    m = len(p)
    scatter = optima.lines.T @ optima.lines / len(optima.lines)
    level = float(stats.norm.ppf(0.5 + confidence / 2))
    here = float(optima.mean(p[None])[0])

    def belongs(q: Array) -> npt.NDArray[np.bool_]:
        away = q - p
        spread = np.sqrt(np.maximum(np.sum(away @ scatter * away, axis=1), 0.0))
        return np.asarray(optima.mean(q) - here - level * spread <= tolerance)

    sought = np.tile(np.repeat(np.arange(m), 2), _WALKERS)
    sign = np.tile(np.array([1.0, -1.0]), m * _WALKERS)
    rows = np.arange(len(sought))
    at, length = np.tile(p, (len(rows), 1)), np.full(len(rows), 0.05)
    for _ in range(_STEPS):
        i = np.where(rng.random(len(rows)) < 0.5, sought, rng.integers(m, size=len(rows)))
        j = (i + rng.integers(1, m, size=len(rows))) % m
        # What is sought goes the way that it is sought; any other exchange goes either way.
        up = np.where(i == sought, sign > 0, np.where(j == sought, sign < 0, True))
        gains, gives = np.where(up, i, j), np.where(up, j, i)
        step = np.minimum(
            length, np.minimum(at[rows, gives], region.upper[gains] - at[rows, gains])
        )
        trial = at.copy()
        trial[rows, gains] += step
        trial[rows, gives] -= step
        taken = (step > 1e-9) & region.contains(trial, slack=1e-9) & belongs(trial)
        at = np.where(taken[:, None], trial, at)
        length = np.clip(np.where(taken, 1.5 * length, 0.8 * length), 1e-4, 0.2)
    reached = (sign * at[rows, sought]).reshape(_WALKERS, 2 * m)
    best = np.argmax(reached, axis=0) * 2 * m + np.arange(2 * m)
    return np.asarray(at[best])
