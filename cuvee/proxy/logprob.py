"""The log-probability mixture: predictions of branches averaged, instead of their weights.

::

    L(p) = -sum_t log sum_u w_u q_u(x_t)

where ``q_u`` is what branch u gives the token, in its context (MixMin, Thudi et al. 2025, arXiv
2502.10510). Each branch is evaluated once; then any mixture costs a sum over cached numbers, about
a thousandth of a merge, and the loss is convex in the shares. It is a second biased measurement
from the same pool, to be calibrated by itself.

Memory: 4 bytes per branch and scored token. Sums are in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from cuvee.errors import SpecError
from cuvee.mixture import Mixture
from cuvee.proxy import checkpoint
from cuvee.proxy.checkpoint import Checkpoint
from cuvee.proxy.evaluate import ScoredSet, token_nats
from cuvee.proxy.heldout import ratio_loss
from cuvee.proxy.merge import MergeEvaluator, MergeLosses, measurement_keys, scored_sha256
from cuvee.proxy.merge_gradient import Objective
from cuvee.proxy.merge_keys import merge_eval_key
from cuvee.proxy.merge_weights import MILLION, quantise
from cuvee.proxy.pool import MergePool

__all__ = ["LogprobMixture", "Logprobs", "branch_logprobs"]

Floats = npt.NDArray[np.float64]
Logprobs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
"""By evaluation set, log-probabilities of its tokens in the order of windows, shape (T,)."""

_CHUNK = 1 << 14
"""Tokens worked through at once: K of these in fp64 stay in a CPU's cache."""

_TINY = 1e-290
"""Ratios of probabilities below this have lost digits."""


