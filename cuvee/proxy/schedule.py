"""When things happen in a run: the learning rate of every step, the steps that are evaluated."""

from __future__ import annotations

import math

__all__ = ["evaluation_steps", "learning_rate"]


def learning_rate(
    step: int, steps: int, *, peak: float, warmup_share: float, final_share: float
) -> float:
    """Linear warm-up to ``peak``, then half a cosine down to ``final_share * peak``.

    Args:
        step: Counted from 0.
        steps: Steps of the run. The last one, ``steps - 1``, has the final rate exactly.
        peak: Reached at the last step of the warm-up.
        warmup_share: Part of the steps spent warming up.
        final_share: Last rate as a share of the peak.
    """
    warmup = round(warmup_share * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step + 1 - warmup) / (steps - warmup)
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * done)))


def evaluation_steps(steps: int, evaluations: int) -> tuple[int, ...]:
    """Numbers of finished steps after which to evaluate: evenly spaced, the last at the end.

    A run with fewer steps than evaluations is evaluated after every step.
    """
    count = min(steps, evaluations)
    return tuple(steps * k // count for k in range(1, count + 1))
