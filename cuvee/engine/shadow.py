"""What more tokens of a domain would be worth: shadow prices of the supply caps.

The supply of domain ``j`` caps its share at ``u_j = epochs * tokens_j / target_tokens``. With
``V(u) = min f`` over the region, the price is ``-dV / du_j``, the Lagrange multiplier of the cap,
times what a token adds to the cap. Here the posterior mean is minimised twice, within the region
and with the cap moved, and the price is the difference of the objective between the two optima with
the deviation that the posterior gives this difference. By the envelope theorem its mean is the
multiplier of the mean objective times the step, up to second order; and its deviation is that of
the multiplier, for moving both optima with a draw changes a draw's difference only to second order.

The cap is moved by what 10^9 tokens add, but no farther than a quarter of itself and no less than
0.02: no run has been there, and a surrogate knows the slope at the edge of its runs and not much
more. Prices of moves that short are scaled to 10^9 tokens, which overstates the worth of the last
of them: returns diminish.

More supply forces nothing, so a price is never negative, and neither are its ends.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cuvee.answer import Interval, ShadowPrice
from cuvee.engine.belief import Belief
from cuvee.engine.contrast import gap
from cuvee.engine.optima import descend
from cuvee.engine.simplex import Array, Region
from cuvee.engine.table import Table

__all__ = ["BILLION", "shadow_prices"]

BILLION = 10**9

_AT_CAP = 1e-4  # a share this near its cap is held by it
_LEAST_MOVE = 0.02
_MOVE = 0.25  # of the cap


def shadow_prices(
    table: Table, belief: Belief, region: Region, p: Array, confidence: float
) -> tuple[ShadowPrice, ...]:
    """Prices of the domains whose supply caps them, in the problem's order.

    Args:
        table: The search.
        belief: The posterior of the objective.
        region: Where mixtures may be recommended.
        p: The recommendation, shape ``(m,)``.
        confidence: Level of the intervals.
    """
    constraints = table.problem.spec.constraints
    length = constraints.target_tokens
    if length is None:
        return ()
    best = descend(belief.mean, region, p)
    prices = []
    for name, tokens in zip(table.problem.names, table.problem.tokens, strict=True):
        j = table.domains.index(name)
        bound = constraints.bounds.get(name)
        most = 1.0 if bound is None else bound.max
        epochs = constraints.max_epochs_by_domain.get(name, constraints.max_epochs)
        cap = epochs * tokens / length
        if cap >= most:
            continue  # its bound holds it, or nothing
        if p[j] < cap - _AT_CAP:
            nothing = Interval(mean=0.0, low=0.0, high=0.0)
            prices.append(
                ShadowPrice(
                    domain=name,
                    cap=cap,
                    binding=False,
                    gain_per_billion=nothing,
                    tokens=BILLION,
                    gain=nothing,
                )
            )
            continue
        per_token = epochs / length
        move = min(BILLION * per_token, max(_MOVE * cap, _LEAST_MOVE), most - cap)
        upper = np.array(region.upper)
        upper[j] = cap + move
        wider = replace(region, upper=upper)
        moved = descend(belief.mean, wider, best)
        found = gap(belief, best[None], moved, confidence)
        gain = _interval(float(found.mean[0]), float(found.low[0]), float(found.high[0]), 1.0)
        # A bound that stops the cap stops the worth of further tokens too.
        scale = 1.0 if cap + move >= most else BILLION * per_token / move
        prices.append(
            ShadowPrice(
                domain=name,
                cap=cap,
                binding=True,
                gain_per_billion=_interval(gain.mean, gain.low, gain.high, scale),
                tokens=min(BILLION, round(move / per_token)),
                gain=gain,
            )
        )
    return tuple(prices)


def _interval(mean: float, low: float, high: float, scale: float) -> Interval:
    return Interval(
        mean=scale * max(mean, 0.0), low=scale * max(low, 0.0), high=scale * max(high, 0.0)
    )
