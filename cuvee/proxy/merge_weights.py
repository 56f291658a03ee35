"""From a candidate to weights over branches.

Merging is linear, so whether groups are averaged first or units at once is a choice of weights
only. Weights are whole millionths (``quantise``), so that the key of a measurement and the
measurement speak of the same mixture.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from cuvee.errors import SpecError
from cuvee.mixture import Mixture, largest_remainder

__all__ = ["MILLION", "domain_weights", "macro_weights", "micro_weights", "quantise"]

MILLION = 1_000_000
_SUM_SLACK = 1e-9

Floats = npt.NDArray[np.float64]


def quantise(weights: Sequence[float]) -> list[int]:
    """Weights as whole millionths that sum to a million, by largest remainder; shape (U,).

    Equal remainders go to the earlier index: callers pass branches in the order of their keys.

    Raises:
        SpecError: A weight is negative or not finite, or they do not sum to one.
    """
    if not weights or not all(math.isfinite(w) and w >= 0 for w in weights):
        raise SpecError(f"weights of a merge must be finite and at least 0, got {list(weights)}")
    total = math.fsum(weights)
    if abs(total - 1) > _SUM_SLACK:
        raise SpecError(f"weights of a merge must sum to one, got a sum of {total!r}")
    return largest_remainder(weights, MILLION)


def domain_weights(
    domains: Sequence[str],
    mixture: Mixture,
    *,
    anchor_share: float = 0.0,
    natural: Mixture | None = None,
) -> Floats:
    """A mixture's weights over units: a domain's share in equal parts to its units; shape (U,).

    With an anchor a merge of weights ``w`` stands for ``p = (1 - rho) w + rho q``, so
    ``w = (p - rho q) / (1 - rho)``.

    Args:
        domains: Domain of each unit.
        mixture: Shares over domains.
        anchor_share: ``rho``.
        natural: ``q``, needed with an anchor.

    Raises:
        SpecError: A domain of the mixture has no branch, or the anchor puts it out of reach.
    """
    names = sorted(set(domains))
    shares = np.array(mixture.shares(names))
    if anchor_share > 0:
        assert natural is not None, "an anchored pool knows its natural mixture"
        q = np.array(natural.shares(names))
        shares = (shares - anchor_share * q) / (1 - anchor_share)
        if shares.min() < -_SUM_SLACK:
            worst = int(shares.argmin())
            raise SpecError(
                f"the mixture gives {names[worst]!r} less than anchor_share * its natural share "
                f"({anchor_share * q[worst]:.4g}), and no merge of anchored branches does",
                domain=names[worst],
            )
        shares = np.maximum(shares, 0.0)
        shares /= shares.sum()
    count = {name: domains.count(name) for name in names}
    by_name = dict(zip(names, shares, strict=True))
    return np.array([by_name[name] / count[name] for name in domains])


def micro_weights(chosen: Sequence[bool]) -> Floats:
    """Equal weights for a set of units: by tokens, where units are equally long; shape (U,)."""
    selected = np.asarray(chosen, dtype=np.float64)
    if selected.sum() == 0:
        raise SpecError("a set of units needs at least one")
    weights: Floats = selected / selected.sum()
    return weights


def macro_weights(chosen: Sequence[bool], groups: Sequence[Hashable]) -> Floats:
    """Equal weights for the groups that occur in a set, equal within each; shape (U,).

    Averaging each group and then the averages gives the same, so group averages are never stored.
    """
    sizes = Counter(group for group, yes in zip(groups, chosen, strict=True) if yes)
    if not sizes:
        raise SpecError("a set of units needs at least one")
    each = {group: 1 / (len(sizes) * size) for group, size in sizes.items()}
    return np.array([each[g] if yes else 0.0 for g, yes in zip(groups, chosen, strict=True)])
