"""A pool: a seed and branches of it that may be averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cuvee.errors import CheckpointError, SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.merge_weights import domain_weights
from cuvee.proxy.trained import Branch, Seed, load_branch, load_seed

__all__ = ["MergePool", "open_pool"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MergePool:
    """A seed and branches of it that may be averaged, in the order of their keys.

    Attributes:
        seed: The seed.
        branches: Its branches, K of them.
        domains: The domain of each branch.
        natural: Shares over domains that anchored branches lean to; None without an anchor.
        anchor_share: The part of their data that anchored branches share.
    """

    seed: Seed
    branches: tuple[Branch, ...]
    domains: tuple[str, ...]
    natural: Mixture | None
    anchor_share: float

    @property
    def names(self) -> tuple[str, ...]:
        """Domains, in alphabetical order."""
        return tuple(sorted(set(self.domains)))

    def weights(self, mixture: Mixture) -> Floats:
        """A mixture's weights over branches, shape (K,).

        Raises:
            SpecError: A domain of the mixture has no branch, or the anchor puts it out of reach.
        """
        return domain_weights(
            self.domains, mixture, anchor_share=self.anchor_share, natural=self.natural
        )

    def shares_gradient(self, gradient: Floats) -> Floats:
        """From the gradient by weights, shape (K,), to that by shares of ``names``, shape (D,)."""
        domains = np.array(self.domains)
        means = np.array([gradient[domains == name].mean() for name in self.names])
        by_shares: Floats = means / (1 - self.anchor_share)
        return by_shares


def open_pool(
    root: Path, seed_key: str, branches: Mapping[str, Sequence[str]], step: int | None = None
) -> MergePool:
    """Find a pool's finished weights and see that they may be averaged.

    Args:
        root: Where they lie.
        seed_key: Names the seed.
        branches: Keys of the branches of each domain.
        step: One of the branches' kept steps, the last unless given.

    Raises:
        NotFoundError: Something is not there.
        CheckpointError: Something is damaged, or belongs to another pool; the message names what
            differs.
    """
    seed = load_seed(root, seed_key)
    found = sorted(
        ((load_branch(root, key, step), domain) for domain in branches for key in branches[domain]),
        key=lambda pair: (pair[0].key, pair[1]),
    )
    if not found:
        raise SpecError("a pool needs at least one branch", field="branches")
    first = found[0]
    for branch, domain in found:
        _check_member(seed, first, branch, domain)
    anchor = first[0].lineage["anchor"]
    natural = None
    if anchor is not None:
        shares = dict.fromkeys(branches, 0.0)
        for branch, domain in found:
            shares[domain] += anchor["natural"][branch.lineage["unit"]]
        natural = Mixture.from_weights(shares)
    return MergePool(
        seed=seed,
        branches=tuple(branch for branch, _ in found),
        domains=tuple(domain for _, domain in found),
        natural=natural,
        anchor_share=0.0 if anchor is None else float(anchor["share"]),
    )


def _check_member(seed: Seed, first: tuple[Branch, str], branch: Branch, domain: str) -> None:
    identity = branch.lineage["seed"]
    if identity is None:
        raise CheckpointError(
            f"{branch.key[:12]} (domain {domain!r}) is a seed, not a branch", file=str(branch.file)
        )
    expected = {
        "checkpoint_sha256": seed.identity.checkpoint_sha256,
        "arch_hash": seed.identity.arch_hash,
        "tokenizer_sha256": seed.identity.tokenizer_sha256,
    }
    for field, value in expected.items():
        if identity[field] != value:
            raise CheckpointError(
                f"the branch {branch.key[:12]} of domain {domain!r} continues another seed: "
                f"{field} {identity[field]}, not {value}. Branches of different seeds cannot be "
                "averaged: train this one from the pool's seed",
                file=str(branch.file),
                field=field,
            )
    other, its_domain = first
    for field in ("recipe", "anchor", "shape", "vocab_size", "context"):
        mine, theirs = branch.lineage[field], other.lineage[field]
        if mine != theirs:
            raise CheckpointError(
                f"the branches of domains {its_domain!r} and {domain!r} were trained differently: "
                f"{field} {theirs} and {mine}. Train both with one recipe",
                file=str(branch.file),
                field=field,
            )
    if branch.step != other.step:
        raise CheckpointError(
            f"the branches of domains {its_domain!r} and {domain!r} have {other.step} and "
            f"{branch.step} steps: the longer would dominate the average",
            file=str(branch.file),
            field="step",
        )
