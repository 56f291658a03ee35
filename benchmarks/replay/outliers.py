"""Protocol O: three of 64 runs report a pile_cc loss that is 1.5, 2.5 and 4.0 nats too high.

Rows of repeat ``r`` as in protocol A with n = 64; the three are the first of
``RandomState(30000 + r).permutation(64)``.
"""

from __future__ import annotations

import numpy as np

from benchmarks.replay.record import Record
from benchmarks.replay.regression import choose_rows
from benchmarks.replay.score import ranked
from benchmarks.replay.tables import SETS, Tables
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.registry import SURROGATES

__all__ = ["outliers"]

RAISED_BY = (1.5, 2.5, 4.0)


def outliers(tables: Tables, surrogate: str, repeat: int) -> list[Record]:
    """Rank correlation on held-out 1M runs of pile_cc, without and with the planted outliers."""
    chosen, _ = choose_rows(tables.train.x, 64, repeat, "random")
    train = tables.train.rows(chosen)
    cc = [SETS.index("pile_cc")]
    planted = train.y[:, cc].copy()
    planted[np.random.RandomState(30_000 + repeat).permutation(64)[:3], 0] += RAISED_BY
    true = tables.test_1m.y[:, cc[0]]
    values: dict[str, float] = {}
    for name, y in (("clean", train.y[:, cc]), ("planted", planted)):
        model = SURROGATES[surrogate].fit(Runs.of(train.x, y))
        values |= ranked(name, model.mean(tables.test_1m.x, 0)[:, 0], true)
    return [Record("outliers", "pile_cc", surrogate, 64, repeat, values)]
