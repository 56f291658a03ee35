"""The ``proxy`` rung: train a small Llama-style model on a mixture and measure it.

AdamW with betas 0.9 and 0.95, decay on matrices and not on norms, linear warm-up and cosine decay,
gradients clipped by norm. Sequences are cut from packed documents and attention crosses from one
into the next, as in nearly every pretraining run. On CUDA the forward pass runs in bf16 under
autocast with fp32 weights; on CPU everything is fp32. Held-out losses are computed in fp32 on both.

**The same result every time.** Batches, initial weights and schedule are functions of the
arguments. On CPU, runs with the same number of threads agree bit for bit, also when stopped and
resumed any number of times: a checkpoint holds all state. On CUDA PyTorch is asked for
deterministic kernels, and a few kernels have none.

**Being watched.** ``should_stop`` is asked after every step and between batches of an evaluation;
``on_progress`` is called about four times a second, steps permitting. What a callback raises ends
the run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cuvee.corpus import MixtureSampler, PreparedCorpus, matched_pools
from cuvee.errors import SpecError
from cuvee.mixture import Mixture
from cuvee.proxy import checkpoint
from cuvee.proxy.checkpoint import Checkpoint
from cuvee.proxy.config import default_learning_rate, shape_of
from cuvee.proxy.device import choose_device, deterministic
from cuvee.proxy.evaluate import prepare_sets, score
from cuvee.proxy.model import count_parameters, next_token_logits
from cuvee.proxy.outcome import TrainOutcome
from cuvee.proxy.schedule import evaluation_steps, learning_rate
from cuvee.proxy.stepper import Stepper
from cuvee.records import EvalLoss, LossPoint
from cuvee.spec import Constraints, ProxyRung

__all__ = ["TrainOutcome", "train"]

_PROGRESS_SECONDS = 0.25
_FLOOR_SEQUENCES = 200
"""Smallest pool when repetition is matched. Fewer sequences would be learnt by heart."""

_log = logging.getLogger(__name__)


def train(
    rung: ProxyRung,
    corpus: PreparedCorpus,
    mixture: Mixture,
    seed: int,
    *,
    constraints: Constraints = Constraints(),
    checkpoints: Path | None = None,
    resume: bool = True,
    device: str = "auto",
    on_point: Callable[[LossPoint], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint_seconds: float = 30.0,
) -> TrainOutcome:
    """Train on ``mixture`` and evaluate on every held-out set.

    Args:
        rung: Size, length and schedule of the run. Whole batches are trained, so the run has
            ``tokens // (batch_sequences * sequence_length)`` steps.
        corpus: A prepared corpus.
        mixture: Shares over its domains.
        seed: Decides initial weights and the order of data.
        constraints: With ``target_tokens``, the epoch caps hold for this run too, and with
            ``rung.match_repetition`` each domain is cut down so that it is repeated as often as
            the target run will repeat it. Without ``target_tokens`` repetition is not limited.
        checkpoints: Folder of this run's checkpoints; None keeps none.
        resume: Go on from the last whole checkpoint there.
        device: ``auto`` (CUDA if there is one), or a PyTorch device.
        on_point: Called ``rung.evaluations`` times, evenly spaced, the last time at the end. After
            a resumption points since the checkpoint come again, with the same values on a CPU.
        on_progress: Called with the share of steps done.
        should_stop: When it returns True the run writes a checkpoint and returns.
        checkpoint_seconds: Least time between checkpoints.

    Returns:
        The losses at the end, or none of them and ``stopped=True``.

    Raises:
        SpecError: The mixture names an unknown domain, or training diverged.
        EpochCapError: The mixture repeats a domain more often than its cap.
        CorpusError: A domain is smaller than one sequence, or a held-out set has no text.
        CheckpointError: The folder holds another run's checkpoints.
        UnavailableError: The device is not there.
    """
    run = _Run(rung, corpus, mixture, seed, constraints, choose_device(device))
    run.watch(on_point, on_progress, should_stop)
    run.keep(checkpoints, checkpoint_seconds, resume)
    with deterministic(run.device):
        return run.go()


class _Stopped(Exception):
    """``should_stop`` said so in the middle of an evaluation."""


class _Run:
    """One call of ``train``: the model, the optimiser, and how far they have come."""

    def __init__(
        self,
        rung: ProxyRung,
        corpus: PreparedCorpus,
        mixture: Mixture,
        seed: int,
        constraints: Constraints,
        device: torch.device,
    ) -> None:
        self.device = device
        self._rung = rung
        self._batch_tokens = rung.batch_sequences * rung.sequence_length
        self._steps = rung.tokens // self._batch_tokens
        self._points = evaluation_steps(self._steps, rung.evaluations)
        self._sampler = _sampler(
            rung, corpus, mixture, seed, constraints, self._steps * self._batch_tokens
        )
        shape = shape_of(rung)
        self._peak = rung.learning_rate or default_learning_rate(shape, rung.tokens)
        self._identity = _identity(rung, corpus, mixture, seed, constraints, self._peak)
        self._sets = prepare_sets(corpus, rung.sequence_length, rung.eval_tokens)
        self._stepper = Stepper(
            shape,
            corpus.manifest.vocab_size,
            rung.sequence_length,
            init_seed=seed,
            device=device,
            weight_decay=rung.weight_decay,
            clip_norm=rung.clip_norm,
        )

        self._step = 0
        self._points_done = 0
        # On the device, read seldom: reading makes the host wait for the GPU.
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._loss_steps = 0
        self._seconds_before = 0.0
        self._losses: dict[str, EvalLoss] = {}
        self._resumed_step = 0
        self._notes: tuple[str, ...] = ()

    def watch(
        self,
        on_point: Callable[[LossPoint], None] | None,
        on_progress: Callable[[float], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._on_point = on_point or (lambda point: None)
        self._on_progress = on_progress or (lambda share: None)
        self._should_stop = should_stop or (lambda: False)

    def keep(self, folder: Path | None, every_seconds: float, resume: bool) -> None:
        self._folder = folder
        self._checkpoint_seconds = every_seconds
        self._resume = resume

    def go(self) -> TrainOutcome:
        self._started = self._last_checkpoint = time.monotonic()
        if self._resume and self._folder is not None:
            self._restore(self._folder)
        self._report_progress()
        try:
            while True:
                if self._points_done < len(self._points):
                    self._evaluate_if_due()
                if self._step == self._steps:
                    break
                self._breathe()
                if time.monotonic() - self._last_checkpoint >= self._checkpoint_seconds:
                    self._save()
                self._take_step()
        except _Stopped:
            if self._step > self._resumed_step:
                self._save()
            return self._outcome(stopped=True)
        self._report_progress()
        return self._outcome(stopped=False)

    def _take_step(self) -> None:
        rung = self._rung
        rate = learning_rate(
            self._step,
            self._steps,
            peak=self._peak,
            warmup_share=rung.warmup_share,
            final_share=rung.final_lr_share,
        )
        batch = self._sampler.batch(self._step * rung.batch_sequences, rung.batch_sequences)
        self._loss_sum += self._stepper.step(batch, rate)
        self._loss_steps += 1
        self._step += 1

    def _evaluate_if_due(self) -> None:
        """Evaluate if the present step is the next point of the curve."""
        if self._step < self._points[self._points_done]:
            return
        self._check_finite()
        losses = {
            name: score(self._logits, scored, self.device, on_batch=self._breathe)
            for name, scored in self._sets.items()
        }
        point = LossPoint(
            step=self._step,
            tokens=self._step * self._batch_tokens,
            train_loss=float(self._loss_sum) / self._loss_steps,
            losses=losses,
        )
        self._losses = losses
        self._points_done += 1
        self._loss_sum.zero_()
        self._loss_steps = 0
        self._on_point(point)

    def _logits(self, ids: Tensor) -> Tensor:
        return next_token_logits(self._stepper.model, ids)

    def _breathe(self) -> None:
        """Between two pieces of work: say how far we are, see whether to stop."""
        if time.monotonic() - self._last_progress >= _PROGRESS_SECONDS:
            self._check_finite()
            self._report_progress()
        if self._should_stop():
            raise _Stopped

    def _report_progress(self) -> None:
        self._last_progress = time.monotonic()
        self._on_progress(self._step / self._steps)

    def _check_finite(self) -> None:
        if not self._stepper.finite:
            raise SpecError(
                f"training diverged: the loss was not finite by step {self._step} of "
                f"{self._steps}, at a peak learning rate of {self._peak:g}. Lower "
                "`learning_rate`, or raise `warmup_share`",
                field="learning_rate",
                step=self._step,
            )

    def _save(self) -> None:
        self._last_checkpoint = time.monotonic()
        if self._folder is None:
            return
        self._check_finite()
        scalars = {
            "step": self._step,
            "points": self._points_done,
            "loss_sum": float(self._loss_sum),
            "loss_steps": self._loss_steps,
            "seconds": self._seconds(),
        }
        checkpoint.write(self._folder, self._identity, Checkpoint(self._stepper.state(), scalars))

    def _restore(self, folder: Path) -> None:
        found, self._notes = checkpoint.load_latest(folder, self._identity)
        for note in self._notes:
            _log.warning(note)
        if found is None:
            return
        self._stepper.load(found.tensors, optimiser=True)
        scalars = found.scalars
        self._step = self._resumed_step = scalars["step"]
        self._points_done = scalars["points"]
        self._loss_sum.fill_(scalars["loss_sum"])
        self._loss_steps = scalars["loss_steps"]
        self._seconds_before = scalars["seconds"]

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _outcome(self, *, stopped: bool) -> TrainOutcome:
        return TrainOutcome(
            losses={} if stopped else self._losses,
            train_tokens=self._step * self._batch_tokens,
            seconds=self._seconds(),
            parameters=count_parameters(self._stepper.model),
            steps=self._step,
            stopped=stopped,
            resumed_step=self._resumed_step,
            notes=self._notes,
        )


def _sampler(
    rung: ProxyRung,
    corpus: PreparedCorpus,
    mixture: Mixture,
    seed: int,
    constraints: Constraints,
    run_tokens: int,
) -> MixtureSampler:
    target = constraints.target_tokens
    return MixtureSampler(
        corpus,
        mixture,
        sequence_length=rung.sequence_length,
        seed=seed,
        total_tokens=run_tokens,
        max_epochs=None
        if target is None
        else {
            name: constraints.max_epochs_by_domain.get(name, constraints.max_epochs)
            for name in corpus.manifest.names
        },
        pool_tokens=None
        if target is None or not rung.match_repetition
        else matched_pools(
            corpus.manifest,
            run_tokens,
            target,
            floor_tokens=_FLOOR_SEQUENCES * rung.sequence_length,
        ),
    )


def _identity(
    rung: ProxyRung,
    corpus: PreparedCorpus,
    mixture: Mixture,
    seed: int,
    constraints: Constraints,
    peak: float,
) -> str:
    """A hash of all that the result of a run depends on, devices and versions aside."""
    described = {
        "rung": rung.model_dump(mode="json", exclude={"runs"}),
        "corpus": corpus.manifest.digest,
        "mixture": sorted((name, share) for name, share in mixture.root.items() if share > 0),
        "seed": seed,
        "target_tokens": constraints.target_tokens,
        "peak": peak,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
