"""Every surrogate by name."""

from __future__ import annotations

from cuvee.engine.surrogates.base import Surrogate
from cuvee.engine.surrogates.default import Default
from cuvee.engine.surrogates.log_linear import LogLinear
from cuvee.engine.surrogates.power import Power

__all__ = ["SURROGATES"]

SURROGATES: dict[str, Surrogate] = {
    surrogate.name: surrogate for surrogate in (Default(), LogLinear(), Power())
}
