"""The mixtures that the data cannot tell from the recommendation.

A mixture belongs to the set when the interval of its objective minus the recommendation's reaches
below a tolerance: what a search would not have gone on for either. Which mixtures belong is asked
of uniform draws (that is how large the set is), of the optima of joint draws, of candidates about
the answer, and along paths from it: every domain raised and lowered at the cost of all others, and
of each other, until the mixture no longer belongs. The ranges are those of the members found, so
the true ranges are at least as wide.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cuvee.answer import EquivalentSet, Interval
from cuvee.engine.belief import Belief
from cuvee.engine.contrast import gap
from cuvee.engine.simplex import Array, Region
from cuvee.engine.table import Table

__all__ = ["TOLERANCE", "equivalents", "far_apart"]

TOLERANCE = 0.2
"""In deviations of one run's objective, as in stopping: less could not be shown to exist."""

_EXAMPLES = 4
_UNIFORM = 512
_MOST_PATHS = 600  # 17 domains have 306 paths; with 100 domains, a sample of the exchanges
_LENGTHS = np.array([0.125, 0.25, 0.5, 1.0])
_REFINED = np.linspace(0.0, 1.0, 9)


def equivalents(
    table: Table,
    belief: Belief,
    region: Region,
    p: Array,
    optima: Array,
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
        optima: Optima of joint draws, shape ``(B, m)``: likely members.
        noise: Standard deviation of one run's objective; None where nothing tells it.
        rng: Source of the uniform draws.
        confidence: Level of the interval.
    """
    tolerance = TOLERANCE * (noise or 0.0)

    def member(q: Array) -> npt.NDArray[np.bool_]:
        return np.asarray(gap(belief, q, p, confidence).low <= tolerance)

    uniform = region.sample(rng, _UNIFORM)
    inside = member(uniform)
    ends = np.concatenate([_ends(region, p, rng), _beyond(region, p, optima)])
    coarse = p + _LENGTHS[:, None, None] * (ends - p)  # (4, paths, m)
    flat = coarse.reshape(-1, len(p))
    belongs = region.contains(flat, slack=1e-9) & member(flat)
    kept, belongs = flat[belongs], belongs.reshape(len(_LENGTHS), -1)
    # The last length up to which all belong; the set need not be convex.
    reached = np.sum(np.cumprod(belongs, axis=0), axis=0)
    low = np.append(0.0, _LENGTHS)[reached]
    high = np.append(_LENGTHS, 1.0)[reached]
    fine = low[:, None] + (high - low)[:, None] * _REFINED
    # Only paths that can set a range are refined: per domain, the farthest so far each way.
    chosen = _leading(p, ends, low)
    paths = p + fine[chosen][:, :, None] * (ends[chosen] - p)[:, None, :]
    candidates = np.concatenate([optima, paths.reshape(-1, len(p))])
    candidates = candidates[region.contains(candidates, slack=1e-9)]
    members = np.concatenate([p[None], uniform[inside], kept, candidates[member(candidates)]])
    least, most = members.min(axis=0), members.max(axis=0)
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
        examples=tuple(table.mixture(q) for q in far_apart(members, _EXAMPLES)),
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


def _ends(region: Region, p: Array, rng: np.random.Generator) -> Array:
    """Where paths from ``p`` end, shape ``(paths, m)``: mixtures of the region.

    Each domain as far up and down as the region allows, at the cost of all others in proportion
    to their shares; and every pair of domains, one to the other.
    """
    m = len(p)
    raised = 0.999 * np.eye(m) + 0.001 * p
    lowered = np.where(np.eye(m, dtype=bool), 0.0, p + 1e-9)
    lowered /= lowered.sum(axis=1, keepdims=True)
    i, j = np.divmod(np.arange(m * m), m)
    i, j = i[i != j], j[i != j]
    if len(i) > _MOST_PATHS:
        kept = np.sort(rng.choice(len(i), _MOST_PATHS, replace=False))
        i, j = i[kept], j[kept]
    room = np.minimum(region.upper[i] - p[i], p[j] - region.lower[j])
    exchanged = np.tile(p, (len(i), 1))
    rows = np.arange(len(i))
    exchanged[rows, i] += np.maximum(room, 0.0)
    exchanged[rows, j] -= np.maximum(room, 0.0)
    exchanged = exchanged[room > 1e-6]
    return np.concatenate([region.project_kl(np.concatenate([raised, lowered])), exchanged])


def _beyond(region: Region, p: Array, optima: Array) -> Array:
    """Twice as far as the optima with most and least of each domain, in their direction."""
    outer = np.unique(np.concatenate([optima.argmax(axis=0), optima.argmin(axis=0)]))
    return region.project(p + 2 * (optima[outer] - p))


def _leading(p: Array, ends: Array, length: Array) -> Array:
    """Indices of the paths that reach farthest, per domain and way."""
    reach = length[:, None] * (ends - p)
    # Where none has left the answer yet, the one that heads there most directly.
    reach = reach + 1e-3 * (ends - p)
    return np.unique(np.concatenate([np.argmax(reach, axis=0), np.argmin(reach, axis=0)]))
