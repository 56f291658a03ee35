"""What more tokens of a domain would be worth: shadow prices of the supply caps.

The supply of domain ``j`` caps its share at ``u_j = epochs * tokens_j / target_tokens``. With
``V(u) = min f`` over the region, the price is ``-dV / du_j``, the Lagrange multiplier of the cap,
times what a token adds to the cap. Here the posterior mean is minimised twice, within the region
and with the cap moved, and the price is the difference of the objective between the two optima with
the deviation that the posterior gives this difference. By the envelope theorem its mean is the
multiplier of the mean objective times the step, up to second order; and its deviation is that of
the multiplier, for moving both optima with a draw changes a draw's difference only to second order.

The cap is moved by what 10^9 tokens add, where that is between a quarter of the cap and 0.02; else
by about the nearer of the two. No run has been beyond the cap, and a surrogate knows the slope at
the edge of its runs and not much more; and a move that is much shorter shows no gain that could be
read. So a corpus of megatokens is priced by the megatoken and one of teratokens by many billions,
in round numbers. Prices of other moves are scaled to 10^9 tokens, which for short ones overstates
the worth of the last tokens: returns diminish.

More supply forces nothing, so a price is never negative, and neither are its ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cuvee.answer import Interval, ShadowPrice
from cuvee.engine.answer.contrast import gap
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.optima import Optima, slopes
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.surrogates.belief import Belief

__all__ = ["BILLION", "round_tokens", "shadow_prices"]

BILLION = 10**9

_AT_CAP = 1e-4  # a share this near its cap is held by it
_MOVES = (0.02, 0.25)  # of the whole, of the cap
_SLACK = 1e-9  # of a number of tokens, for 10^9 is to stay itself
_ROUNDS = 2
_ALONG = np.array([1.0, 0.6, 0.3, 0.1])


def shadow_prices(
    table: Table,
    belief: Belief,
    region: Region,
    p: Array,
    optima: Optima,
    confidence: float,
) -> tuple[ShadowPrice, ...]:
    """Prices of the domains whose supply caps them, in the problem's order.

    Args:
        table: The search.
        belief: The posterior of the objective.
        region: Where mixtures may be recommended.
        p: The recommendation, shape ``(m,)``: it says which caps bind.
        optima: The optimum of the mean over the region, with the expansion about it.
        confidence: Level of the intervals.
    """
    caps = list(_caps(table))
    binding = [cap for cap in caps if p[cap.column] >= cap.share - min(_AT_CAP, cap.share / 2)]
    priced = {}
    if binding:
        moved = _moved(belief, region, optima, binding)
        found = gap(belief, moved, optima.best, confidence)
        for i, cap in enumerate(binding):
            gain = (-float(found.mean[i]), -float(found.high[i]), -float(found.low[i]))
            priced[cap.name] = ShadowPrice(
                domain=cap.name,
                cap=cap.share,
                binding=True,
                gain_per_billion=_interval(gain, cap.scale),
                tokens=cap.tokens,
                gain=_interval(gain, 1.0),
            )
    nothing = Interval(mean=0.0, low=0.0, high=0.0)
    return tuple(
        priced.get(
            cap.name,
            ShadowPrice(
                domain=cap.name,
                cap=cap.share,
                binding=False,
                gain_per_billion=nothing,
                tokens=cap.tokens,
                gain=nothing,
            ),
        )
        for cap in caps
    )


@dataclass(frozen=True)
class _Cap:
    """A supply that caps a share: how far it is moved, and how many tokens do that."""

    name: str
    column: int
    share: float
    move: float
    tokens: int
    scale: float  # from the move's gain to that of 10^9 tokens


def _caps(table: Table) -> Iterator[_Cap]:
    constraints = table.problem.spec.constraints
    length = constraints.target_tokens
    if length is None:
        return
    for name, tokens in zip(table.problem.names, table.problem.tokens, strict=True):
        bound = constraints.bounds.get(name)
        most = 1.0 if bound is None else bound.max
        per_token = constraints.max_epochs_by_domain.get(name, constraints.max_epochs) / length
        share = per_token * tokens
        if share >= most:
            continue  # its bound holds it, or nothing
        low, high = sorted((_MOVES[0], _MOVES[1] * share))
        added = round_tokens(min(max(BILLION, low / per_token), high / per_token))
        move, scale = added * per_token, BILLION / added
        if share + move >= most:
            # A bound that stops the cap stops the worth of further tokens too.
            move = most - share
            added = max(1, round(move / per_token))
            scale = min(1.0, BILLION / added)
        yield _Cap(name, table.domains.index(name), share, move, added, scale)


def round_tokens(tokens: float) -> int:
    """The greatest of 1, 2, 5, 10, 20, ... that is no greater; 1 for less than 1."""
    most = max(tokens, 1.0) * (1 + _SLACK)
    power: int = 10 ** math.floor(math.log10(most))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= most)


def _moved(belief: Belief, region: Region, optima: Optima, caps: list[_Cap]) -> Array:
    """The optimum with each cap moved alone, shape ``(n, m)``.

    Of the expansion first; then its gradient is taken afresh where that led, twice, and the way to
    the new optimum searched. All caps at once: predictions cost less together.
    """
    wider = []
    for cap in caps:
        upper = np.array(region.upper)
        upper[cap.column] = cap.share + cap.move
        wider.append(replace(region, upper=upper))
    p = np.array([optima.minimum(one) for one in wider])
    value = belief.mean(p)
    for _ in range(_ROUNDS):
        slope = slopes(belief.mean, p, value)
        ends = [optima.minimum(w, q, g) for w, q, g in zip(wider, p, slope, strict=True)]
        trial = p + _ALONG[:, None, None] * (np.array(ends) - p)
        values = belief.mean(trial.reshape(-1, p.shape[1])).reshape(len(_ALONG), -1)
        best = np.argmin(values, axis=0)
        rows = np.arange(len(p))
        better = values[best, rows] < value
        p = np.where(better[:, None], trial[best, rows], p)
        value = np.where(better, values[best, rows], value)
    return p


def _interval(gain: tuple[float, float, float], scale: float) -> Interval:
    mean, low, high = (scale * max(value, 0.0) for value in gain)
    return Interval(mean=mean, low=low, high=high)
