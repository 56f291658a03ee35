"""The first runs at a rung: reference mixtures, one repeat, then points that fill the space.

The design keeps away from the faces of the feasible region. A domain that is absent behaves
unlike one that is scarce: losses rise steeply towards a face, and a log-linear law that has to
follow them is wrong inside. Later proposals go to a face when the law points there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuvee.engine.simplex import Array
from cuvee.engine.table import Table, same

__all__ = ["Point", "fill", "opening"]

INWARD = 0.15
"""Part of the way from a drawn mixture to the centre that a design point is moved."""

_CLOUD = 256  # candidates per choice; four times as many made no difference we could tell


@dataclass(frozen=True)
class Point:
    """A mixture that a strategy wants run."""

    p: Array
    reason: str
    label: str | None = None
    acquisition: float | None = None
    predicted: Array | None = None


def opening(table: Table, rung: int) -> Point | None:
    """The next reference mixture not yet tried at a rung, or the repeat; None when all were.

    References are run even where the constraints forbid them: they are what the answer is
    compared with. The repeat, at the target only, is the one direct measurement of noise.
    """
    references = table.references()
    taken = table.taken(rung)
    for label, p in references.items():
        if not np.any(same(p, taken)):
            allowed = bool(table.region.contains(p, slack=1e-6)[0])
            return Point(
                p,
                f"{label} mixture, a reference"
                + ("" if allowed else " (outside the constraints, for comparison only)"),
                label=label,
            )
    budget = table.problem.rungs[rung].runs
    first = next(iter(references.values()))
    if rung == table.target and budget >= len(references) + 2 and np.sum(same(first, taken)) == 1:
        label = next(iter(references))
        reason = f"{label} mixture again with another seed, to learn the noise"
        return Point(first, reason, label=label)
    return None


def centre(table: Table) -> Array:
    """A feasible interior mixture: half the prior (the baseline), half uniform."""
    prior = table.vector(table.problem.baseline)
    return table.region.project_kl(0.5 * prior + 0.5 / table.region.dimension)


def cloud(table: Table, rng: np.random.Generator) -> Array:
    """Candidate design points: half uniform over the region, half around the prior."""
    middle = centre(table)
    half = _CLOUD // 2
    strengths = np.exp(rng.uniform(np.log(1.0), np.log(30.0), size=half))
    drawn = np.concatenate(
        [table.region.sample(rng, half), table.region.sample_around(rng, middle, strengths)]
    )
    return (1 - INWARD) * drawn + INWARD * middle


def fill(table: Table, rung: int, rng: np.random.Generator, among: Array | None = None) -> Point:
    """The candidate farthest from every mixture tried or waiting at the rung.

    Distance is Euclidean between square roots of shares (Hellinger): a step from 0.01 to 0.04 is
    as long as one from 0.25 to 0.36, as it is for the losses.

    Args:
        table: The history so far.
        rung: Where the point will be run.
        rng: Source of randomness.
        among: Candidates, shape ``(n, m)``; drawn when not given.
    """
    candidates = cloud(table, rng) if among is None else among
    taken = table.taken(rung)
    if len(taken):
        gaps = np.linalg.norm(
            np.sqrt(candidates)[:, None, :] - np.sqrt(np.maximum(taken, 0))[None], axis=2
        ).min(axis=1)
    else:
        gaps = -np.linalg.norm(np.sqrt(candidates) - np.sqrt(centre(table)), axis=1)
    best = int(np.argmax(gaps))
    reason = "fills the feasible region"
    if among is not None:
        reason += ", among the mixtures of the rung below"
    return Point(candidates[best], reason)
