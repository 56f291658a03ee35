"""Intervals hold about what they say, on worlds that obey the law."""

from __future__ import annotations

import numpy as np

from cuvee.engine.surrogates import bootstrap, laws


def test_ninety_percent_intervals_hold_about_ninety_percent() -> None:
    """Near the best mixture, where the runs weigh most: weights must not shrink the noise."""
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        t = rng.normal(-1, 1, (3, 4))
        c = rng.uniform(1, 2, 3)
        x = rng.dirichlet(np.ones(4), size=20)
        y = c + np.exp(x @ t.T) + 0.01 * rng.standard_normal((20, 3))
        above = y.mean(axis=1) - y.mean(axis=1).min()
        weights = np.maximum(1 / (1 + (above / np.median(above)) ** 2), 0.01)
        best = x[np.argmin(above)]
        draws = bootstrap.draw(laws.fit(x, y, k=weights), rng, 300).at(best)[:, 0]
        for e, truth in enumerate(c + np.exp(best @ t.T)):
            low, high = bootstrap.interval(draws[:, e], 0.9)
            held.append(low <= truth <= high)
    assert 0.8 <= np.mean(held) <= 0.97
