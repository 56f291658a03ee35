"""Names of what is trained and measured in a pool: hashes of all that decides it.

Content only, never names or paths: a renamed domain keeps its branch, a changed one gets a new
branch, and a change of tokenizer, seed or recipe gives a new pool.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cuvee.corpus import PreparedCorpus
from cuvee.proxy.config import Shape
from cuvee.proxy.recipe import MergeRecipe
from cuvee.proxy.units import Unit, branch_shares

__all__ = [
    "SeedIdentity",
    "arch_hash",
    "canonical_hash",
    "continuation_key",
    "merge_eval_key",
    "seed_key",
    "unit_model_key",
]

_TRAIN_CODE_VERSION = 1
_EVAL_PROTOCOL_VERSION = 1
"""Raised when the same key would no longer give the same weights, or losses."""


@dataclass(frozen=True, slots=True)
class SeedIdentity:
    """What a branch must share with another to be averaged with it."""

    checkpoint_sha256: str
    arch_hash: str
    tokenizer_sha256: str


def canonical_hash(content: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def arch_hash(shape: Shape, vocab_size: int, context: int) -> str:
    """The structure of a model: two that differ here cannot be averaged."""
    return canonical_hash({"llama": asdict(shape), "vocab_size": vocab_size, "context": context})


def seed_key(
    recipe: MergeRecipe, units: Sequence[Unit], shares: Mapping[str, float], corpus: PreparedCorpus
) -> str:
    """The name of a seed model, known before it is trained.

    Args:
        recipe: The recipe.
        units: What the seed draws from.
        shares: By digest.
        corpus: For the tokenizer.
    """
    return canonical_hash(
        {
            "kind": "seed",
            "data": {digest: round(share, 9) for digest, share in shares.items()},
            "architecture": arch_hash(
                recipe.shape, corpus.manifest.vocab_size, recipe.sequence_length
            ),
            "tokenizer": corpus.manifest.tokenizer_sha256,
            "eos": corpus.eos_id,
            "init_seed": recipe.init_seed,
            "recipe": recipe.seed_phase(),
            "train_code_version": _TRAIN_CODE_VERSION,
        }
    )


def continuation_key(
    seed: SeedIdentity,
    shares: Mapping[str, float],
    recipe: MergeRecipe,
    steps: int,
    eos_id: int,
    *,
    kind: Literal["branch", "direct"],
) -> str:
    """The name of the seed continued for ``steps`` steps on shares of units, by digest.

    A branch and a direct training may have the same weights; they differ in what is kept.
    """
    return canonical_hash(
        {
            "kind": kind,
            "seed": asdict(seed),
            "data": {digest: round(share, 9) for digest, share in shares.items()},
            "packing": {"seq_len": recipe.sequence_length, "eos": eos_id},
            "recipe": recipe.continuation(steps),
            "train_code_version": _TRAIN_CODE_VERSION,
        }
    )


def unit_model_key(
    seed: SeedIdentity,
    unit: Unit,
    recipe: MergeRecipe,
    eos_id: int,
    natural: Mapping[str, float] = {},
) -> str:
    """The name of a unit's branch.

    Args:
        seed: The seed that it continues.
        unit: The unit.
        recipe: The recipe.
        eos_id: The end-of-document token.
        natural: Shares by digest; they count where the recipe has an ``anchor_share``.
    """
    shares = branch_shares(unit, recipe, natural)
    return continuation_key(seed, shares, recipe, recipe.branch_steps, eos_id, kind="branch")


def merge_eval_key(
    items: Sequence[tuple[str, int, int]],
    eval_set_sha256: str,
    *,
    scale: float = 1.0,
    compute_dtype: str = "float32",
    kind: Literal["merge", "logprob"] = "merge",
) -> str:
    """The name of one measurement: one merge on one evaluation set.

    Args:
        items: ``(unit_model_key, step, millionths)`` of each branch, in any order.
        eval_set_sha256: Content of what is scored.
        scale: The lambda of ``theta_0 + lambda * sum_i w_i (theta_i - theta_0)``.
        compute_dtype: Precision of the forward pass.
        kind: Whether weights are averaged, or the branches' probabilities.
    """
    return canonical_hash(
        {
            "kind": kind,
            "items": sorted([key, step, w] for key, step, w in items if w > 0),
            "lambda": scale,
            "eval_set": eval_set_sha256,
            "eval_protocol_version": _EVAL_PROTOCOL_VERSION,
            "compute_dtype": compute_dtype,
        }
    )
