"""Synthetic worlds with known optima: what the engine is tested and measured on.

``log_linear`` worlds obey the law exactly, and their optimum is built in: the gradient at a chosen
mixture is made to satisfy the optimality conditions. ``power`` worlds have
``L_e = c_e + (S_e . p + s0)^-a``, the shape that language models show: a share that falls to zero
costs steeply, which no log-linear law can follow. ``log_quadratic`` worlds add interactions,
``L_e = c_e + exp(t_e . p + p . Q_e . p)``: two domains together help or hurt more than each alone.
The optima of the last two are found numerically, from many starts where there is more than one.

A lower rung is ``related`` (the target's law, disturbed), ``biased`` (its optimum is elsewhere,
because it values some domains more than the target does, for every set alike) or ``useless`` (the
law of a world whose domains were mixed up).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import minimize

from cuvee.engine.space.simplex import Array, Region
from cuvee.mixture import Mixture
from cuvee.records import (
    CorpusManifest,
    DomainCensus,
    EvalLoss,
    History,
    Observation,
    Proposal,
    SearchProblem,
)
from cuvee.spec import (
    Constraints,
    JobSpec,
    NgramRung,
    Objective,
    ProxyRung,
    Rung,
    StrategyName,
    Verification,
)

__all__ = [
    "Low",
    "World",
    "interaction_world",
    "log_linear_world",
    "power_world",
    "run_search",
]

Kind: TypeAlias = Literal["log_linear", "power", "log_quadratic"]
Low: TypeAlias = Literal["related", "biased", "useless"]
"""How the rungs below the target relate to it."""

_BYTES = 100_000  # bytes behind a synthetic held-out loss


@dataclass(frozen=True)
class World:
    """True losses per rung and evaluation set.

    Attributes:
        names: The domains; each of the first ``E`` has an evaluation set of its own name.
        kind: Which formula.
        c: Floors, shape ``(R, E)``.
        t: Log-slopes, or the power law's effective-data matrix, shape ``(R, E, m)``.
        exponent: The power law's ``a``, shape ``(R, E)``; unused by the other laws.
        noise: Standard deviation of one loss between seeds, bits per byte, shape ``(R,)``.
        weights: Objective weights, shape ``(E,)``.
        tokens: Supply by domain.
        optimum: The best mixture over the whole simplex, or over ``region`` where one was given.
        q: Symmetric interactions ``Q_e`` of a log-quadratic law, shape ``(R, E, m, m)``.
    """

    names: tuple[str, ...]
    kind: Kind
    c: Array
    t: Array
    exponent: Array
    noise: Array
    weights: Array
    tokens: tuple[int, ...]
    optimum: Array
    q: Array | None = None

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the evaluation sets."""
        return self.names[: len(self.weights)]

    def losses(self, p: Array, rung: int) -> Array:
        """True losses at a mixture, bits per byte, shape ``(E,)``."""
        return self._losses_and_slopes(p, rung)[0]

    def objective(self, p: Array, rung: int = -1) -> float:
        return float(self.weights @ self.losses(p, rung))

    def gradient(self, p: Array, rung: int = -1) -> Array:
        """Gradient of the objective, shape ``(m,)``."""
        _, inner, slope = self._losses_and_slopes(p, rung)
        return np.asarray((self.weights * slope) @ inner)

    def _losses_and_slopes(self, p: Array, rung: int) -> tuple[Array, Array, Array]:
        """Losses ``(E,)``; the gradients of the law's argument ``(E, m)``; its slope ``(E,)``."""
        inner, gradient = self.t[rung] @ p, self.t[rung]
        if self.q is not None:
            bent = self.q[rung] @ p
            inner, gradient = inner + bent @ p, gradient + 2 * bent
        if self.kind == "power":
            a, base = self.exponent[rung], 0.02 + inner
            return self.c[rung] + base**-a, gradient, -a * base ** (-a - 1)
        return self.c[rung] + np.exp(inner), gradient, np.exp(inner)

    def problem(
        self,
        runs: tuple[int, ...],
        *,
        strategy: StrategyName = "mixing_law",
        constraints: Constraints | None = None,
        baseline: dict[str, float] | None = None,
        verification: Verification | None = None,
        seed: int = 0,
        costs: tuple[float, ...] | None = None,
    ) -> SearchProblem:
        """A search over this world.

        Args:
            runs: The rungs' budgets, cheapest first.
            strategy: How proposals are chosen.
            constraints: None: the whole simplex.
            baseline: None: natural shares.
            verification: None: the default.
            seed: The job's seed.
            costs: Of one run by rung; None: the engine takes measured seconds.
        """
        cost = costs or (None,) * len(runs)
        rungs: list[Rung] = [
            NgramRung(runs=n, cost=c) for n, c in zip(runs[:-1], cost[:-1], strict=True)
        ]
        rungs.append(ProxyRung(runs=runs[-1], parameters=100_000, tokens=1_000_000, cost=cost[-1]))
        spec = JobSpec(
            corpus="synthetic",
            rungs=tuple(rungs),
            objective=Objective(
                weights=dict(zip(self.sets, map(float, self.weights), strict=True))
            ),
            constraints=constraints or Constraints(),
            baseline=baseline,
            strategy=strategy,
            verification=verification or Verification(),
            seed=seed,
        )
        problem = SearchProblem.build(spec, self.manifest())
        return problem.model_copy(
            update={"eval_sets": self.sets, "weights": problem.weights[: len(self.sets)]}
        )

    def manifest(self) -> CorpusManifest:
        return CorpusManifest(
            digest="0" * 64,
            domains=tuple(
                DomainCensus(
                    name=name,
                    documents=100,
                    bytes=4 * tokens,
                    tokens=tokens,
                    heldout_documents=10,
                    heldout_bytes=_BYTES,
                    heldout_tokens=_BYTES // 4,
                )
                for name, tokens in zip(self.names, self.tokens, strict=True)
            ),
            vocab_size=4096,
            tokenizer_sha256="0" * 64,
        )

    def measure(self, mixture: Mixture, rung: int, seed: int) -> dict[str, EvalLoss]:
        """What a run would report: truth plus noise that depends on the mixture and the seed."""
        digest = int(mixture.digest(), 16)
        rng = np.random.default_rng([seed, rung, digest & 0xFFFFFFFF])
        true = self.losses(np.array(mixture.shares(self.names)), rung)
        # Seeds move all sets of a run together as much as each alone.
        noise = self.noise[rung] * np.sqrt(0.5) * (rng.normal() + rng.normal(size=len(true)))
        nats = np.maximum(true + noise, 1e-3) * np.log(2) * _BYTES
        return {
            name: EvalLoss(nats=float(v), nats_se=0.0, tokens=_BYTES // 4, bytes=_BYTES)
            for name, v in zip(self.sets, nats, strict=True)
        }

    def observe(self, proposal: Proposal, run_id: str) -> Observation:
        return Observation(
            run_id=run_id,
            rung=proposal.rung,
            mixture=proposal.mixture,
            seed=proposal.seed,
            losses=self.measure(proposal.mixture, proposal.rung, proposal.seed),
            seconds=10.0 if proposal.rung else 0.1,
            train_tokens=1000,
            purpose=proposal.purpose,
            label=proposal.label,
        )


def log_linear_world(
    rng: np.random.Generator,
    optimum: Array,
    *,
    noise: tuple[float, ...] = (0.0, 0.01),
    weights: Array | None = None,
    strength: float = 2.0,
    low: Low = "related",
) -> World:
    """A world that obeys the law, with its optimum at ``optimum`` (zeros put it on a face).

    Args:
        rng: Draws the law.
        optimum: Where the least is to be, shape ``(m,)``.
        noise: Deviation of a run by rung, bits per byte; its length is the number of rungs.
        weights: Of the objective, shape ``(E,)``, ``E <= m``; None: every domain's set, equally.
        strength: How strongly losses depend on shares.
        low: How the rungs below the target relate to it.
    """
    m = len(optimum)
    w = np.full(m, 1 / m) if weights is None else weights / weights.sum()
    rise = rng.uniform(0.5, 1.5, size=len(w))
    t = rng.normal(scale=0.3 * strength, size=(len(w), m)) - strength * np.eye(len(w), m)
    # Shift columns until the gradient is level on the support and higher off it (KKT).
    level = np.where(optimum > 0, 0.0, rng.uniform(0.1, 0.5, size=m))
    t -= ((w * rise) @ t - level) / (w @ rise)
    t += (np.log(rise) - t @ optimum)[:, None]
    return _ladder(rng, "log_linear", w, t, np.ones(len(w)), noise, optimum, low)


def power_world(
    rng: np.random.Generator,
    m: int,
    *,
    noise: tuple[float, ...] = (0.0, 0.01),
    weights: Array | None = None,
    region: Region | None = None,
    low: Low = "related",
) -> World:
    """A world with steep faces; ``S_e`` is one for the own domain and less for the others."""
    w = rng.dirichlet(np.full(m, 0.5)) if weights is None else weights / weights.sum()
    transfer = rng.beta(0.4, 2.0, size=(len(w), m)) * 0.6
    np.fill_diagonal(transfer, 1.0)
    exponent = rng.uniform(0.15, 0.45, size=len(w))
    world = _ladder(rng, "power", w, transfer, exponent, noise, np.full(m, 1 / m), low)
    return replace(world, optimum=_least(world, region, [np.full(m, 1 / m)]))


def interaction_world(
    rng: np.random.Generator,
    m: int,
    *,
    noise: tuple[float, ...] = (0.0, 0.01),
    strength: float = 2.0,
    interaction: float = 3.0,
) -> World:
    """A log-quadratic world: a third of the pairs of domains help or hurt each other.

    Such an objective can have several local minima; the optimum is the least over ``4 m + 16``
    starts.
    """
    base = log_linear_world(rng, rng.dirichlet(np.full(m, 2.0)), noise=noise, strength=strength)
    pairs = np.triu(rng.random((m, m)) < 1 / 3, 1)
    q = np.where(pairs, rng.normal(scale=interaction, size=(m, m, m)), 0.0)
    q = (q + np.swapaxes(q, 1, 2)) / 2
    world = replace(base, kind="log_quadratic", q=np.broadcast_to(q, (len(noise), *q.shape)))
    starts = [*np.eye(m) * 0.9 + 0.1 / m, *rng.dirichlet(np.ones(m), size=3 * m + 16)]
    return replace(world, optimum=_least(world, None, starts))


def _least(world: World, region: Region | None, starts: list[Array]) -> Array:
    """The mixture with the least objective at the target, over the simplex or a region's bounds."""
    m = len(world.names)
    low = np.zeros(m) if region is None else region.lower
    high = np.ones(m) if region is None else region.upper
    rules = [{"type": "eq", "fun": lambda p: p.sum() - 1, "jac": lambda p: np.ones_like(p)}]
    found = min(
        (
            minimize(
                world.objective,
                start,
                jac=world.gradient,
                bounds=list(zip(low, high, strict=True)),
                constraints=rules,
                method="SLSQP",
                options={"maxiter": 500, "ftol": 1e-12},
            )
            for start in starts
        ),
        key=lambda result: float(result.fun),
    )
    best = np.clip(found.x, 0, None)
    return np.asarray(best / best.sum())


def _ladder(
    rng: np.random.Generator,
    kind: Kind,
    w: Array,
    t: Array,
    exponent: Array,
    noise: tuple[float, ...],
    optimum: Array,
    low: Low,
) -> World:
    """The target's law at the last rung; lower rungs are it scaled and disturbed."""
    m, rungs = len(optimum), len(noise)
    floors, slopes, exponents = [], [], []
    for rung in range(rungs):
        off = rungs - 1 - rung
        spread = np.exp(0.25 * off * rng.normal(size=t.shape))
        floors.append(rng.uniform(1.0, 1.5, size=len(w)) + 0.5 * off)
        slopes.append(_astray(rng, kind, t, low) * spread if off else t)
        exponents.append(exponent * (0.8 if off else 1.0))
    return World(
        tuple(f"d{j}" for j in range(m)),
        kind,
        np.array(floors),
        np.array(slopes),
        np.array(exponents),
        np.array(noise),
        w,
        tuple(int(v) for v in rng.integers(1_000_000, 20_000_000, size=m)),
        optimum,
    )


def _astray(rng: np.random.Generator, kind: Kind, t: Array, low: Low) -> Array:
    """The target's slopes as a lower rung has them, before it is disturbed."""
    if low == "useless":
        return t[:, rng.permutation(t.shape[1])]
    if low == "biased":
        lean = rng.normal(size=t.shape[1])
        leaning = t * np.exp(0.7 * lean) if kind == "power" else t + 0.5 * t.std() * lean
        return np.asarray(leaning)
    return t


def run_search(world: World, problem: SearchProblem, seed: int) -> History:
    """Run the loop without a service: propose, measure, until nothing is proposed."""
    from cuvee.engine.propose import propose

    history = History()
    while proposals := propose(problem, history, seed):
        measured = tuple(
            world.observe(q, f"r{len(history.observations) + i:05d}")
            for i, q in enumerate(proposals)
        )
        history = History(observations=(*history.observations, *measured))
    return history
