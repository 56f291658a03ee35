"""Mixtures: shares of training tokens over named domains.

A share is by *tokens*, never by documents or bytes: "0.3" means five different things in the
trainers of the field, so every other unit is a conversion made at the edge (``cuvee.export``).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence

from pydantic import RootModel, model_validator

from cuvee.errors import SpecError

__all__ = ["SUM_TOLERANCE", "Mixture", "largest_remainder"]

SUM_TOLERANCE = 1e-5
"""How far from one a user's shares may sum: six decimals of 20 domains can be off by this much."""

_DIGEST_DECIMALS = 9


class Mixture(RootModel[dict[str, float]]):
    """Non-negative shares by domain name that sum to one.

    Construction validates and renormalises sums within ``SUM_TOLERANCE`` of one; anything further
    off is refused rather than guessed at. Use ``from_weights`` for numbers on another scale.

    Raises:
        pydantic.ValidationError: Empty, negative, non-finite, or not summing to one.
    """

    model_config = {"frozen": True}

    @model_validator(mode="after")
    def _normalise(self) -> Mixture:
        if not self.root:
            raise ValueError("a mixture needs at least one domain")
        for name, share in self.root.items():
            if not 0 <= share <= 1 + SUM_TOLERANCE:
                raise ValueError(f"share of {name!r} is {share}: shares are between 0 and 1")
        total = math.fsum(self.root.values())
        if abs(total - 1.0) > SUM_TOLERANCE:
            raise ValueError(
                f"shares sum to {total:.8g}, not 1: correct them, or use Mixture.from_weights"
            )
        if total != 1.0:
            for name in self.root:
                self.root[name] /= total
        return self

    @classmethod
    def from_weights(cls, weights: Mapping[str, float]) -> Mixture:
        """Scale non-negative weights (token counts, say) to shares.

        Raises:
            SpecError: If a weight is negative or not finite, or all are zero.
        """
        bad = {n: w for n, w in weights.items() if not math.isfinite(w) or w < 0}
        if bad:
            raise SpecError(f"weights must be finite and at least 0, got {bad}")
        largest = max(weights.values(), default=0.0)
        if largest <= 0:
            raise SpecError("weights sum to 0: at least one domain needs a positive weight")
        # Against the largest first: finite weights may have a sum that is not.
        scaled = {name: weight / largest for name, weight in weights.items()}
        total = math.fsum(scaled.values())
        return cls({name: weight / total for name, weight in scaled.items()})

    @classmethod
    def from_shares(cls, names: Sequence[str], shares: Sequence[float]) -> Mixture:
        """Pair names with shares, absorbing float error of numerical code (clips below zero)."""
        if len(names) != len(shares):
            raise SpecError(f"{len(names)} domain names but {len(shares)} shares")
        return cls.from_weights({n: max(0.0, float(s)) for n, s in zip(names, shares, strict=True)})

    @classmethod
    def uniform(cls, names: Sequence[str]) -> Mixture:
        return cls.from_weights(dict.fromkeys(names, 1.0))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.root)

    def __getitem__(self, name: str) -> float:
        return self.root[name]

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.root)

    def __len__(self) -> int:
        return len(self.root)

    def shares(self, names: Sequence[str]) -> list[float]:
        """Shares in the order of ``names``; a domain not in the mixture has share 0.

        Raises:
            SpecError: If the mixture gives a share to a domain outside ``names``.
        """
        unknown = sorted(n for n in self.root if n not in set(names) and self.root[n] > 0)
        if unknown:
            raise SpecError(f"unknown domains {unknown}: the corpus has {list(names)}")
        return [self.root.get(name, 0.0) for name in names]

    def distance(self, other: Mixture) -> float:
        """Total variation distance, between 0 and 1."""
        names = set(self.root) | set(other.root)
        return 0.5 * math.fsum(abs(self.root.get(n, 0.0) - other.root.get(n, 0.0)) for n in names)

    def digest(self) -> str:
        """A short content hash, equal for mixtures equal to nine decimals, whatever the order."""
        rounded = {n: round(s, _DIGEST_DECIMALS) for n, s in sorted(self.root.items()) if s > 0}
        return hashlib.sha256(json.dumps(rounded).encode()).hexdigest()[:16]


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """Split ``total`` into integers in proportion to ``shares`` (Hamilton's method).

    Each count differs from its exact quota by less than one, and the counts sum to ``total``.
    Ties go to the earlier index, so the result is deterministic.

    Args:
        shares: Non-negative numbers with a positive sum, any scale; shape ``(m,)``.
        total: The number of units to give out, at least 0.
    """
    scale = math.fsum(shares)
    if total < 0 or scale <= 0 or min(shares) < 0:
        raise ValueError(
            f"need total >= 0 and shares >= 0 with a positive sum, got {total}, {shares}"
        )
    quotas = [share / scale * total for share in shares]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - quotas[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts
