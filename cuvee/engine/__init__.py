"""The engine: what to run next, when to stop, what to recommend. Pure numerics.

Notation, used by every module (``docs/math.md`` explains the methods with it):

======== ============== ==========================================================================
symbol   shape          meaning
======== ============== ==========================================================================
``m``    scalar         number of domains
``E``    scalar         number of evaluation sets
``K``    scalar         number of runs measured at one rung
``B``    scalar         number of bootstrap replicates
``p``    ``(m,)``       a mixture: shares by tokens, non-negative, sum one
``x``    ``(K, m)``     mixtures that were run
``y``    ``(K, E)``     losses that were measured, bits per byte
``w``    ``(E,)``       weights of the objective, non-negative, sum one
``c``    ``(E,)``       floors of the laws, bits per byte
``t``    ``(E, m)``     log-slopes of the laws; a smaller ``t[e, j]``: domain ``j`` helps set ``e``
``L_e``  scalar         law of set ``e``: ``L_e(p) = c_e + exp(t_e . p)``, bits per byte
``f``    scalar         objective: ``f(p) = sum_e w_e L_e(p)``, bits per byte
``rho``  scalar         ridge: how strongly a law is held to its prior shape
======== ============== ==========================================================================

A *rung* is a fidelity; the last is the *target*. Everything here is a function of its arguments:
no clock, disk, network, environment or global random state, and the order of a history does not
matter. Decisions take a ``SearchProblem`` and a ``History`` and return records.
"""

from cuvee.engine.answer.recommend import recommend
from cuvee.engine.answer.report import build_report
from cuvee.engine.answer.verify import plan_verification
from cuvee.engine.propose import propose
from cuvee.engine.stopping import should_stop

__all__ = ["build_report", "plan_verification", "propose", "recommend", "should_stop"]
