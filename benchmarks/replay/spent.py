"""What a task took, and where the time of a benchmark went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.replay.markdown import markdown

__all__ = ["Spent", "spent_table"]


@dataclass(frozen=True)
class Spent:
    """Seconds of one task.

    Attributes:
        protocol: As in its records; the problem of a synthetic search.
        method: As in its records.
        task: What was run, in words.
        seconds: By the clock.
        cpu_seconds: Of the processor.
    """

    protocol: str
    method: str
    task: str
    seconds: float
    cpu_seconds: float


def spent_table(spent: Sequence[Spent]) -> str:
    """Minutes and seconds per task by protocol and method, the most first."""
    groups: dict[tuple[str, str], list[Spent]] = {}
    for one in spent:
        groups.setdefault((one.protocol, one.method), []).append(one)
    whole = sum(one.seconds for one in spent)
    rows: list[tuple[float, list[object]]] = []
    for (protocol, method), ones in groups.items():
        seconds = np.array([one.seconds for one in ones])
        used = np.array([one.cpu_seconds for one in ones])
        row = [protocol, method, len(ones), f"{seconds.sum() / 60:.1f}"]
        row += [f"{seconds.sum() / max(whole, 1e-9):.0%}", f"{np.median(used):.2f}"]
        rows.append((-float(seconds.sum()), [*row, f"{used.max():.2f}"]))
    rows.sort(key=lambda row: row[0])
    head = ["protocol", "method", "tasks", "minutes", "of all", "CPU seconds a task", "most"]
    return f"## Where {whole / 60:.1f} minutes of work went\n\n" + markdown(
        head, [row for _, row in rows]
    )
