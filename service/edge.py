"""The edge of the program: the one place that commits.

Use cases never commit. A request or a task opens a unit of work, calls use cases, and leaves; on
success the transaction is committed and its doorbells are rung, on error it is rolled back and
they never existed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.orm import Session, sessionmaker

from service.db.repositories import outbox
from service.queue import Message, take_enqueued

__all__ = ["unit_of_work"]

_log = structlog.get_logger(__name__)


@contextmanager
def unit_of_work(
    sessions: sessionmaker[Session], publish: Callable[[Message], None] | None = None
) -> Iterator[Session]:
    """One transaction: commit on success, roll back on any error.

    Args:
        sessions: Where the session comes from.
        publish: Sends a message to the broker. Called after the commit, for what this transaction
            enqueued. A failure is logged and forgotten: the rows stay in the outbox, and the
            reconciler relays them.
    """
    with sessions() as session:
        try:
            yield session
            session.commit()
        except BaseException:
            session.rollback()
            raise
        enqueued = take_enqueued(session)
    if publish is not None and enqueued:
        _publish(sessions, publish, enqueued)


def _publish(
    sessions: sessionmaker[Session],
    publish: Callable[[Message], None],
    enqueued: list[tuple[int, Message]],
) -> None:
    sent = []
    try:
        for row_id, message in enqueued:
            publish(message)
            sent.append(row_id)
    except Exception as error:
        # Broad on purpose: whatever the broker's client raises, the work itself is committed.
        _log.warning("outbox.publish_failed", error=repr(error), left=len(enqueued) - len(sent))
    if not sent:
        return
    try:
        with sessions() as session:
            outbox.mark_published(session, sent)
            session.commit()
    except Exception as error:
        # The messages are out; at worst the reconciler sends them a second time.
        _log.warning("outbox.mark_failed", error=repr(error), sent=len(sent))
