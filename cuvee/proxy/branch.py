"""Train a seed model and its branches, once each.

A training that was killed goes on from its last checkpoint; one that is finished is not repeated,
whichever job asks. What is asked for twice at the same time is trained twice, to the same bits on a
CPU: leases are the caller's.

``train_pool`` does everything in turn. A queue calls ``train_seed``, then ``plan_branches``, then
``train_branch`` for each unit on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from cuvee.corpus import PreparedCorpus
from cuvee.errors import CheckpointError
from cuvee.mixture import Mixture
from cuvee.proxy.merge_keys import continuation_key, seed_key, unit_model_key
from cuvee.proxy.merge_weights import domain_weights
from cuvee.proxy.phase import Hooks, Phase, PhaseOutcome
from cuvee.proxy.recipe import MergeRecipe
from cuvee.proxy.schedule import learning_rate
from cuvee.proxy.trained import Seed, is_kept, load_seed
from cuvee.proxy.units import (
    Unit,
    branch_shares,
    check_supply,
    cut_units,
    natural_shares,
    seed_units,
    unit_key_shares,
)

__all__ = [
    "PlannedBranch",
    "PoolOutcome",
    "continue_seed",
    "plan_branches",
    "train_branch",
    "train_pool",
    "train_seed",
]


@dataclass(frozen=True, slots=True)
class PlannedBranch:
    """A unit, the key of its branch, and whether that is there already."""

    unit: Unit
    key: str
    done: bool


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """The end of a call of ``train_pool``.

    Attributes:
        seed_key: Names the seed.
        branches: Keys of the finished branches by domain.
        phases: What was done, in order.
    """

    seed_key: str
    branches: Mapping[str, tuple[str, ...]]
    phases: tuple[PhaseOutcome, ...]

    @property
    def stopped(self) -> bool:
        return self.phases[-1].stopped

    @property
    def train_tokens(self) -> int:
        return sum(phase.train_tokens for phase in self.phases)


def train_pool(
    recipe: MergeRecipe,
    corpus: PreparedCorpus,
    root: Path,
    *,
    seed: Seed | None = None,
    device: str = "auto",
    hooks: Hooks = Hooks(),
) -> PoolOutcome:
    """Train whatever of a pool is not there yet.

    Args:
        recipe: The recipe.
        corpus: A prepared corpus.
        root: Where finished weights lie; shared by all pools.
        seed: Continue this one. Given the seed of an earlier corpus, only the branches of new and
            changed domains are trained; otherwise the corpus gets a seed of its own.
        device: ``auto`` (CUDA if there is one), or a PyTorch device.
        hooks: How it is watched.

    Raises:
        SpecError: A domain is unknown, or training diverged.
        CorpusError: A unit is smaller than one sequence.
        EpochCapError: A unit would be repeated more often than ``recipe.max_epochs``.
        CheckpointError: The seed has another tokenizer or shape, or is damaged.
        UnavailableError: The device is not there.
    """
    phases: list[PhaseOutcome] = []
    if seed is None:
        phases.append(train_seed(recipe, corpus, root, device=device, hooks=hooks))
        if phases[-1].stopped:
            return PoolOutcome(phases[-1].key, {}, tuple(phases))
        seed = load_seed(root, phases[-1].key)
    branches: dict[str, tuple[str, ...]] = {}
    for planned in plan_branches(recipe, corpus, seed, root):
        unit = planned.unit
        phases.append(train_branch(recipe, corpus, seed, unit, root, device=device, hooks=hooks))
        if phases[-1].stopped:
            break
        branches[unit.domain] = (*branches.get(unit.domain, ()), planned.key)
    return PoolOutcome(seed.key, branches, tuple(phases))


def train_seed(
    recipe: MergeRecipe,
    corpus: PreparedCorpus,
    root: Path,
    *,
    device: str = "auto",
    hooks: Hooks = Hooks(),
) -> PhaseOutcome:
    """Train the seed model of a corpus, unless it is there. Raises as ``train_pool``."""
    names, steps = corpus.manifest.names, recipe.seed_steps
    units = seed_units(corpus, recipe)
    wanted = (recipe.seed_mixture or Mixture.uniform(names)).shares(names)
    for unit, share in zip(units, wanted, strict=True):
        if share > 0:
            check_supply(unit, share * steps * recipe.batch_tokens, recipe)
    shares = unit_key_shares(units, wanted)
    key = seed_key(recipe, units, shares, corpus)
    lineage = {
        "shape": asdict(recipe.shape),
        "vocab_size": corpus.manifest.vocab_size,
        "context": recipe.sequence_length,
        "tokenizer_sha256": corpus.manifest.tokenizer_sha256,
        "recipe": recipe.seed_phase(),
        "data": shares,
        "seed": None,
        "unit": None,
        "anchor": None,
    }

    def rate(step: int) -> float:
        return learning_rate(
            step,
            steps,
            peak=recipe.seed_rate,
            warmup_share=recipe.seed_warmup_share,
            final_share=recipe.seed_final_lr_share,
        )

    phase = Phase(recipe, key, "seed", steps, {steps: True}, lineage, rate, units, None)
    return phase.run(root, device, hooks)


def train_branch(
    recipe: MergeRecipe,
    corpus: PreparedCorpus,
    seed: Seed,
    unit: Unit,
    root: Path,
    *,
    device: str = "auto",
    hooks: Hooks = Hooks(),
) -> PhaseOutcome:
    """Continue the seed on one unit, unless that is there. Raises as ``train_pool``."""
    anchor = recipe.anchor_share
    units = cut_units(corpus, recipe) if anchor > 0 else (unit,)
    natural = natural_shares(units)
    phase = _continuation(
        recipe,
        corpus,
        seed,
        units,
        branch_shares(unit, recipe, natural),
        recipe.branch_steps,
        unit.label,
        dict.fromkeys(recipe.kept_steps, False),
        "branch",
    )
    phase.lineage["unit"] = unit.digest
    phase.lineage["anchor"] = {"share": anchor, "natural": natural} if anchor > 0 else None
    return phase.run(root, device, hooks)


def continue_seed(
    recipe: MergeRecipe,
    corpus: PreparedCorpus,
    seed: Seed,
    mixture: Mixture,
    root: Path,
    *,
    steps: int | None = None,
    device: str = "auto",
    hooks: Hooks = Hooks(),
) -> PhaseOutcome:
    """Train the seed directly on a mixture: the truth that a merge stands for.

    The data are those of the branches, in their order, and so is the learning rate. What comes out
    can be a seed itself (``load_seed``), for the next phase of a schedule.

    Args:
        recipe: The recipe.
        corpus: A prepared corpus.
        seed: Where to start.
        mixture: Shares over the corpus's domains.
        root: Where finished weights lie.
        steps: ``recipe.target_steps`` unless given.
        device: As for ``train_pool``.
        hooks: How it is watched.

    Raises:
        SpecError: The mixture names an unknown domain, or training diverged.
        EpochCapError: The mixture repeats a unit more often than ``recipe.max_epochs``.
        CheckpointError: As ``train_pool``.
    """
    steps = steps or recipe.target_steps
    mixture.shares(corpus.manifest.names)  # names the domains that the corpus lacks
    units = cut_units(corpus, recipe)
    weights = domain_weights([unit.domain for unit in units], mixture).tolist()
    for unit, weight in zip(units, weights, strict=True):
        if weight > 0:
            check_supply(unit, weight * steps * recipe.batch_tokens, recipe)
    shares = unit_key_shares(units, weights)
    phase = _continuation(
        recipe, corpus, seed, units, shares, steps, "mixture", {steps: True}, "direct"
    )
    return phase.run(root, device, hooks)


def plan_branches(
    recipe: MergeRecipe, corpus: PreparedCorpus, seed: Seed, root: Path
) -> tuple[PlannedBranch, ...]:
    """The branches that a pool needs, one per unit, and which of them are there."""
    _check_seed(recipe, corpus, seed)
    units = cut_units(corpus, recipe)
    natural = natural_shares(units)
    planned = []
    for unit in units:
        key = unit_model_key(seed.identity, unit, recipe, corpus.eos_id, natural)
        planned.append(PlannedBranch(unit, key, is_kept(root, key, recipe.kept_steps)))
    return tuple(planned)


def _continuation(
    recipe: MergeRecipe,
    corpus: PreparedCorpus,
    seed: Seed,
    units: Sequence[Unit],
    shares: Mapping[str, float],
    steps: int,
    label: str,
    kept: Mapping[int, bool],
    kind: Literal["branch", "direct"],
) -> Phase:
    _check_seed(recipe, corpus, seed)
    key = continuation_key(seed.identity, shares, recipe, steps, corpus.eos_id, kind=kind)
    lineage = {
        **seed.lineage,
        "recipe": recipe.continuation(steps),
        "data": dict(shares),
        "seed": asdict(seed.identity),
        "unit": None,
        "anchor": None,
    }

    def rate(step: int) -> float:
        return learning_rate(
            step,
            steps,
            peak=recipe.branch_rate,
            warmup_share=recipe.branch_warmup_share,
            final_share=1.0,
        )

    return Phase(recipe, key, label, steps, kept, lineage, rate, units, seed)


def _check_seed(recipe: MergeRecipe, corpus: PreparedCorpus, seed: Seed) -> None:
    """A seed can be continued by models of its own kind only."""
    for field, ours, what in (
        ("tokenizer_sha256", corpus.manifest.tokenizer_sha256, "the corpus"),
        ("vocab_size", corpus.manifest.vocab_size, "the corpus"),
        ("context", recipe.sequence_length, "the recipe"),
        ("shape", asdict(recipe.shape), "the recipe"),
    ):
        if seed.lineage[field] != ours:
            raise CheckpointError(
                f"seed {seed.key[:12]} has {field} {seed.lineage[field]}, {what} has {ours}: "
                "train a seed for this one",
                field=field,
            )