def branch_logprobs(
    evaluator: MergeEvaluator,
    branch: int,
    *,
    folder: Path | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Logprobs:
    """What one branch gives every scored token: costs an evaluation, the first time.

    Args:
        evaluator: Its model is set to the branch, if anything is computed.
        branch: Index into ``evaluator.pool.branches``.
        folder: Where to find and to keep them, by content; None keeps none.
        on_batch: Called after each batch; what it raises ends the evaluation.
    """
    member = evaluator.pool.branches[branch]
    found: dict[str, npt.NDArray[np.float32]] = {}
    for name, scored in evaluator.sets.items():
        key = merge_eval_key([(member.key, member.step, MILLION)], evaluator.digests[name])
        kept = None if folder is None else checkpoint.load_latest(folder / key, key)[0]
        if kept is not None:
            found[name] = kept.tensors["logprobs"].numpy()
            continue
        one_hot = [float(k == branch) for k in range(len(evaluator.pool.branches) + 1)]
        evaluator.model.set_weights(one_hot)
        found[name] = _token_logprobs(evaluator, scored, on_batch)
        if folder is not None:
            tensors = {"logprobs": torch.from_numpy(found[name])}
            checkpoint.write(folder / key, key, Checkpoint(tensors, {"step": member.step}))
    return found


@torch.no_grad()
def _token_logprobs(
    evaluator: MergeEvaluator, scored: ScoredSet, on_batch: Callable[[], None] | None
) -> npt.NDArray[np.float32]:
    parts: list[npt.NDArray[np.float32]] = []
    for batch, nats in token_nats(evaluator.logits, scored, evaluator.device):
        shown = np.arange(nats.shape[1]) < scored.lengths[batch, None]  # (B, T)
        parts.append(-nats.float().cpu().numpy()[shown])
        if on_batch is not None:
            on_batch()
    return np.concatenate(parts)


class LogprobMixture:
    """Losses of mixtures of a pool's predictions.

    Args:
        pool: The pool.
        sets: The evaluation sets.
        logprobs: Of each branch of the pool, in its order (``branch_logprobs``).

    Raises:
        SpecError: The log-probabilities are not those of the pool and the sets.
    """

    def __init__(
        self, pool: MergePool, sets: Mapping[str, ScoredSet], logprobs: Sequence[Logprobs]
    ) -> None:
        if len(logprobs) != len(pool.branches):
            raise SpecError(
                f"{len(pool.branches)} branches need log-probabilities, got {len(logprobs)}"
            )
        self.pool = pool
        self._sets = sets
        self._digests = {name: scored_sha256(scored) for name, scored in sets.items()}
        self._logprobs: dict[str, npt.NDArray[np.float32]] = {}  # (K, T) by set
        self._excerpts: dict[str, npt.NDArray[np.int64]] = {}  # (T,) by set
        for name, scored in sets.items():
            total = int(scored.lengths.sum())
            rows = [branch.get(name, np.empty(0, np.float32)) for branch in logprobs]
            if any(row.shape != (total,) for row in rows):
                raise SpecError(
                    f"evaluation set {name!r} has {total} tokens, but log-probabilities for "
                    f"{[len(row) for row in rows]}: they were computed for another set"
                )
            self._logprobs[name] = np.stack(rows)
            self._excerpts[name] = np.repeat(scored.excerpt, scored.lengths)

    @classmethod
    def measure(
        cls,
        evaluator: MergeEvaluator,
        *,
        folder: Path | None = None,
        on_batch: Callable[[], None] | None = None,
    ) -> LogprobMixture:
        """Evaluate every branch of a pool once; arguments as of ``branch_logprobs``."""
        pool = evaluator.pool
        found = [
            branch_logprobs(evaluator, k, folder=folder, on_batch=on_batch)
            for k in range(len(pool.branches))
        ]
        return cls(pool, evaluator.sets, found)

    def evaluate(self, mixtures: Sequence[Mixture]) -> list[MergeLosses]:
        """The losses of many mixtures, M of them.

        Raises:
            SpecError: A domain of a mixture has no branch, or the anchor puts it out of reach.
        """
        millionths = [quantise(self.pool.weights(mixture).tolist()) for mixture in mixtures]
        weights = np.array(millionths, dtype=np.float64) / MILLION  # (M, K)
        nats = {name: self._nats(name, weights) for name in self._sets}  # (M, E) by set
        return [
            MergeLosses(
                mixture=mixture,
                millionths=tuple(counts),
                losses={
                    name: ratio_loss(nats[name][m], scored.tokens, scored.sizes)
                    for name, scored in self._sets.items()
                },
                nats={name: nats[name][m] for name in self._sets},
                keys=measurement_keys(self.pool, self._digests, counts, kind="logprob"),
            )
            for m, (mixture, counts) in enumerate(zip(mixtures, millionths, strict=True))
        ]

    def objective(self, set_weights: Mapping[str, float]) -> Objective:
        """The weighted loss in bits per byte by shares over ``pool.names``, and its gradient.

        Convex in the shares, so ``exponentiated_gradient`` finds its minimum.
        """
        if unknown := sorted(set(set_weights) - set(self._sets)):
            raise SpecError(f"unknown evaluation sets {unknown}: there are {sorted(self._sets)}")

        def objective(shares: Floats) -> tuple[float, Floats]:
            mixture = Mixture.from_shares(self.pool.names, shares.tolist())
            weights = self.pool.weights(mixture)
            value, gradient = 0.0, np.zeros(len(weights))
            for name, weight in set_weights.items():
                factor = weight / (math.log(2) * float(self._sets[name].sizes.sum()))
                for start in range(0, self._logprobs[name].shape[1], _CHUNK):
                    logprobs, top, relative = self._chunk(name, start)
                    mixed = weights @ relative  # (T,)
                    value -= factor * float(_log(mixed, logprobs, top, weights).sum())
                    gradient -= factor * (relative / np.maximum(mixed, _TINY)).sum(axis=1)
            by_shares = self.pool.shares_gradient(gradient)
            return value, by_shares - shares @ by_shares

        return objective

    def _nats(self, name: str, weights: Floats) -> Floats:
        """Nats of each excerpt for each mixture, (M, E), for weights (M, K)."""
        excerpts = self._excerpts[name]
        count = len(self._sets[name].tokens)
        nats = np.zeros((len(weights), count))
        for start in range(0, len(excerpts), _CHUNK):
            logprobs, top, relative = self._chunk(name, start)
            here = excerpts[start : start + _CHUNK]
            for m, w in enumerate(weights):
                of_tokens = -_log(w @ relative, logprobs, top, w)
                nats[m] += np.bincount(here, weights=of_tokens, minlength=count)
        return nats

    def _chunk(self, name: str, start: int) -> tuple[Floats, Floats, Floats]:
        """Some tokens' log-probabilities, (K, T), the largest, (T,), and all over it, (K, T)."""
        logprobs = self._logprobs[name][:, start : start + _CHUNK].astype(np.float64)
        top = logprobs.max(axis=0)
        return logprobs, top, np.exp(logprobs - top)


def _log(mixed: Floats, logprobs: Floats, top: Floats, weights: Floats) -> Floats:
    """``log(weights @ exp(logprobs))``, shape (T,), where ``mixed`` is that over ``exp(top)``.

    Where the branches of the mixture give a token next to nothing and one outside it gives much,
    ``mixed`` underflows, and the sum is taken again without it.
    """
    out: Floats = top + np.log(np.maximum(mixed, _TINY))
    lost = mixed < _TINY
    if lost.any():
        used = weights > 0
        terms = np.log(weights[used])[:, None] + logprobs[np.ix_(used, lost)]
        out[lost] = np.logaddexp.reduce(terms, axis=0)
    return out
