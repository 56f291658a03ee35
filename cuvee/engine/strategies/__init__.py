"""Ways to choose runs, by the name that a job's ``strategy`` gives: ours and its peers."""

from cuvee.engine.strategies.base import Point, Strategy
from cuvee.engine.strategies.mixing_law import MixingLaw
from cuvee.engine.strategies.random import RandomSearch

__all__ = ["STRATEGIES", "Point", "Strategy"]

STRATEGIES: dict[str, Strategy] = {
    s.name: s
    for s in (
        MixingLaw(),
        RandomSearch(),
    )
}
STRATEGIES["multi_fidelity"] = STRATEGIES["mixing_law"]
