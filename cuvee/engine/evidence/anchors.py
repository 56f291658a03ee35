"""The anchors: a few mixtures that every job runs first, at its cheapest rung and at its target.

They are what the objective doctor looks at (``doctor.py``), and no waste for the search: mixtures
far apart that were run at both ends of the ladder are what slopes between rungs are learned from,
and repeats are the one direct measurement of noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cuvee.engine.evidence.table import Table, same
from cuvee.engine.space.simplex import Array

__all__ = ["LABEL", "next_anchor"]

LABEL = "anchor"
"""Label of the runs of an anchor that is not a reference."""

_SHARE = 6  # anchors and repeats beyond the references take one run in six at most
_CLOUD = 128
_NARROW = 1e-6  # a region narrower than this is one mixture


def next_anchor(table: Table, rung: int) -> tuple[Array, str, str] | None:
    """The next anchor or repeat at a rung whose references were all run; None when all were.

    Every job with room for it repeats its first reference at the target once. The rest is as many
    as ``spec.doctor`` asks for, at most one run in six of the rung's, repeats among anchors so
    that a small budget has some of both.

    Returns:
        Shares ``(m,)``, the label and the reason.
    """
    references = table.references()
    budget = table.problem.rungs[rung].runs
    room = budget // _SHARE
    if rung == table.target and budget >= len(references) + 2:
        room = max(room, 1)
    if rung not in (0, table.target) or table.issued(rung) >= len(references) + room:
        return None
    taken = table.taken(rung)
    anchors = _points(table, list(references.values()))
    labels = list(references)
    need: dict[int, int] = {}
    for _, repeat in zip(range(room), _order(table), strict=False):
        if repeat is not None:
            label = labels[repeat % len(labels)]
            p, key = references[label], -1 - repeat % len(labels)
            need[key] = need.get(key, 1) + 1
            reason = f"{label} mixture again with another seed, to learn the noise"
        else:
            key = sum(k >= 0 for k in need)
            if key >= len(anchors):
                continue
            p, label, need[key] = anchors[key], LABEL, 1
            reason = "an anchor: far from the others, for the noise and the agreement of the rungs"
        if np.sum(same(p, taken)) < need[key]:
            return p, label, reason
    return None


def _order(table: Table) -> Iterator[int | None]:
    """Repeats by number, and None for an anchor: a repeat first, then two anchors and so on."""
    doctor = table.problem.spec.doctor
    anchors = max(0, doctor.anchors - len(table.references()))
    repeats = 0
    while anchors or repeats < doctor.repeats:
        if repeats < doctor.repeats:
            yield repeats
            repeats += 1
        for _ in range(min(2, anchors)):
            yield None
            anchors -= 1


def _points(table: Table, references: list[Array]) -> list[Array]:
    """Anchors beyond the references: each the farthest from all before it, of one cloud.

    A function of the problem alone, so that every rung has the same. Distances are Hellinger's.
    """
    wanted = table.problem.spec.doctor.anchors - len(references)
    if wanted <= 0 or table.region.width < _NARROW:
        return []
    rng = np.random.default_rng([table.problem.spec.seed, len(table.domains)])
    prior = table.vector(table.problem.baseline)
    middle = table.region.project_kl(0.5 * prior + 0.5 / table.region.dimension)
    strengths = np.exp(rng.uniform(np.log(1.0), np.log(30.0), size=_CLOUD // 2))
    cloud = np.concatenate(
        [
            table.region.sample(rng, _CLOUD // 2),
            table.region.sample_around(rng, middle, strengths),
        ]
    )
    roots = np.sqrt(np.maximum(cloud, 0.0))
    gaps = np.full(len(cloud), np.inf)
    found: list[Array] = []
    for p in references:
        gaps = np.minimum(gaps, np.linalg.norm(roots - np.sqrt(np.maximum(p, 0.0)), axis=1))
    for _ in range(wanted):
        best = int(np.argmax(gaps))
        if gaps[best] < _NARROW:
            break
        found.append(cloud[best])
        gaps = np.minimum(gaps, np.linalg.norm(roots - roots[best], axis=1))
    return found
