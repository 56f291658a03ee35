"""How a pool of branches is trained: every option, and what follows from them.

A *seed* model is trained once and then continued on each *unit* of data by itself, a domain or an
equal part of one. The weighted average of these *branches* stands for a model trained on the
mixture (Na et al. 2024, arXiv 2410.15661). The defaults are settings for which that worked at small
scale; where they come from and what fails without them is said at each. No torch here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from cuvee.mixture import Mixture
from cuvee.proxy.config import Shape, default_learning_rate, shape_of
from cuvee.spec import ProxyModel, ProxyRung, Record

__all__ = ["ADAM_BETAS", "ADAM_EPS", "MergeRecipe"]

ADAM_BETAS = (0.9, 0.95)
"""0.95 and not 0.999: the second moment must settle within runs of a few hundred steps."""

ADAM_EPS = 1e-8


class MergeRecipe(Record):
    """All that decides the weights of a pool, the text aside.

    Lengths are in tokens and are cut to whole batches. Steps are optimiser steps.
    """

    parameters: int | None = Field(
        None, ge=10_000, le=10**12, description="Size dial: parameters outside the embeddings."
    )
    model: ProxyModel | None = Field(None, description="The full shape, instead of the dial.")
    sequence_length: int = Field(256, ge=8, le=32_768)
    batch_sequences: int = Field(16, ge=1, le=1_000_000)
    weight_decay: float = Field(0.1, ge=0, le=100)
    clip_norm: float = Field(1.0, gt=0, le=1e6)

    seed_tokens: int = Field(
        ge=1_000,
        le=10**15,
        description="Length of the seed phase. A short one, or none, leaves branches too far "
        "apart to average: at least a thousand steps.",
    )
    seed_mixture: Mixture | None = Field(
        None, description="What the seed is trained on; equal shares of all domains if unset."
    )
    seed_data_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Part of each domain's tokens, the first in packed order, kept for the seed; "
        "branches draw from the rest.",
    )
    seed_learning_rate: float | None = Field(
        None, gt=0, le=10, description="Peak; derived from size and length if unset."
    )
    seed_warmup_share: float = Field(0.04, ge=0, lt=1)
    seed_final_lr_share: float = Field(
        1.0, ge=0, le=1, description="Last rate over the peak; 1 stays at the peak after warm-up."
    )
    init_seed: int = Field(0, description="Seed of the initial weights.")

    target_tokens: int = Field(
        ge=1_000,
        le=10**15,
        description="Length of the trainings from the seed that a merge stands for.",
    )
    branch_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Length of a branch over target_tokens. Shorter branches stay closer to the "
        "seed, where averaging is accurate, and cost less: a quarter did as well as all.",
    )
    kept_shares: tuple[float, ...] = Field(
        (1.0,), description="Parts of a branch's length at which its weights are kept."
    )
    branch_lr_share: float = Field(
        0.5,
        gt=0,
        le=10,
        description="The branches' constant rate over the seed's peak. Four times the default "
        "ruined the ranking on held-out sets.",
    )
    branch_warmup_share: float = Field(0.0, ge=0, lt=1)
    optimizer_state: Literal["inherit", "fresh"] = Field(
        "inherit", description="Whether branches go on with the seed's Adam moments."
    )
    data_order_seed: int = Field(
        0,
        description="Order of sequences within each unit, one for a whole study: another order "
        "moves held-out losses as much as another mixture does.",
    )
    units: dict[str, int] = Field(
        default_factory=dict,
        description="Equal units that a domain is cut into, a branch each; one if not named.",
    )
    max_epochs: float = Field(
        4.0, gt=0, description="How often a branch may go through its unit, and the seed its text."
    )
    anchor_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Part of every branch's data that is drawn in natural proportions, so that no "
        "branch unlearns the rest (DeMix, arXiv 2602.00747). Mixtures that give a domain less than "
        "this part of its natural share are then out of reach.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> MergeRecipe:
        if (self.parameters is None) == (self.model is None):
            raise ValueError("give either `parameters` (the size dial) or `model` (a full shape)")
        for field in ("seed_steps", "branch_steps"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"{field} is 0: a batch has {self.batch_tokens} tokens, more than the phase; "
                    "raise seed_tokens, target_tokens or branch_share, or lower the batch"
                )
        kept = self.kept_shares
        if list(kept) != sorted(set(kept)) or not kept or kept[0] <= 0 or kept[-1] != 1:
            raise ValueError("kept_shares must rise, lie above 0 and end with 1")
        if bad := {name: count for name, count in self.units.items() if count < 1}:
            raise ValueError(f"units must be at least 1, got {bad}")
        return self

    @property
    def batch_tokens(self) -> int:
        return self.batch_sequences * self.sequence_length

    @property
    def seed_steps(self) -> int:
        return self.seed_tokens // self.batch_tokens

    @property
    def target_steps(self) -> int:
        return self.target_tokens // self.batch_tokens

    @property
    def branch_steps(self) -> int:
        return int(self.branch_share * self.target_tokens) // self.batch_tokens

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """Steps of a branch after which its weights are kept; the last is its end."""
        return tuple(sorted({max(1, round(s * self.branch_steps)) for s in self.kept_shares}))

    @property
    def shape(self) -> Shape:
        rung = ProxyRung(parameters=self.parameters, model=self.model, tokens=1_000_000)
        return shape_of(rung)

    @property
    def seed_rate(self) -> float:
        """Peak learning rate of the seed phase."""
        return self.seed_learning_rate or default_learning_rate(self.shape, self.seed_tokens)

    @property
    def branch_rate(self) -> float:
        """Constant learning rate after the seed phase."""
        return self.branch_lr_share * self.seed_rate

    def continuation(self, steps: int) -> dict[str, Any]:
        """What of the recipe decides the weights after ``steps`` steps from the seed, as JSON."""
        return {
            "optimizer": "adamw",
            "betas": list(ADAM_BETAS),
            "eps": ADAM_EPS,
            "weight_decay": self.weight_decay,
            "clip_norm": self.clip_norm,
            "lr_schedule": {"constant": self.branch_rate, "warmup_share": self.branch_warmup_share},
            "steps": steps,
            "batch_sequences": self.batch_sequences,
            "dtype": "float32",
            "optimizer_state": self.optimizer_state,
            "data_order_seed": self.data_order_seed,
        }

    def seed_phase(self) -> dict[str, Any]:
        """What of the recipe decides the seed's weights, as JSON."""
        return {
            **self.continuation(self.seed_steps),
            "optimizer_state": "fresh",
            "lr_schedule": {
                "peak": self.seed_rate,
                "warmup_share": self.seed_warmup_share,
                "final_share": self.seed_final_lr_share,
            },
        }
