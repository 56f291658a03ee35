"""Byte n-gram models of real text as a world to search: deterministic, and cheap to search densely.

The target counts 400,000 bytes at order 5, the low rung 50,000 at order 3. The seed of a world
draws the weights of the evaluation sets; measurements have no noise. The optimum is the best of
2,000 spread mixtures, then of shares moved between pairs of domains in ever smaller steps until
none improves: no published method, and a denser search than any budget here allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from pathlib import Path

import numpy as np

from cuvee.corpus import PreparedCorpus, open_corpus
from cuvee.engine.space.simplex import Array
from cuvee.mixture import Mixture
from cuvee.proxy.ngram import ngram_losses
from cuvee.records import Observation, Proposal, SearchProblem
from cuvee.spec import JobSpec, NgramRung, Objective, StrategyName

__all__ = ["TextWorld", "text_world"]

_TARGET = NgramRung(order=5, train_bytes=400_000, eval_bytes=15_000)
_LOW = NgramRung(order=3, train_bytes=50_000, eval_bytes=5_000)
_SPREAD = 2_000
_STEPS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
_SEED = 0  # which part of each domain's text is counted


@dataclass(frozen=True)
class TextWorld:
    """A corpus with weights over its evaluation sets, shape ``(E,)``, and their best mixture."""

    corpus: PreparedCorpus
    weights: Array
    optimum: Array

    @property
    def names(self) -> tuple[str, ...]:
        return self.corpus.manifest.names

    def objective(self, p: Array, rung: int = -1) -> float:
        return float(_losses(self.corpus, p, (_LOW, _TARGET)[rung]) @ self.weights)

    def observe(self, proposal: Proposal, run_id: str) -> Observation:
        rung = (_LOW, _TARGET)[proposal.rung]
        return Observation(
            run_id=run_id,
            rung=proposal.rung,
            mixture=proposal.mixture,
            seed=proposal.seed,
            losses=ngram_losses(rung, self.corpus, proposal.mixture, _SEED),
            label=proposal.label,
        )

    def problem(
        self,
        runs: tuple[int, ...],
        *,
        strategy: StrategyName,
        seed: int,
        costs: tuple[float, ...],
    ) -> SearchProblem:
        """A job over the low rung and the target."""
        sets = self.corpus.manifest.eval_sets
        spec = JobSpec(
            corpus="text",
            rungs=tuple(
                rung.model_copy(update={"runs": n, "cost": cost})
                for rung, n, cost in zip((_LOW, _TARGET), runs, costs, strict=True)
            ),
            objective=Objective(weights=dict(zip(sets, self.weights.tolist(), strict=True))),
            strategy=strategy,
            seed=seed,
        )
        return SearchProblem.build(spec, self.corpus.manifest)


@lru_cache(maxsize=32)  # eight strategies search the same worlds, and an optimum takes seconds
def text_world(corpora: Path, seed: int) -> TextWorld:
    """The world of a seed over the one corpus that is prepared under ``corpora``."""
    corpus, x, y = _spread(corpora)
    weights = np.random.default_rng(seed).dirichlet(np.ones(y.shape[1]))
    best = x[np.argmin(y @ weights)]
    return TextWorld(corpus, weights, _descend(corpus, weights, best))


@lru_cache(maxsize=1)
def _spread(corpora: Path) -> tuple[PreparedCorpus, Array, Array]:
    """A corpus, mixtures all over its simplex and their losses."""
    (digest,) = sorted(p.name for p in corpora.iterdir() if len(p.name) == 64)
    corpus = open_corpus(corpora, digest)
    rng, m = np.random.default_rng(0), len(corpus.manifest.names)
    strengths = np.exp(rng.uniform(np.log(0.2), np.log(5.0), size=_SPREAD))
    x = np.array([rng.dirichlet(np.full(m, a)) for a in strengths])
    return corpus, x, np.array([_losses(corpus, p) for p in x])


def _descend(corpus: PreparedCorpus, weights: Array, p: Array) -> Array:
    """Move shares between pairs of domains while that helps."""
    least = float(_losses(corpus, p) @ weights)
    for step in _STEPS:
        better = True
        while better:
            better = False
            for i, j in permutations(range(len(p)), 2):
                moved = p.copy()
                amount = min(step, moved[i])
                moved[i] -= amount
                moved[j] += amount
                value = float(_losses(corpus, moved) @ weights)
                if amount > 0 and value < least - 1e-9:
                    p, least, better = moved, value, True
    return p


def _losses(corpus: PreparedCorpus, p: Array, rung: NgramRung = _TARGET) -> Array:
    """Losses, bits per byte, shape ``(E,)``."""
    names = corpus.manifest.names
    mixture = Mixture.from_shares(names, np.maximum(p / p.sum(), 0).tolist())
    found = ngram_losses(rung, corpus, mixture, _SEED)
    return np.array([found[e].bits_per_byte for e in corpus.manifest.eval_sets])
