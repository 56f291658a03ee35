"""Batches of training sequences in a mixture's proportions.

The n-th sequence is a function of (corpus, mixture, seed, n), so the whole state of a run is one
integer, a run resumes anywhere to the same batches, and k processes that take every k-th batch
divide the stream between them. Each domain is visited in a keyed order of its own, named after the
domain: adding a domain, or changing the shares, leaves the order within every other one as it was.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cuvee.corpus.apportion import GRID, Apportionment
from cuvee.corpus.permute import Permutation
from cuvee.corpus.prepared import PreparedCorpus
from cuvee.errors import CorpusError, EpochCapError
from cuvee.mixture import Mixture, largest_remainder
from cuvee.records import CorpusManifest

__all__ = ["MixtureSampler", "matched_pools"]

_CAP_SLACK = 1e-6


class MixtureSampler:
    """A deterministic stream of sequences; position n is the number of sequences drawn before.

    A domain's packed tokens are cut into windows of ``sequence_length``, each with the one token
    that follows it, and the windows are drawn in a keyed order, a new one every epoch.

    Args:
        corpus: A prepared corpus.
        mixture: Shares by tokens; domains that it leaves out have share 0.
        sequence_length: Inputs per sequence; batches are one token longer.
        seed: Chooses the order within each domain.
        total_tokens: Length of the run, for the check of epochs.
        max_epochs: How often each domain may be repeated; a domain left out has no cap.
        pool_tokens: Use only so many of a domain's tokens (the first in packed order, a random
            subset that a larger pool contains); a domain left out is used whole.

    Raises:
        SpecError: The mixture names an unknown domain.
        CorpusError: A domain of the mixture has less than one sequence of tokens.
        EpochCapError: The run needs more epochs of a domain than ``max_epochs`` allows.
    """

    def __init__(
        self,
        corpus: PreparedCorpus,
        mixture: Mixture,
        *,
        sequence_length: int,
        seed: int,
        total_tokens: int,
        max_epochs: Mapping[str, float] | None = None,
        pool_tokens: Mapping[str, int] | None = None,
    ) -> None:
        shares = dict(
            zip(corpus.manifest.names, mixture.shares(corpus.manifest.names), strict=True)
        )
        self._names = sorted(name for name, share in shares.items() if share > 0)
        weights = largest_remainder([shares[name] for name in self._names], GRID)
        self._order = Apportionment(weights)
        self._length = sequence_length
        self._seed = seed
        self._tokens = [corpus.train_tokens(name) for name in self._names]
        self._pools = [
            min(len(tokens), (pool_tokens or {}).get(name, len(tokens)))
            for name, tokens in zip(self._names, self._tokens, strict=True)
        ]
        self._sizes = [(pool - 1) // sequence_length for pool in self._pools]
        self._check_sizes()
        self._check_caps([w / GRID for w in weights], total_tokens, max_epochs or {})
        self._permutations: dict[tuple[int, int], Permutation] = {}

    def batch(self, position: int, size: int) -> npt.NDArray[np.int64]:
        """Sequences ``position`` to ``position + size - 1``: int64 ``(size, sequence_length + 1)``.

        Positions beyond the run's length are served too; only the check of epochs knows the length.
        """
        labels = self._order.labels(position, position + size)
        before = self._order.counts(position)
        window = np.arange(self._length + 1)
        out = np.empty((size, self._length + 1), dtype=np.int64)
        for domain in np.unique(labels):
            rows = np.flatnonzero(labels == domain)
            drawn = before[domain] + np.arange(len(rows))
            starts = self._windows(int(domain), drawn) * self._length
            out[rows] = self._tokens[domain][starts[:, None] + window]
        return out

    def counts(self, position: int) -> dict[str, int]:
        """Sequences per domain among the first ``position``; within one of ``position * share``."""
        return dict(zip(self._names, self._order.counts(position).tolist(), strict=True))

    def epochs(self, position: int) -> dict[str, float]:
        """How often each domain's pool has been gone through after ``position`` sequences."""
        counts = self._order.counts(position)
        return {
            name: float(count) / size
            for name, count, size in zip(self._names, counts, self._sizes, strict=True)
        }

    def _windows(self, domain: int, drawn: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Window numbers of a domain's ``drawn``-th sequences."""
        size = self._sizes[domain]
        epochs, within = drawn // size, drawn % size
        out = np.empty(len(drawn), dtype=np.int64)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            out[mine] = self._permutation(domain, int(epoch))(within[mine])
        return out

    def _permutation(self, domain: int, epoch: int) -> Permutation:
        key = (domain, epoch)
        if key not in self._permutations:
            name = self._names[domain]
            self._permutations[key] = Permutation(self._sizes[domain], self._seed, name, epoch)
        return self._permutations[key]

    def _check_sizes(self) -> None:
        for name, pool, size in zip(self._names, self._pools, self._sizes, strict=True):
            if size < 1:
                raise CorpusError(
                    f"domain {name!r} has {pool:,} tokens to draw from, less than one sequence of "
                    f"{self._length} and the token after it. Lower sequence_length, or leave the "
                    "domain out of the mixture",
                    domain=name,
                )

    def _check_caps(
        self, shares: list[float], total_tokens: int, max_epochs: Mapping[str, float]
    ) -> None:
        for name, share, pool in zip(self._names, shares, self._pools, strict=True):
            cap = max_epochs.get(name, float("inf"))
            needed = share * total_tokens / pool
            if needed > cap * (1 + _CAP_SLACK):
                raise EpochCapError(
                    f"a share of {share:.4g} of {total_tokens:,} tokens repeats {name!r} "
                    f"{needed:.2f} times ({pool:,} tokens), more than its cap of {cap:g}. Lower "
                    "the share or the run's tokens, or raise the cap",
                    domain=name,
                    epochs=needed,
                    cap=cap,
                )


def matched_pools(
    manifest: CorpusManifest, run_tokens: int, target_tokens: int, *, floor_tokens: int
) -> dict[str, int]:
    """Tokens of each domain that a short run should draw from, to repeat them like the target run.

    A proxy that sees a scarce domain once, where the target run sees it four times, makes it look
    better than it is (arXiv 2606.07597). With pools of ``tokens * run_tokens / target_tokens`` both
    go through every domain equally often.

    Args:
        manifest: The corpus.
        run_tokens: Tokens of the short run.
        target_tokens: Tokens of the run that the mixture is for.
        floor_tokens: No pool is smaller (unless the domain is): too few sequences would be learnt
            by heart. Where the floor binds, the short run repeats the domain less than the target.

    Returns:
        Pool size by domain, never more than the domain has.
    """
    scale = min(1.0, run_tokens / target_tokens)
    return {
        domain.name: min(domain.tokens, max(floor_tokens, int(-(-domain.tokens * scale // 1))))
        for domain in manifest.domains
    }
