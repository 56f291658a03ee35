"""Synthetic worlds with known optima: what the engine is tested and measured on.

``log_linear`` worlds obey the law exactly, and their optimum is built in: the gradient at a chosen
mixture is made to satisfy the optimality conditions. ``power`` worlds have
``L_e = c_e + (S_e . p + s0)^-a``, the shape that language models show: a share that falls to zero
costs steeply, which no log-linear law can follow. Their optimum is found numerically.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from cuvee.engine.simplex import Array, Region
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
from cuvee.spec import Constraints, JobSpec, NgramRung, Objective, ProxyRung, Rung, Verification

__all__ = ["World", "log_linear_world", "power_world", "run_search"]

_BYTES = 100_000  # bytes behind a synthetic held-out loss


@dataclass(frozen=True)
class World:
    """True losses per rung and evaluation set.

    Attributes:
        names: The domains; each has an evaluation set of its own name.
        kind: Which formula.
        c: Floors, shape ``(R, E)``.
        t: Log-slopes, or the power law's effective-data matrix, shape ``(R, E, m)``.
        exponent: The power law's ``a``, shape ``(R, E)``; unused by the log-linear law.
        noise: Standard deviation of one loss between seeds, bits per byte, shape ``(R,)``.
        weights: Objective weights, shape ``(E,)``.
        tokens: Supply by domain.
        optimum: The best mixture over the whole simplex, or over ``region`` where one was given.
    """

    names: tuple[str, ...]
    kind: Literal["log_linear", "power"]
    c: Array
    t: Array
    exponent: Array
    noise: Array
    weights: Array
    tokens: tuple[int, ...]
    optimum: Array

    def losses(self, p: Array, rung: int) -> Array:
        """True losses at a mixture, bits per byte, shape ``(E,)``."""
        inner = self.t[rung] @ p
        if self.kind == "log_linear":
            return np.asarray(self.c[rung] + np.exp(inner))
        return np.asarray(self.c[rung] + (0.02 + inner) ** -self.exponent[rung])

    def objective(self, p: Array, rung: int = -1) -> float:
        return float(self.weights @ self.losses(p, rung))

    def problem(
        self,
        runs: tuple[int, ...],
        *,
        strategy: Literal["mixing_law", "random"] = "mixing_law",
        constraints: Constraints | None = None,
        baseline: dict[str, float] | None = None,
        verification: Verification | None = None,
        seed: int = 0,
    ) -> SearchProblem:
        """A search over this world; ``runs`` gives the rungs' budgets, cheapest first."""
        rungs: list[Rung] = [NgramRung(runs=n) for n in runs[:-1]]
        rungs.append(ProxyRung(runs=runs[-1], parameters=100_000, tokens=1_000_000))
        spec = JobSpec(
            corpus="synthetic",
            rungs=tuple(rungs),
            objective=Objective(
                weights=dict(zip(self.names, map(float, self.weights), strict=True))
            ),
            constraints=constraints or Constraints(),
            baseline=baseline,
            strategy=strategy,
            verification=verification or Verification(),
            seed=seed,
        )
        return SearchProblem.build(spec, self.manifest())

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
            for name, v in zip(self.names, nats, strict=True)
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
) -> World:
    """A world that obeys the law, with its optimum at ``optimum`` (zeros put it on a face)."""
    m = len(optimum)
    w = np.full(m, 1 / m) if weights is None else weights / weights.sum()
    rise = rng.uniform(0.5, 1.5, size=m)
    t = rng.normal(scale=0.3 * strength, size=(m, m)) - strength * np.eye(m)
    # Shift columns until the gradient is level on the support and higher off it (KKT).
    level = np.where(optimum > 0, 0.0, rng.uniform(0.1, 0.5, size=m))
    t -= ((w * rise) @ t - level) / (w @ rise)
    t += (np.log(rise) - t @ optimum)[:, None]
    return _ladder(rng, "log_linear", w, t, np.ones(m), noise, optimum)


def power_world(
    rng: np.random.Generator,
    m: int,
    *,
    noise: tuple[float, ...] = (0.0, 0.01),
    weights: Array | None = None,
    region: Region | None = None,
) -> World:
    """A world with steep faces; ``S_e`` is one for the own domain and less for the others."""
    w = rng.dirichlet(np.full(m, 0.5)) if weights is None else weights / weights.sum()
    transfer = rng.beta(0.4, 2.0, size=(m, m)) * 0.6
    np.fill_diagonal(transfer, 1.0)
    exponent = rng.uniform(0.15, 0.45, size=m)
    world = _ladder(rng, "power", w, transfer, exponent, noise, np.full(m, 1 / m))
    low = np.zeros(m) if region is None else region.lower
    high = np.ones(m) if region is None else region.upper
    starts = [np.full(m, 1 / m)]
    rules = [{"type": "eq", "fun": lambda p: p.sum() - 1}]
    found = min(
        (
            minimize(
                world.objective,
                start,
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
    return World(**{**vars(world), "optimum": best / best.sum()})


def _ladder(
    rng: np.random.Generator,
    kind: Literal["log_linear", "power"],
    w: Array,
    t: Array,
    exponent: Array,
    noise: tuple[float, ...],
    optimum: Array,
) -> World:
    """The target's law at the last rung; lower rungs are it scaled and disturbed."""
    m, rungs = len(w), len(noise)
    floors, slopes, exponents = [], [], []
    for rung in range(rungs):
        off = rungs - 1 - rung
        spread = np.exp(0.25 * off * rng.normal(size=t.shape))
        floors.append(rng.uniform(1.0, 1.5, size=m) + 0.5 * off)
        slopes.append(t * spread if off else t)
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
