"""What a run would be worth, seen from the best mixture known so far.

*At the target* a run of mixture ``p`` both tells and realises: it is worth the expected improvement
over the incumbent of what will then be known of ``p``. After the run the posterior mean of the
difference ``f(incumbent) - f(p)`` moves by a normal number with deviation

    s(p)^2 = kappa^2 (w s_e)' R (w s_e),   s_e = (C_e(p, p) - C_e(incumbent, p)) / sd[y_e(p)],

so the worth is ``EI(gain, s)``. Only differences enter: what is uncertain of all mixtures alike
(the target's level, before it has runs) is no reason to run any. With noise ``s`` is smaller than
the posterior deviation, for one run tells less (Frazier, Powell & Dayanik 2009, two alternatives).

*Below the target* a run only tells. Its worth is what it adds to the target run that follows it:

    V(q, r) = E_z max_p EI(gain_z(p), s_z(p)) / (1 + cost_r)   against   max_p EI(gain, s) / 1,

with ``z`` the run's unknown outcome, ``gain_z`` and ``s_z`` the belief after it: a two-step
look-ahead in which both steps are paid. An improvement at the target divided by the cost of a
cheaper rung would be wrong: all rungs would share the numerator, and the cheapest always win.

An objective that is not linear (the worst excess) is taken at the target by joint draws of both
mixtures' losses, and below it by its gradient at the incumbent: the chance that each set is worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm, qmc

from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.acquisition.improvement import expected_improvement, log_expected_improvement
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief

__all__ = ["Outlook", "Worth"]

_DRAWS = 64  # outcomes of a run, quasi-random, in pairs of opposite sign
_TOP = 64  # points that a look-ahead may choose its target run from
_TRACE = float(np.log(1e-9))


@dataclass(frozen=True)
class Worth:
    """What target runs of ``n`` mixtures are worth; bits per byte, shapes ``(n,)``.

    Attributes:
        gain: Expected objective of the incumbent minus the mixture's.
        told: Deviation of what one run will make of that difference.
        improvement: Expected improvement, times the chance that guardrails hold.
        score: Its logarithm, to rank by: finite where the improvement underflows.
    """

    gain: Array
    told: Array
    improvement: Array
    score: Array


@dataclass(frozen=True)
class Outlook:
    """A belief seen from an incumbent.

    Attributes:
        belief: Of the objective, runs under way included.
        guards: Which mixtures count.
        incumbent: The best mixture known, shape ``(m,)``.
    """

    belief: Belief
    guards: Guards
    incumbent: Array

    @cached_property
    def best(self) -> float:
        """Expected objective of the incumbent, bits per byte."""
        return float(self.belief.mean(self.incumbent[None])[0])

    @cached_property
    def _normal(self) -> Array:
        """Outcomes, correlated over sets as the belief has it, shape ``(Z, E)``."""
        sets = len(self.belief.goal.w)
        sampler = qmc.Sobol(sets, scramble=True, rng=np.random.default_rng(0))
        half = norm.ppf(np.clip(sampler.random(_DRAWS // 2), 1e-6, 1 - 1e-6))
        values, vectors = np.linalg.eigh(self.belief.correlation)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return np.asarray(np.concatenate([half, -half]) @ root.T)

    @cached_property
    def weights(self) -> Array:
        """Gradient of the objective by the losses at the incumbent, shape ``(E,)``."""
        goal, model = self.belief.goal, self.belief.model
        if goal.reference is None:
            return goal.w
        here = self.incumbent[None]
        sd = self.belief.inflation * np.sqrt(model.var(here, self.belief.target))
        excess = model.mean(here, self.belief.target) + self._normal * sd - goal.reference
        worst = np.argmax(excess, axis=1)
        return np.bincount(worst, minlength=len(goal.w)) / len(worst)

    def _spread(self, each: Array, weights: Array) -> Array:
        """Deviation of a weighted sum of sets whose deviations are ``each (..., E)``."""
        signed = each * weights
        square = np.einsum("...e,ef,...f->...", signed, self.belief.correlation, signed)
        return np.asarray(self.belief.inflation * np.sqrt(np.maximum(square, 0.0)))

    def worth(self, p: Array) -> Worth:
        """Of a run of each of the mixtures ``(n, m)`` at the target."""
        model, target = self.belief.model, self.belief.target
        var = model.var(p, target)
        shared = model.cov(p, target, self.incumbent[None], target)[:, :, 0].T
        scale = np.sqrt(var + model.noise(target))
        scale = np.maximum(scale, 1e-12)
        hold = self.guards.all_hold(self.belief, p)
        if self.belief.goal.linear:
            gain = self.best - self.belief.mean(p)
            told = self._spread((var - shared) / scale, self.belief.goal.w)
            improvement = expected_improvement(gain, told)
            score = log_expected_improvement(gain, told)
        else:
            outcomes = self._outcomes(p, var / scale, shared / scale)
            gain, told = outcomes.mean(axis=0), outcomes.std(axis=0)
            improvement = np.maximum(outcomes, 0.0).mean(axis=0)
            # Draws resolve no small chances; a trace of the normal form breaks their ties.
            trace = _TRACE + log_expected_improvement(gain, told)
            score = np.logaddexp(np.log(np.maximum(improvement, 1e-300)), trace)
        score = score + np.log(np.maximum(hold, 1e-12))
        return Worth(gain, told, improvement * hold, score)

    def _outcomes(self, p: Array, told: Array, told_incumbent: Array) -> Array:
        """Differences ``g(incumbent) - g(p)`` once a run of ``p`` is known, shape ``(Z, n)``."""
        model, target, goal = self.belief.model, self.belief.target, self.belief.goal
        move = self.belief.inflation * self._normal[:, None, :]
        here = goal.value(model.mean(self.incumbent[None], target) + move * told_incumbent)
        return np.asarray(here - goal.value(model.mean(p, target) + move * told))

    def ahead(self, q: Array, rung: int, p: Array, worth: Worth | None = None) -> Array:
        """Expected worth of the best target run among ``p`` once a run of ``q`` is known.

        Args:
            q: Mixtures that could be run, shape ``(k, m)``.
            rung: Where, below the target.
            p: Mixtures that could be run at the target afterwards, shape ``(n, m)``.
            worth: Of ``p``, where it is known.

        Returns:
            Bits per byte, shape ``(k,)``; not yet divided by any cost.
        """
        model, target, w = self.belief.model, self.belief.target, self.weights
        worth = self.worth(p) if worth is None else worth
        keep = np.sort(np.argsort(-worth.score, kind="stable")[:_TOP])
        p, gain = p[keep], worth.gain[keep]
        hold = self.guards.all_hold(self.belief, p)
        incumbent = self.incumbent[None]
        sd = np.sqrt(np.maximum(model.var(q, rung) + model.noise(rung), 1e-24))  # (k, E)
        told = model.cov(p, target, q, rung) / sd.T[:, None, :]  # (E, n, k)
        told_incumbent = model.cov(incumbent, target, q, rung) / sd.T[:, None, :]  # (E, 1, k)
        var = model.var(p, target).T[:, :, None] - told**2
        shared = model.cov(p, target, incumbent, target) - told * told_incumbent
        after = (var - shared) / np.sqrt(
            np.maximum(np.maximum(var, 0.0) + model.noise(target)[:, None, None], 1e-24)
        )
        spread = self._spread(np.moveaxis(after, 0, -1), w)  # (n, k)
        shift = w[:, None, None] * (told_incumbent - told)
        move = self.belief.inflation * np.einsum("ze,enk->znk", self._normal, shift)
        value = expected_improvement(
            gain[None, :, None] + move, np.broadcast_to(spread, move.shape)
        )
        return np.asarray((value * hold[None, :, None]).max(axis=1).mean(axis=0))

    def information(self, p: Array, q: Array, rung: int) -> tuple[Array, float]:
        """How much a run tells of the differences between mixtures at the target.

        Args:
            p: The mixtures to tell apart, shape ``(n, m)``.
            q: Mixtures that could be run, shape ``(k, m)``.
            rung: Where.

        Returns:
            The expected fall of the mean variance of the objective's differences among ``p``,
            shape ``(k,)``, and that variance now; squared bits per byte.
        """
        model, target = self.belief.model, self.belief.target
        square = (self.belief.inflation * self.weights) ** 2
        cov = np.einsum("e,enk->nk", square, model.cov(p, target, p, target))
        now = 2 * float(np.mean(np.diag(cov)) - np.mean(cov))
        told = model.cov(p, target, q, rung)  # (E, n, k)
        sd = np.maximum(model.var(q, rung) + model.noise(rung), 1e-24).T
        return np.asarray(2 * np.einsum("e,ek->k", square, told.var(axis=1) / sd)), max(now, 0.0)

    def correlation(self, q: Array, rung: int) -> float:
        """Of what a run of ``q (m,)`` measures with the objective there over the incumbent's."""
        model, target = self.belief.model, self.belief.target
        square = self.weights**2
        both = np.stack([q, self.incumbent])
        cov = model.cov(both, target, both, target)
        var = cov[:, 0, 0] + cov[:, 1, 1] - 2 * cov[:, 0, 1]
        shared = model.cov(both, target, q[None], rung)[:, :, 0]
        told = shared[:, 0] - shared[:, 1]
        measured = model.var(q[None], rung)[0] + model.noise(rung)
        size = float(square @ np.maximum(var, 0.0)) * float(square @ measured)
        return float(np.clip(square @ told / np.sqrt(size), -1.0, 1.0)) if size > 0 else 0.0
