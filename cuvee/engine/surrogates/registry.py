"""Every surrogate by name."""

from __future__ import annotations

from cuvee.engine.surrogates.base import Surrogate
from cuvee.engine.surrogates.default import Default
from cuvee.engine.surrogates.gp import Gp
from cuvee.engine.surrogates.log_linear import LogLinear
from cuvee.engine.surrogates.multi_fidelity import MultiFidelityGp
from cuvee.engine.surrogates.power import Power
from cuvee.engine.surrogates.trees import Trees
from cuvee.engine.surrogates.warped import Warped

__all__ = ["SURROGATES"]

SURROGATES: dict[str, Surrogate] = {
    surrogate.name: surrogate
    for surrogate in (
        Default(),
        Gp(),
        MultiFidelityGp(),
        Warped(MultiFidelityGp()),
        LogLinear(),
        Power(),
        Trees(),
    )
}
