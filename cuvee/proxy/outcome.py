"""What a training run hands back."""

from __future__ import annotations

from dataclasses import dataclass

from cuvee.records import EvalLoss

__all__ = ["TrainOutcome"]


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """The end of a call to ``train``: a finished run, or one that was asked to stop.

    Attributes:
        losses: Final loss of every evaluation set; empty if stopped.
        train_tokens: Tokens trained on so far, over all attempts.
        seconds: Time spent training and evaluating, over all attempts whose work was kept.
        parameters: All parameters of the model, embeddings included.
        steps: Optimiser steps done so far.
        stopped: ``should_stop`` ended the run early; with a checkpoint folder it can go on later.
        resumed_step: The step that this call started from; 0 for a fresh start.
        notes: What the reader of the result should know, such as a damaged checkpoint left out.
    """

    losses: dict[str, EvalLoss]
    train_tokens: int
    seconds: float
    parameters: int
    steps: int
    stopped: bool
    resumed_step: int = 0
    notes: tuple[str, ...] = ()
