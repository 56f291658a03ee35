"""Life cycles as tables: which state may follow which, and what each means.

Job::

    accepted ──► running ──► succeeded
        │         │   ▲ └───► failed
        │         ▼   │
        │      pausing ──► paused ──► running
        └────► cancelling ──► cancelled      (from every state that is not terminal)

Run::

    queued ──► leased ──► running ──► succeeded
       ▲          │          ├──────► failed
       └──────────┴──────────┘ (lease lost)
    every state that is not terminal ──► cancelled

Corpus: ``registered ──► preparing ──► ready``, or ``failed``; a lost preparation goes back to
``registered``.

"Lost" is the end of an *attempt*, not a state of a run: the run returns to ``queued`` until its
attempts are used up. The same tables feed the database's check constraints and the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from cuvee.errors import TransitionError

__all__ = [
    "CORPUS_TRANSITIONS",
    "JOB_TRANSITIONS",
    "RUN_TRANSITIONS",
    "CorpusState",
    "JobState",
    "RunState",
    "require_transition",
]


S = TypeVar("S", bound=StrEnum)


class JobState(StrEnum):
    ACCEPTED = "accepted"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return not JOB_TRANSITIONS[self]


class RunState(StrEnum):
    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return not RUN_TRANSITIONS[self]


class CorpusState(StrEnum):
    REGISTERED = "registered"
    PREPARING = "preparing"
    READY = "ready"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        return not CORPUS_TRANSITIONS[self]


JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.ACCEPTED: frozenset(
        {JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING, JobState.FAILED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.PAUSING, JobState.CANCELLING, JobState.SUCCEEDED, JobState.FAILED}
    ),
    JobState.PAUSING: frozenset(
        {JobState.PAUSED, JobState.RUNNING, JobState.CANCELLING, JobState.FAILED}
    ),
    JobState.PAUSED: frozenset({JobState.RUNNING, JobState.CANCELLING}),
    JobState.CANCELLING: frozenset({JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.LEASED, RunState.CANCELLED}),
    RunState.LEASED: frozenset(
        {RunState.RUNNING, RunState.QUEUED, RunState.FAILED, RunState.CANCELLED}
    ),
    RunState.RUNNING: frozenset(
        {RunState.SUCCEEDED, RunState.QUEUED, RunState.FAILED, RunState.CANCELLED}
    ),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

CORPUS_TRANSITIONS: Mapping[CorpusState, frozenset[CorpusState]] = {
    CorpusState.REGISTERED: frozenset({CorpusState.PREPARING, CorpusState.FAILED}),
    CorpusState.PREPARING: frozenset(
        {CorpusState.READY, CorpusState.REGISTERED, CorpusState.FAILED}
    ),
    CorpusState.READY: frozenset(),
    CorpusState.FAILED: frozenset(),
}


def require_transition(table: Mapping[S, frozenset[S]], current: S, target: S, what: str) -> None:
    """Raise unless ``target`` may follow ``current``.

    Raises:
        TransitionError: With the allowed states in ``details["allowed"]``.
    """
    allowed = sorted(table[current])
    if target not in table[current]:
        reachable = ", ".join(allowed) if allowed else "nothing: it has ended"
        raise TransitionError(
            f"{what} is {current}, which cannot become {target} (possible: {reachable})",
            state=str(current),
            allowed=[str(s) for s in allowed],
        )
