"""The ``merge`` rung: the loss of an average of branches, without training.

::

    theta(w) = theta_0 + lambda * sum_u w_u (theta_u - theta_0),    sum_u w_u = 1

With ``lambda = 1``, the default, the seed's own weights cancel and the sum runs over the branches
alone, so that a merge with all weight on one branch *is* that branch, to the last bit. Sums are
taken in the precision of the model, branches in the order of their keys: neither the order in which
a pool is listed nor the names of domains changes a bit.

One model is allocated and its parameters are views of one flat vector, so a candidate costs K
multiply-adds per parameter and an evaluation. Tied weights are one parameter and stay tied; the
rotary tables are not merged but built from the configuration. What the loss of a merge means is
for calibration against trained runs to say: it is never a result by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cuvee.corpus import PreparedCorpus
from cuvee.errors import CheckpointError, SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.config import Shape
from cuvee.proxy.device import choose_device
from cuvee.proxy.evaluate import ScoredSet, excerpt_nats, prepare_sets
from cuvee.proxy.heldout import ratio_loss
from cuvee.proxy.merge_keys import merge_eval_key
from cuvee.proxy.merge_weights import MILLION, quantise
from cuvee.proxy.model import build_model, next_token_logits
from cuvee.proxy.pool import MergePool
from cuvee.records import EvalLoss

__all__ = [
    "MergeEvaluator",
    "MergeLosses",
    "MergedModel",
    "measurement_keys",
    "paired_difference",
    "scored_sha256",
]

Floats = npt.NDArray[np.float64]


class MergedModel:
    """One model whose parameters are set to weighted averages of members.

    Args:
        module: Its structure; its parameters are overwritten.
        members: Parameters by name of each of M members, tied ones once.
        device: Where it computes.
        dtype: Precision of sums and of the model.

    Raises:
        CheckpointError: A member's tensors are not the module's, or are not finite.
        SpecError: The module keeps running statistics, which have no average.
    """

    def __init__(
        self,
        module: nn.Module,
        members: Sequence[Mapping[str, Tensor]],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.module = module.to(device=device, dtype=dtype).eval()
        parameters = dict(sorted(module.named_parameters()))
        stored = set(module.state_dict())
        if kept := stored - {name for name, _ in module.named_parameters(remove_duplicate=False)}:
            raise SpecError(f"buffers {sorted(kept)} are stored with the model and have no average")
        self._members = torch.empty(
            len(members), sum(p.numel() for p in parameters.values()), device=device, dtype=dtype
        )  # (M, P)
        for row, member in zip(self._members, members, strict=True):
            _check_tensors(parameters, member)
            torch.cat([member[name].flatten().to(device, dtype) for name in parameters], out=row)
            if not bool(torch.isfinite(row).all()):
                raise CheckpointError("weights to be averaged are not all finite")
        self._flat = torch.zeros_like(self._members[0])  # (P,)
        self._parameters = tuple(parameters.values())
        start = 0
        for parameter in self._parameters:
            stop = start + parameter.numel()
            parameter.data = self._flat[start:stop].view(parameter.shape)
            start = stop

    def set_weights(self, weights: Sequence[float]) -> None:
        """Set the parameters to ``sum_m weights[m] * member[m]``; weights sum to one, shape (M,).

        Members of weight 0 are left out, so one member alone is reproduced exactly.

        Raises:
            SpecError: The weights are not finite or do not sum to one.
        """
        total = math.fsum(weights)
        if len(weights) != len(self._members) or not abs(total - 1) < 1e-9:
            raise SpecError(
                f"{len(self._members)} weights that sum to one are needed, got {len(weights)} with "
                f"a sum of {total!r}"
            )
        used = [(m, float(w)) for m, w in enumerate(weights) if w != 0]
        with torch.no_grad():
            torch.mul(self._members[used[0][0]], used[0][1], out=self._flat)
            for m, weight in used[1:]:
                self._flat.add_(self._members[m], alpha=weight)

    def member_products(self) -> Floats:
        """Inner product of the parameters' gradient with each member, shape (M,), in fp64.

        By the chain rule this is the gradient of the loss by the weights, up to a constant, which
        weights that sum to one never feel: the first member is taken off all of them, since what
        members have in common would only cost digits.
        """
        gradient = torch.cat(
            [
                torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                for p in self._parameters
            ]
        )
        first, exact = self._members[0], gradient.double()
        return np.array([float((member - first).double() @ exact) for member in self._members])

    def clear_gradient(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def _check_tensors(parameters: Mapping[str, Tensor], member: Mapping[str, Tensor]) -> None:
    if parameters.keys() != member.keys():
        raise CheckpointError(
            f"tensors differ: missing {sorted(parameters.keys() - member.keys())}, "
            f"too many {sorted(member.keys() - parameters.keys())}"
        )
    for name, parameter in parameters.items():
        tensor = member[name]
        if tensor.shape != parameter.shape or not tensor.is_floating_point():
            raise CheckpointError(
                f"tensor {name!r} has shape {list(tensor.shape)} and type {tensor.dtype}, expected "
                f"floats of shape {list(parameter.shape)}"
            )


@dataclass(frozen=True, slots=True)
class MergeLosses:
    """What one merge measured.

    Attributes:
        mixture: Shares over domains; None where weights were given.
        millionths: Weights of the pool's branches, summing to a million.
        losses: By evaluation set.
        nats: By evaluation set, nats of each excerpt, shape (E,).
        keys: By evaluation set, the name of the measurement.
    """

    mixture: Mixture | None
    millionths: tuple[int, ...]
    losses: Mapping[str, EvalLoss]
    nats: Mapping[str, Floats]
    keys: Mapping[str, str]


class MergeEvaluator:
    """Evaluates mixtures on a pool. Holds all branches in memory: 4 bytes per parameter and branch.

    Args:
        pool: The pool.
        corpus: Whose held-out sets are scored.
        eval_tokens: Tokens to score per set, at least.
        device: ``auto`` (CUDA if there is one), or a PyTorch device.

    Raises:
        CheckpointError: The corpus has another tokenizer than the pool, or weights are damaged.
        UnavailableError: The device is not there.
    """

    def __init__(
        self, pool: MergePool, corpus: PreparedCorpus, eval_tokens: int, device: str = "auto"
    ) -> None:
        if pool.seed.identity.tokenizer_sha256 != corpus.manifest.tokenizer_sha256:
            raise CheckpointError(
                f"the pool's tokenizer is {pool.seed.identity.tokenizer_sha256}, the corpus has "
                f"{corpus.manifest.tokenizer_sha256}: a model reads its own tokens only",
                field="tokenizer_sha256",
            )
        self.pool = pool
        self.device = choose_device(device)
        lineage = pool.seed.lineage
        context = int(lineage["context"])
        self.sets: Mapping[str, ScoredSet] = prepare_sets(corpus, context, eval_tokens)
        self.digests = {name: scored_sha256(scored) for name, scored in self.sets.items()}
        # The seed is the last member, of weight 1 - lambda.
        self.model = MergedModel(
            build_model(Shape(**lineage["shape"]), int(lineage["vocab_size"]), context, seed=0),
            [*(branch.weights() for branch in pool.branches), pool.seed.weights()],
            device=self.device,
        )

    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of the merge that was set last."""
        return next_token_logits(self.model.module, ids)

    def evaluate(
        self,
        mixtures: Sequence[Mixture],
        *,
        scale: float = 1.0,
        on_losses: Callable[[MergeLosses], None] = lambda losses: None,
        on_batch: Callable[[], None] | None = None,
    ) -> list[MergeLosses]:
        """The losses of many mixtures, in one allocated model.

        Args:
            mixtures: Shares over domains.
            scale: ``lambda``; for research, since other values than 1 did harm.
            on_losses: Called with each result.
            on_batch: Called after each batch; what it raises ends the evaluation.

        Raises:
            SpecError: A domain of a mixture has no branch, or the anchor puts it out of reach.
        """
        weights = [self.pool.weights(mixture) for mixture in mixtures]  # refuse before any work
        results = []
        for mixture, w in zip(mixtures, weights, strict=True):
            results.append(self._measure(w.tolist(), mixture, scale, on_batch))
            on_losses(results[-1])
        return results

    def evaluate_weights(self, weights: Sequence[float], *, scale: float = 1.0) -> MergeLosses:
        """The losses of a merge by its weights over ``pool.branches``, such as those of a set.

        Raises:
            SpecError: The weights are negative or do not sum to one.
        """
        return self._measure(weights, None, scale, None)

    def seed_losses(self) -> dict[str, EvalLoss]:
        """The losses of the seed itself."""
        nats = self.seed_nats()
        return {name: _loss(scored, nats[name]) for name, scored in self.sets.items()}

    def seed_nats(self) -> dict[str, Floats]:
        """Nats of each excerpt of each set under the seed, shape (E,)."""
        self.model.set_weights([0.0] * len(self.pool.branches) + [1.0])
        return {name: self._nats(scored, None) for name, scored in self.sets.items()}

    def _measure(
        self,
        weights: Sequence[float],
        mixture: Mixture | None,
        scale: float,
        on_batch: Callable[[], None] | None,
    ) -> MergeLosses:
        millionths = quantise(weights)
        self.model.set_weights([*(scale * count / MILLION for count in millionths), 1 - scale])
        nats = {name: self._nats(scored, on_batch) for name, scored in self.sets.items()}
        return MergeLosses(
            mixture=mixture,
            millionths=tuple(millionths),
            losses={name: _loss(scored, nats[name]) for name, scored in self.sets.items()},
            nats=nats,
            keys=measurement_keys(self.pool, self.digests, millionths, scale=scale),
        )

    def _nats(self, scored: ScoredSet, on_batch: Callable[[], None] | None) -> Floats:
        return excerpt_nats(self.logits, scored, self.device, on_batch)


