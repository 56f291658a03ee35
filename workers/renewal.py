"""Keep a claim while this process computes in place, where no supervisor renews it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import structlog
from sqlalchemy.exc import SQLAlchemyError

from cuvee.errors import CuveeError

__all__ = ["renewing"]

_log = structlog.get_logger(__name__)


@contextlib.contextmanager
def renewing(seconds: float, renew: Callable[[], object]) -> Iterator[None]:
    """Call ``renew`` every so many seconds, in a thread, until the block ends.

    A renewal that fails is logged and tried again: whether the claim was lost shows when the result
    is written, because that write is fenced.
    """
    done = threading.Event()

    def keep() -> None:
        while not done.wait(seconds):
            try:
                renew()
            except (SQLAlchemyError, CuveeError) as error:
                _log.warning("renewal.failed", error=repr(error))

    renewer = threading.Thread(target=keep, name="renewal", daemon=True)
    renewer.start()
    try:
        yield
    finally:
        done.set()
        renewer.join()
