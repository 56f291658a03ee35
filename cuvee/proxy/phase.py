"""One training of a pool, from wherever it stands to its end, however often interrupted.

As in ``cuvee.proxy.train``: a run is a function of its arguments, to the bit on a CPU with the same
number of threads; what a callback raises ends it; a checkpoint holds all state.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cuvee.errors import SpecError
from cuvee.proxy import checkpoint
from cuvee.proxy.checkpoint import Checkpoint
from cuvee.proxy.device import choose_device, deterministic
from cuvee.proxy.recipe import MergeRecipe
from cuvee.proxy.stepper import Stepper
from cuvee.proxy.trained import Seed, keep, running_folder, verify
from cuvee.proxy.units import Unit, unit_sampler

__all__ = ["Hooks", "Phase", "PhaseOutcome"]

_PROGRESS_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Hooks:
    """How a training is watched.

    Attributes:
        on_progress: Called about four times a second, steps permitting, with the label of what is
            being trained and the share of its steps done. What it raises ends the training.
        should_stop: Asked before every step; if so, a checkpoint is written.
        checkpoint_seconds: Least time between checkpoints.
    """

    on_progress: Callable[[str, float], None] = lambda label, share: None
    should_stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class PhaseOutcome:
    """The end of one training.

    Attributes:
        key: Names what was trained.
        steps: Steps done so far, over all calls.
        train_tokens: Tokens that this call trained on.
        seconds: Time that this call took.
        stopped: ``should_stop`` ended it early; another call goes on.
        reused: It was there already, and nothing was trained.
        resumed_step: Step of the checkpoint that this call started from.
        notes: Damaged files that were passed over.
    """

    key: str
    steps: int
    train_tokens: int = 0
    seconds: float = 0.0
    stopped: bool = False
    reused: bool = False
    resumed_step: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Phase:
    """One training to be run.

    Attributes:
        recipe: Shape, batches and optimiser.
        key: Names what comes out.
        label: Names it for people.
        steps: Its length.
        kept: Steps after which weights are kept, and whether with the optimiser's state.
        lineage: Written with the weights; its ``data`` are the shares of units, by digest.
        rate: Learning rate of each step, counted from 0.
        units: What is drawn from.
        start: Where to start; None is a fresh model.
    """

    recipe: MergeRecipe
    key: str
    label: str
    steps: int
    kept: Mapping[int, bool]
    lineage: dict[str, Any]
    rate: Callable[[int], float]
    units: Sequence[Unit]
    start: Seed | None

    def run(self, root: Path, device: str, hooks: Hooks) -> PhaseOutcome:
        """Train, or find that it is done, or go on from the last whole checkpoint."""
        where = choose_device(device)
        done, damage = verify(root, self.key, tuple(self.kept))
        if done:
            hooks.on_progress(self.label, 1.0)
            return PhaseOutcome(self.key, self.steps, reused=True)
        stepper = Stepper(
            self.recipe.shape,
            self.lineage["vocab_size"],
            self.recipe.sequence_length,
            init_seed=self.recipe.init_seed,
            device=where,
            weight_decay=self.recipe.weight_decay,
            clip_norm=self.recipe.clip_norm,
        )
        with deterministic(where):
            outcome = self._train(stepper, root, hooks)
        return replace(outcome, notes=(*damage, *outcome.notes))

    def _train(self, stepper: Stepper, root: Path, hooks: Hooks) -> PhaseOutcome:
        began = saved = told = time.monotonic()
        folder = running_folder(root, self.key)
        found, notes = checkpoint.load_latest(folder, self.key)
        if found is not None:
            stepper.load(found.tensors, optimiser=True)
        elif self.start is not None:
            inherit = self.recipe.optimizer_state == "inherit"
            stepper.load(self.start.tensors(), optimiser=inherit)
        first = step = 0 if found is None else found.scalars["step"]
        sampler = unit_sampler(self.units, self.lineage["data"], self.recipe, self.steps)
        size, stopped = self.recipe.batch_sequences, False
        hooks.on_progress(self.label, step / self.steps)
        while step < self.steps:
            stopped = hooks.should_stop()
            now = time.monotonic()
            if step > first and (stopped or now - saved >= hooks.checkpoint_seconds):
                saved = now
                self._check_finite(stepper, step)
                checkpoint.write(folder, self.key, Checkpoint(stepper.state(), {"step": step}))
            if stopped:
                break
            if now - told >= _PROGRESS_SECONDS:
                told = now
                self._check_finite(stepper, step)
                hooks.on_progress(self.label, step / self.steps)
            stepper.step(sampler.batch(step * size, size), self.rate(step))
            step += 1
            if step in self.kept:
                self._check_finite(stepper, step)
                tensors = stepper.state()
                if not self.kept[step]:
                    tensors = {n: t for n, t in tensors.items() if n.startswith("model/")}
                keep(root, self.key, step, tensors, self.lineage)
        if not stopped:
            shutil.rmtree(folder, ignore_errors=True)
            hooks.on_progress(self.label, 1.0)
        return PhaseOutcome(
            key=self.key,
            steps=step,
            train_tokens=(step - first) * self.recipe.batch_tokens,
            seconds=time.monotonic() - began,
            stopped=stopped,
            resumed_step=first,
            notes=notes,
        )

    def _check_finite(self, stepper: Stepper, step: int) -> None:
        if not stepper.finite:
            raise SpecError(
                f"training of {self.label!r} diverged: the loss was not finite by step {step} of "
                f"{self.steps}. Lower `seed_learning_rate` or `branch_lr_share`",
                field="seed_learning_rate",
                step=step,
            )