def _loss(scored: ScoredSet, nats: Floats) -> EvalLoss:
    return ratio_loss(nats, scored.tokens, scored.sizes)


def paired_difference(
    first: Floats, second: Floats, sizes: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """How much higher the first of two models scores on one set, and how sure that is.

    Both are scored on the same excerpts, so what these have in common drops out: the error is that
    of a ratio estimate over differences (``heldout.ratio_loss``), usually far below the error of
    either loss.

    Args:
        first: Nats of each excerpt, shape (E,).
        second: The other model's, shape (E,).
        sizes: UTF-8 bytes of each excerpt, shape (E,).

    Returns:
        Difference and its standard error, bits per byte; the error is 0 for a single excerpt.
    """
    difference, count = first - second, first.size
    rate = float(difference.sum() / sizes.sum())
    residuals = difference - rate * sizes
    variance = float(residuals @ residuals) * count / (count - 1) if count > 1 else 0.0
    return rate / math.log(2), variance**0.5 / (math.log(2) * float(sizes.sum()))


def measurement_keys(
    pool: MergePool,
    digests: Mapping[str, str],
    millionths: Sequence[int],
    *,
    scale: float = 1.0,
    kind: Literal["merge", "logprob"] = "merge",
) -> dict[str, str]:
    """Names of the measurements of a merge by evaluation set, known before it is evaluated.

    Args:
        pool: The pool.
        digests: ``scored_sha256`` of each evaluation set.
        millionths: ``quantise(pool.weights(mixture))``.
        scale: ``lambda``.
        kind: Whether weights are averaged, or the branches' probabilities.
    """
    items = [
        (branch.key, branch.step, count)
        for branch, count in zip(pool.branches, millionths, strict=True)
    ]
    return {
        name: merge_eval_key(items, digest, scale=scale, kind=kind)
        for name, digest in digests.items()
    }


def scored_sha256(scored: ScoredSet) -> str:
    """SHA-256 of all that is scored of a set, and how it is cut."""
    digest = hashlib.sha256()
    for array in (scored.inputs, scored.targets, scored.excerpt, scored.tokens, scored.sizes):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
