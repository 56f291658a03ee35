"""Task names, queues, and the outbox that ``enqueue`` fills. Knows no Celery.

A message is a doorbell: it carries an id and no state, so losing one costs time and receiving one
five times costs nothing. It is written as an outbox row in the caller's transaction, so there is
no message about something that was rolled back and no commit whose message is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from service.db.models import OutboxRow

__all__ = [
    "ADVANCE",
    "CPU",
    "EXECUTE",
    "POOLS",
    "PREPARE",
    "TRAIN",
    "Message",
    "enqueue",
    "take_enqueued",
]

PREPARE: Final = "corpora.prepare"
ADVANCE: Final = "jobs.advance"
EXECUTE: Final = "runs.execute"

CPU: Final = "cpu"
TRAIN: Final = "train"

POOLS: Final = {"ngram": CPU, "proxy": TRAIN}
"""Which queue runs a rung of each kind: only what trains takes an accelerator's worker."""

_BUFFER: Final = "cuvee.outbox"


@dataclass(frozen=True, slots=True)
class Message:
    """A doorbell: which task to call, with which id, on which queue."""

    task: str
    entity_id: str
    queue: str


def enqueue(session: Session, task: str, entity_id: str, queue: str = CPU) -> None:
    """Ring for ``task`` once this transaction commits; the same bell twice rings once."""
    buffered: list[OutboxRow] = session.info.setdefault(_BUFFER, [])
    if any(r.task == task and r.entity_id == entity_id and r.queue == queue for r in buffered):
        return
    row = OutboxRow(task=task, entity_id=entity_id, queue=queue)
    session.add(row)
    buffered.append(row)


def take_enqueued(session: Session) -> list[tuple[int, Message]]:
    """Outbox ids and messages of this session since the last call; for the edge, after commit."""
    rows: list[OutboxRow] = session.info.pop(_BUFFER, [])
    return [(r.id, Message(r.task, r.entity_id, r.queue)) for r in rows]
