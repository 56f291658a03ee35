"""Looking for work that no message announced.

Every worker looks once in a while, so a service whose broker is down, wiped or absent still
advances, only slower. ``python -m workers.poll cpu train`` does nothing else: a worker without a
broker.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import threading
from collections.abc import Sequence

import structlog

from service.observability import configure_logging
from service.queue import ADVANCE, CPU, PREPARE, TRAIN, Message
from service.settings import Settings
from service.usecases import sweep
from workers import execution, health
from workers.advancing import advance_job
from workers.runtime import DRAIN_SIGNAL, Runtime, make_runtime, runtime, set_on_signals

__all__ = ["begin_child", "end_child", "look", "poll"]

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = (15.0, 30.0)
"""Between two looks of a worker that has a broker; spread, so that workers do not march."""

_IDLE_SECONDS = 1.0
"""Between two looks of a worker without one."""

_PUBLISHING_SECONDS = 5.0
"""A message older than this that is not published has no broker to go to."""

_SHUTDOWN_SECONDS = 15.0
_MESSAGES = 100

POOLS_VARIABLE = "CUVEE_WORKER_POOLS"
"""How a pool's child learns its worker's queues: they are an option of the parent's command."""


def look(rt: Runtime, pools: Sequence[str]) -> int:
    """Do what is due in these pools; returns how many things were done."""
    done = 0
    if CPU in pools:
        with rt.work() as session:
            # Unpublished messages: the outbox is the queue of those who have no broker. Those for
            # other pools are taken too: whoever serves them looks as well.
            # Younger ones are on their way to the broker, where there is one.
            age = 0.0 if rt.publish is None else _PUBLISHING_SECONDS
            messages = sweep.relay_outbox(session, _MESSAGES, older_than=age)
        done += sum(_do(rt, message) for message in messages)
    return done + sum(execution.execute_runs(rt, pool) for pool in pools)


def _do(rt: Runtime, message: Message) -> bool:
    if rt.draining.is_set():
        return False  # rung again later
    if message.task == PREPARE:
        return execution.prepare(rt, message.entity_id)
    if message.task == ADVANCE:
        return advance_job(rt, message.entity_id)
    return False


def poll(rt: Runtime, pools: Sequence[str], seconds: tuple[float, float]) -> None:
    """Look until draining, with pauses drawn from ``seconds`` while there is nothing to do."""
    draw = random.Random(os.getpid())
    pause = draw.uniform(*seconds)
    while True:
        health.beat()
        if rt.draining.wait(pause):
            return
        pause = draw.uniform(*seconds)
        # While a task runs in this process there is no hand free, and no need to look.
        if rt.busy.acquire(blocking=False):
            try:
                if look(rt, pools):
                    # What followed from it is not due at once: the broker may be well after all.
                    pause = min(pause, _PUBLISHING_SECONDS if rt.publish else 0.0)
            except Exception:
                _log.exception("look.failed")
            finally:
                rt.busy.release()


# ------------------------------------------------------------------------------------------------
# In the child of a Celery worker's pool

_thread: threading.Thread | None = None


def begin_child() -> None:
    """Prepare a pool's child: stop at a checkpoint when told, load torch early, look for work."""
    global _thread
    rt = runtime()
    pools = os.environ.get(POOLS_VARIABLE, CPU).split(",")
    set_on_signals(rt.draining, DRAIN_SIGNAL)
    if TRAIN in pools:
        rt.nursery(TRAIN).warm()
    if CPU in pools:
        importlib.import_module("cuvee.engine")
    _thread = threading.Thread(
        target=poll, args=(rt, pools, _LOOK_SECONDS), name="look", daemon=True
    )
    _thread.start()


def end_child() -> None:
    """Let the look in progress hand back what it holds, then end the nurseries."""
    rt = runtime()
    rt.draining.set()
    if _thread is not None:
        _thread.join(_SHUTDOWN_SECONDS)
    rt.close()


# ------------------------------------------------------------------------------------------------
# On its own


def main(pools: Sequence[str]) -> int:
    """A worker without a broker, until SIGTERM or Ctrl-C."""
    if not pools or not set(pools) <= {CPU, TRAIN}:
        sys.stderr.write("usage: python -m workers.poll cpu|train [...]\n")
        return 2
    settings = Settings()
    configure_logging(settings, "worker")
    # Without a publisher, messages stay in the outbox, where the next look finds them.
    rt = make_runtime(settings, publish=None)
    set_on_signals(rt.draining)
    if TRAIN in pools:
        rt.nursery(TRAIN).warm()
    try:
        poll(rt, pools, (_IDLE_SECONDS, _IDLE_SECONDS))
    finally:
        rt.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
