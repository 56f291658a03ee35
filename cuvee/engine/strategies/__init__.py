"""Ways to choose runs, by the name that a job's ``strategy`` gives: ours and its peers."""

from cuvee.engine.strategies.admire import Admire
from cuvee.engine.strategies.base import Point, Strategy
from cuvee.engine.strategies.dirichlet import DirichletSearch
from cuvee.engine.strategies.mixing_law import MixingLaw
from cuvee.engine.strategies.multi_fidelity import MultiFidelity
from cuvee.engine.strategies.olmix import Olmix
from cuvee.engine.strategies.random import RandomSearch
from cuvee.engine.strategies.regmix import RegMix
from cuvee.engine.strategies.single_fidelity_bo import SingleFidelityBo

__all__ = ["STRATEGIES", "Point", "Strategy"]

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        MultiFidelity(),
        MixingLaw(),
        Olmix(),
        RegMix(),
        SingleFidelityBo(),
        Admire(),
        DirichletSearch(),
        RandomSearch(),
    )
}
