"""What a surrogate is given and what it answers; every surrogate passes one conformance suite.

A surrogate models the *noise-free* loss ``L_e(p, r)`` of each evaluation set ``e`` at each rung
``r``; sets are modelled one by one and combined only afterwards, for the aggregate is harder to
model than its parts (``docs/math.md``). Losses are bits per byte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cuvee.engine.space.simplex import Array

__all__ = ["Loo", "Model", "Posterior", "Runs", "Surrogate"]

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Runs:
    """Finished runs as arrays, in canonical order (``Table``): equal histories give equal bits.

    Attributes:
        x: Mixtures, shape ``(K, m)``, rows sum to one, zeros allowed.
        y: Losses, bits per byte, shape ``(K, E)``.
        rung: Index of the rung of each run, shape ``(K,)``, 0 the cheapest.
        rungs: How many rungs there are; the last is the target.
        variance: Known variance of each measurement, from the held-out text, shape ``(K, E)``;
            zero where unknown. A surrogate adds what it learns from repeats and residuals.
        task: 0 for this job's runs, 1, 2 ... for those of earlier jobs, shape ``(K,)``.
    """

    x: Array
    y: Array
    rung: Indices
    rungs: int
    variance: Array
    task: Indices

    @classmethod
    def of(
        cls,
        x: Array,
        y: Array,
        rung: Sequence[int] | Indices | int = 0,
        *,
        rungs: int | None = None,
        variance: Array | None = None,
        task: Indices | None = None,
    ) -> Runs:
        """Runs from plain arrays; what is left out means: one rung, unknown variance, this job."""
        levels = np.broadcast_to(np.asarray(rung, dtype=np.intp), len(x)).copy()
        return cls(
            np.asarray(x, dtype=np.float64),
            np.asarray(y, dtype=np.float64),
            levels,
            int(levels.max(initial=0)) + 1 if rungs is None else rungs,
            np.zeros(np.shape(y)) if variance is None else variance,
            np.zeros(len(x), dtype=np.intp) if task is None else task,
        )

    @property
    def target(self) -> int:
        return self.rungs - 1

    @property
    def muted(self) -> npt.NDArray[np.bool_]:
        """Which measurements have no say, shape ``(K, E)``: less is known than of any other run.

        Screening mutes what does not fit with the others by a variance far above the set's own.
        """
        return np.asarray(self.variance > self.y.var(axis=0))

    def __len__(self) -> int:
        return len(self.x)

    def where(self, keep: npt.NDArray[np.bool_] | Indices) -> Runs:
        """Some of the runs."""
        return replace(
            self,
            x=self.x[keep],
            y=self.y[keep],
            rung=self.rung[keep],
            variance=self.variance[keep],
            task=self.task[keep],
        )

    def at(self, rung: int) -> Runs:
        """The runs of one rung."""
        return self.where(self.rung == rung)


@dataclass(frozen=True)
class Posterior:
    """Joint prediction of the noise-free losses at ``n`` mixtures, sets independent of each other.

    Attributes:
        mean: Shape ``(n, E)``, bits per byte.
        cov: Covariance between mixtures, shape ``(E, n, n)``.
    """

    mean: Array
    cov: Array

    @property
    def var(self) -> Array:
        """Marginal variances, shape ``(n, E)``."""
        return np.asarray(np.maximum(np.einsum("enn->ne", self.cov), 0.0))

    def draws(self, rng: np.random.Generator, count: int) -> Array:
        """Joint normal draws, shape ``(count, n, E)``."""
        sets, n, _ = self.cov.shape
        values, vectors = np.linalg.eigh((self.cov + np.swapaxes(self.cov, 1, 2)) / 2)
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        normal = rng.standard_normal((count, sets, n))
        return np.asarray(self.mean + np.einsum("enk,bek->bne", root, normal))


@dataclass(frozen=True)
class Loo:
    """Leave-one-out predictions of each run's *measurement*: its noise is in the variance.

    Attributes:
        mean: Shape ``(K, E)``, in the order of the runs fitted, bits per byte.
        var: Shape ``(K, E)``.
    """

    mean: Array
    var: Array


class Model(ABC):
    """A fitted surrogate. Immutable; every answer is a function of what was fitted."""

    runs: Runs

    @abstractmethod
    def mean(self, p: Array, rung: int) -> Array:
        """Expected noise-free losses at mixtures ``(n, m)``, shape ``(n, E)``; ``O(n)`` memory."""

    @abstractmethod
    def var(self, p: Array, rung: int) -> Array:
        """Variance of the noise-free losses at mixtures ``(n, m)``, shape ``(n, E)``."""

    def moments(self, p: Array, rung: int) -> tuple[Array, Array]:
        """``mean`` and ``var``, for less where they have work in common."""
        return self.mean(p, rung), self.var(p, rung)

    @abstractmethod
    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        """Covariance of the losses of ``p (n, m)`` at ``rung`` and ``q (k, m)`` at ``other``.

        Shape ``(E, n, k)``. Zero between rungs for surrogates that know only one.
        """

    @abstractmethod
    def loo(self) -> Loo:
        """Leave-one-out predictions of the fitted runs, all rungs, in the order of ``runs``."""

    @abstractmethod
    def noise(self, rung: int) -> Array:
        """Variance of a single run about the noise-free loss, shape ``(E,)``."""

    def posterior(self, p: Array, rung: int) -> Posterior:
        """Joint prediction at a moderate number of mixtures (``n x n`` memory)."""
        return Posterior(self.mean(p, rung), self.cov(p, rung, p, rung))


class Surrogate(ABC):
    """A recipe that turns runs into a model. Stateless and deterministic.

    Equivariant under permutation of domains and of sets; indifferent to the order of runs up to
    rounding (callers pass canonical order, so that bits agree); tolerant of repeated mixtures and
    of zero shares.
    """

    name: str

    @abstractmethod
    def least_runs(self, domains: int) -> int:
        """Fewest target runs, or runs of the lowest rung for one that couples rungs, to fit."""

    @abstractmethod
    def fit(self, runs: Runs) -> Model:
        """Fit.

        Raises:
            EngineError: With fewer runs than ``least_runs``, or values that are not finite.
        """

    def refit(self, model: Model, runs: Runs) -> Model:
        """Fit again when only ``Runs.variance`` has changed since ``model`` was fitted.

        A surrogate that searches for hyperparameters starts from the model's. Here: fit anew.

        Raises:
            EngineError: As ``fit``.
        """
        return self.fit(runs)
