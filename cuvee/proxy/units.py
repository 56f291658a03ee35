"""Units of data that get a branch each: whole domains, or equal parts of them.

A unit is known by the hash of its tokens. Even the order of its sequences is keyed by that, so a
domain that is renamed, or stands beside others, gives the same branch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from cuvee.corpus import MixtureSampler, PreparedCorpus
from cuvee.errors import CorpusError, EpochCapError, SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.recipe import MergeRecipe
from cuvee.records import CorpusManifest, DomainCensus

__all__ = [
    "Unit",
    "branch_shares",
    "check_supply",
    "cut_units",
    "natural_shares",
    "seed_units",
    "unit_key_shares",
    "unit_sampler",
]


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A range of one domain's packed training tokens.

    Attributes:
        domain: The domain's name; no key contains it.
        index: Which of the domain's units.
        tokens: Token ids, uint16 or uint32, shape (T,).
        digest: SHA-256 of the tokens.
    """

    domain: str
    index: int
    tokens: npt.NDArray[Any]
    digest: str

    @property
    def label(self) -> str:
        return self.domain if self.index == 0 else f"{self.domain}#{self.index}"


def seed_units(corpus: PreparedCorpus, recipe: MergeRecipe) -> tuple[Unit, ...]:
    """The part of each domain that the seed phase draws from, in the corpus's order."""
    units = []
    for name in corpus.manifest.names:
        tokens = corpus.train_tokens(name)
        units.append(_unit(name, 0, tokens[: int(recipe.seed_data_share * len(tokens))]))
    return tuple(units)


def cut_units(corpus: PreparedCorpus, recipe: MergeRecipe) -> tuple[Unit, ...]:
    """The units that get a branch each, in the corpus's order.

    Raises:
        SpecError: ``recipe.units`` names an unknown domain.
        CorpusError: A unit is smaller than one sequence.
        EpochCapError: A branch would go through its unit more than ``recipe.max_epochs`` times.
    """
    names = corpus.manifest.names
    if unknown := sorted(set(recipe.units) - set(names)):
        raise SpecError(f"units names unknown domains {unknown}: the corpus has {list(names)}")
    units: list[Unit] = []
    for name in names:
        tokens = corpus.train_tokens(name)
        first, count = int(recipe.seed_data_share * len(tokens)), recipe.units.get(name, 1)
        size = (len(tokens) - first) // count
        for index in range(count):
            start = first + index * size
            units.append(_unit(name, index, tokens[start : start + size]))
    length = recipe.branch_steps * recipe.batch_tokens
    for unit in units:
        check_supply(unit, (1 - recipe.anchor_share) * length, recipe)
    return tuple(units)


def check_supply(unit: Unit, drawn: float, recipe: MergeRecipe) -> None:
    """Refuse a unit that is too small for ``drawn`` tokens, in terms of its domain."""
    size = len(unit.tokens)
    if size <= recipe.sequence_length:
        raise CorpusError(
            f"a part of domain {unit.domain!r} has {size:,} tokens to draw from, less than one "
            f"sequence of {recipe.sequence_length} and the token after it. Lower sequence_length "
            "or the domain's units, or leave the domain out",
            domain=unit.domain,
        )
    if drawn / size > recipe.max_epochs:
        raise EpochCapError(
            f"{drawn:,.0f} tokens of training go {drawn / size:.2f} times through a part of "
            f"domain {unit.domain!r} ({size:,} tokens), more than max_epochs "
            f"({recipe.max_epochs:g}). Lower the length or the domain's units, or raise the cap",
            domain=unit.domain,
            epochs=drawn / size,
            cap=recipe.max_epochs,
        )


def unit_key_shares(units: Sequence[Unit], weights: Sequence[float]) -> dict[str, float]:
    """Shares by content: what two units with equal text get is added up. Zeros are left out."""
    shares: dict[str, float] = {}
    for unit, weight in zip(units, weights, strict=True):
        if weight > 0:
            shares[unit.digest] = shares.get(unit.digest, 0.0) + weight
    return dict(sorted(shares.items()))


def natural_shares(units: Sequence[Unit]) -> dict[str, float]:
    """Shares of units in proportion to their tokens, by digest."""
    total = sum(len(unit.tokens) for unit in units)
    return unit_key_shares(units, [len(unit.tokens) / total for unit in units])


def unit_sampler(
    units: Sequence[Unit], shares: Mapping[str, float], recipe: MergeRecipe, steps: int
) -> MixtureSampler:
    """Batches of units in the proportions of ``shares`` (by digest).

    A unit's n-th sequence is the same whatever the other shares are: branches and direct trainings
    of one study read each unit in one order (common random numbers).
    """
    tokens = {unit.digest: unit.tokens for unit in units}
    source = cast(PreparedCorpus, _UnitTokens(tokens))  # the sampler reads names and tokens only
    return MixtureSampler(
        source,
        Mixture(dict(shares)),
        sequence_length=recipe.sequence_length,
        seed=recipe.data_order_seed,
        total_tokens=steps * recipe.batch_tokens,
    )


def branch_shares(
    unit: Unit, recipe: MergeRecipe, natural: Mapping[str, float]
) -> dict[str, float]:
    """What a branch is trained on, by digest: its unit, and the anchor's part of everything."""
    if recipe.anchor_share == 0:
        return {unit.digest: 1.0}
    shares = {digest: recipe.anchor_share * share for digest, share in natural.items()}
    shares[unit.digest] = shares.get(unit.digest, 0.0) + 1 - recipe.anchor_share
    return dict(sorted(shares.items()))


class _UnitTokens:
    """Units by digest, as a corpus's domains."""

    def __init__(self, tokens: Mapping[str, npt.NDArray[Any]]) -> None:
        self._tokens = tokens
        self.manifest = CorpusManifest(
            digest="",
            domains=tuple(
                DomainCensus(
                    name=digest,
                    documents=0,
                    bytes=0,
                    tokens=len(ids),
                    heldout_documents=0,
                    heldout_bytes=0,
                    heldout_tokens=0,
                )
                for digest, ids in tokens.items()
            ),
            vocab_size=0,
            tokenizer_sha256="",
        )

    def train_tokens(self, name: str) -> npt.NDArray[Any]:
        return self._tokens[name]


def _unit(domain: str, index: int, tokens: npt.NDArray[Any]) -> Unit:
    digest = hashlib.sha256(str(tokens.dtype).encode())
    digest.update(np.ascontiguousarray(tokens).data)
    return Unit(domain, index, tokens, digest.hexdigest())
